/** Shows twelve counters, each with a watch of its own, which share one stream. */
import { createClient } from "cambium/client";

const nodes = new URLSearchParams(location.search).get("nodes") ?? "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082";
const kv = createClient({ endpoints: nodes.split(",") });
const table = document.getElementById("counters");
const problem = document.getElementById("problem");

/** Reads the key, and then follows it from just there. Where the log no longer goes back so far, it reads again. */
async function follow(key, cell) {
  for (;;) {
    try {
      // Also of an absent key a page has a token.
      const page = await kv.scanPage({ start: key, end: `${key}\0` });
      cell.textContent = page.entries[0] ? new TextDecoder().decode(page.entries[0].value) : "–";
      for await (const event of kv.watch({ key, after: page.token })) {
        cell.textContent = event.type === "put" ? new TextDecoder().decode(event.value) : "–";
        problem.textContent = "";
      }
    } catch (error) {
      problem.textContent = error.message;
      if (error.code === "out_of_range" || error.code === "lineage_lost") continue;
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
}

for (let number = 1; number <= 12; number++) {
  const key = `counter:${number}`;
  const row = table.insertRow();
  row.insertCell().textContent = key;
  void follow(key, row.insertCell());
  row.addEventListener("click", async () => {
    try {
      await kv.increment(key);
    } catch (error) {
      problem.textContent = error.message;
    }
  });
}
