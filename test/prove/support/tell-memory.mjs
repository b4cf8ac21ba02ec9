/** Loaded into a node before its program: at SIGUSR2 it collects its garbage, and tells in its log what is left. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

process.on("SIGUSR2", async () => {
  // What is dead by now may hold on to more, which is found dead only the next time.
  for (let n = 0; n < 4; n++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  process.stdout.write(`${JSON.stringify({ msg: "memory", ...process.memoryUsage() })}\n`);
});
