import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { cambium, type Outcome } from "./testing/test-terminal.js";

let cluster: FakeCluster;
beforeEach(async () => {
  cluster = await new FakeCluster().start(2);
});
afterEach(() => cluster.close());

const run = (...args: string[]): Promise<Outcome> =>
  cambium(["--endpoints", cluster.nodes.map(({ address }) => address).join(","), "limits", ...args]);

test("shows that there are none", async () => {
  expect(await run()).toMatchObject({ exitCode: 0, stdout: "no limits\n" });
});

test("changes what is given, at the master, and leaves the rest", async () => {
  cluster.makeMaster(cluster.nodes[1]!);
  expect(await run("--max-bytes", "1MiB", "--eviction-policy", "lru")).toMatchObject({
    exitCode: 0,
    stdout: "at most 1 MiB, eviction policy lru\n",
  });
  expect((await run("--max-entries", "1000")).stdout).toBe("at most 1,000 keys and 1 MiB, eviction policy lru\n");
  expect((await run("--max-bytes", "0")).stdout).toBe("at most 1,000 keys, eviction policy lru\n");
  expect(JSON.parse((await run("--json")).stdout)).toEqual({ maxEntries: 1000, maxBytes: 0, evictionPolicy: "lru" });
});

test.each([
  ["--max-bytes", "much"],
  ["--max-entries", "-1"],
  ["--eviction-policy", "oldest"],
])("refuses %s %s as wrong usage, with what may be written", async (option, value) => {
  const { exitCode, stderr } = await run(`${option}=${value}`);
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining(option)]);
  expect(cluster.nodes.flatMap(({ requests }) => requests)).toEqual([]);
});
