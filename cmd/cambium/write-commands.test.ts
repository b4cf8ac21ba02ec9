import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { cambium, type Outcome, type TestTerminalOptions } from "./testing/test-terminal.js";

let cluster: FakeCluster;
beforeEach(async () => {
  cluster = await new FakeCluster().start(1);
});
afterEach(() => cluster.close());

const run = (args: readonly string[], options: TestTerminalOptions = {}): Promise<Outcome> =>
  cambium(["--endpoints", cluster.nodes[0]!.address, ...args], options);
const stored = (key: string): string | undefined => {
  const entry = cluster.stateAt(cluster.seq).get(key);
  return entry && Buffer.from(entry.value).toString();
};
const json = async (args: readonly string[]): Promise<unknown> => JSON.parse((await run([...args, "--json"])).stdout);

describe("set", () => {
  test("writes on a condition only, and says what the key is where it does not hold", async () => {
    expect(await run(["set", "lock", "me", "--if-absent"])).toMatchObject({ exitCode: 0 });
    expect(await run(["set", "lock", "you", "--if-absent"])).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: "cambium: nothing was changed: lock was last changed at seq 2\n",
    });
    expect(await run(["set", "lock", "you", "--if-seq", "2"])).toMatchObject({ exitCode: 0 });
    expect(await run(["set", "absent", "v", "--if-seq", "9"])).toMatchObject({
      exitCode: 1,
      stderr: "cambium: nothing was changed: there is no key absent\n",
    });
    expect(stored("lock")).toBe("you");
  });

  test("shows what was there before, where that is asked for", async () => {
    expect((await run(["set", "k", "1", "--previous"])).stdout).toBe("written at seq 2, epoch 1\nbefore: absent\n");
    expect((await run(["set", "k", "2", "--previous"])).stdout).toBe(
      "written at seq 3, epoch 1\nbefore, at seq 2: 1\n",
    );
    expect(await json(["set", "k", "3", "--previous"])).toMatchObject({
      previous: { value: "2", createSeq: 2, modSeq: 3 },
    });
    expect(await json(["set", "new", "3", "--previous"])).toMatchObject({ previous: null });
    expect(await json(["set", "k", "3"])).not.toHaveProperty("previous");
  });

  test("keeps the deadline that there is", async () => {
    await run(["set", "k", "1", "--ttl", "1m"]);
    await run(["set", "k", "2", "--keep-ttl"]);
    expect(await json(["get", "k"])).toMatchObject({ value: "2", ttlMs: 60_000 });
  });
});

describe("del", () => {
  test("removes all keys of a prefix at once", async () => {
    for (const key of ["session:1", "session:2", "other"]) await run(["set", key, "v"]);
    expect((await run(["del", "--prefix", "session:"])).stdout).toBe("removed 2 keys at seq 5, epoch 1\n");
    expect((await run(["del", "--prefix", "session:"])).stdout).toBe("nothing to remove: no key begins so\n");
    expect(await json(["del", "--prefix", "o"])).toMatchObject({ removed: 1, position: { seq: 6 } });
  });

  test("removes a key as it was read only, and shows what it was", async () => {
    await run(["set", "k", "v"]);
    expect(await run(["del", "k", "--if-seq", "9"])).toMatchObject({ exitCode: 1 });
    expect((await run(["del", "k", "--if-seq", "2", "--previous"])).stdout).toBe(
      "removed 1 key at seq 3, epoch 1\nbefore, at seq 2: v\n",
    );
  });
});

test("touch gives a key another deadline, or none", async () => {
  await run(["set", "k", "v", "--ttl", "1m"]);
  expect((await run(["touch", "k", "5m"])).stdout).toBe("written at seq 3, epoch 1\n");
  expect(await json(["get", "k"])).toMatchObject({ ttlMs: 300_000 });
  expect(await json(["touch", "k", "none"])).toMatchObject({ existed: true });
  expect(await json(["get", "k"])).not.toHaveProperty("ttlMs");
  expect(await run(["touch", "absent", "5m"])).toMatchObject({
    exitCode: 1,
    stderr: "cambium: no such key: absent\n",
  });
});

test("incr adds, within bounds, exactly", async () => {
  expect((await run(["incr", "visits"])).stdout).toBe("1\n");
  expect((await run(["incr", "visits", "--by", "-3"])).stdout).toBe("-2\n");
  expect(await json(["incr", "large", "--initial", "9007199254740993"])).toMatchObject({ value: "9007199254740994" });
  expect(await run(["incr", "visits", "--min", "-2", "--by", "-1"])).toMatchObject({ exitCode: 1, stdout: "" });
  expect(stored("visits")).toBe("-2");
});

describe("txn", () => {
  const order = {
    when: [
      { key: "order:7", exists: false },
      { key: "stock", is: ">", value: "0" },
    ],
    do: [
      { set: "order:7", value: "lamp", ttlMs: 60_000 },
      { incr: "stock", by: "-1" },
      { get: "stock" },
      { del: "cart:1" },
    ],
    otherwise: [{ get: "order:7" }, { get: "absent" }],
  };

  test("does one thing or the other, and prints the results", async () => {
    await run(["set", "stock", "3"]);
    expect(await run(["txn"], { stdin: JSON.stringify(order) })).toMatchObject({
      exitCode: 0,
      stdout:
        "the comparisons hold; seq 3, epoch 1\nset order:7\twas absent\nincrement stock\t2\nget stock\t2\ndelete cart:1\twas absent\n",
    });
    expect(await run(["txn", JSON.stringify(order)])).toMatchObject({
      exitCode: 1,
      stdout: "comparison 1 did not hold; seq 3, epoch 1\nget order:7\tlamp\nget absent\tabsent\n",
      stderr: "",
    });
    expect(await json(["txn", JSON.stringify(order)])).toMatchObject({
      succeeded: false,
      failedCompares: [0],
      results: [{ exists: true, value: "lamp", modSeq: 3, ttlMs: 60_000 }, { exists: false }],
      position: { epoch: 1, seq: 3 },
    });
  });

  test("takes every comparison and operation", async () => {
    await run(["set", "k", "-"], { stdin: Buffer.from([255]) });
    const all = {
      when: [
        { key: "k", valueBase64: "/w==" },
        { key: "k", is: "<", modSeq: 3 },
        { key: "k", is: "!=", createSeq: 9 },
      ],
      do: [
        { set: "a", valueBase64: "/w==", ifAbsent: true },
        { set: "a", value: "b", keepTtl: true },
        { touch: "k", ttlMs: 0, ifSeq: 2 },
        { incr: "n", by: 2, initial: 1, min: 0, max: 5, ttlMs: 1000 },
      ],
    };
    expect(await json(["txn", JSON.stringify(all)])).toMatchObject({
      succeeded: true,
      results: [{ existed: false }, { existed: true }, { existed: true }, { value: "3" }],
    });
  });

  test.each([
    ["{", /^cambium: the transaction is no JSON: /],
    ["[]", "cambium: the transaction is to be an object (cambium txn --help shows an example)"],
    [
      '{"if":[]}',
      "cambium: the transaction has a field if, which means nothing there (cambium txn --help shows an example)",
    ],
    ['{"do":{}}', /has a field do that is to be a list/],
    ['{"do":[{"set":"k"}]}', /do\[0\] lacks value/],
    ['{"do":[{"set":"k","del":"k","value":""}]}', /do\[0\] has one of set, del, touch, incr and get/],
    ['{"do":[{"set":"k","value":"v","ttl":5}]}', /do\[0\] has a field ttl, which means nothing there/],
    ['{"do":[{"incr":"k","by":1.5}]}', /do\[0\] has a field by that is to be a whole number/],
    ['{"when":[{"key":"k"}]}', /when\[0\] has one of exists/],
    ['{"when":[{"key":"k","exists":true,"modSeq":1}]}', /when\[0\] has one of exists/],
    ['{"otherwise":[{"set":"k","valueBase64":"*"}]}', /otherwise\[0\] has a field valueBase64 that is to be base64/],
  ])("%s is wrong usage, which says where", async (text, message) => {
    const { exitCode, stderr } = await run(["txn", text]);
    expect(exitCode).toBe(2);
    if (typeof message === "string") expect(stderr).toBe(`${message}\n`);
    else expect(stderr).toMatch(message);
    expect(cluster.nodes[0]!.requests).toHaveLength(0);
  });
});

test("scan goes backwards, through a range, and counts", async () => {
  for (const key of ["a", "b", "c"]) await run(["set", key, "v"]);
  expect((await run(["scan", "--reverse", "-k"])).stdout).toBe("c\nb\na\n");
  expect((await run(["scan", "--start", "b", "--end", "c"])).stdout).toBe("b\tv\n");
  expect((await run(["scan", "--count"])).stdout).toBe("3\n");
  expect(await json(["scan", "a", "--count"])).toEqual({ count: 1 });
});

describe("watch", () => {
  /** Runs until so many lines have come, then interrupts. */
  async function watched(args: readonly string[], lines: number, act: () => Promise<unknown>): Promise<Outcome> {
    const interrupt = new AbortController();
    let seen = 0;
    const { watches } = cluster.nodes[0]!;
    const before = watches.requests.length;
    const running = run(["watch", ...args], {
      signal: interrupt.signal,
      onStdout: (text) => {
        seen += text.split("\n").length - 1;
        if (seen >= lines) interrupt.abort();
      },
    });
    await expect.poll(() => watches.requests.length).toBeGreaterThan(before);
    await act();
    return running;
  }

  test("prints what happens to a prefix from now on, over a broken connection, until it is interrupted", async () => {
    await run(["set", "s:0", "before"]);
    const outcome = await watched(["--prefix", "s:"], 4, async () => {
      await run(["set", "s:1", "two\nlines"]);
      cluster.nodes[0]!.cutConnections();
      await run(["set", "other", "v"]);
      await run(["del", "s:1"]);
      await run(["set", "s:2", "-"], { stdin: Buffer.from([255]) });
      await run(["del", "--prefix", "s:"]);
    });
    expect(outcome).toMatchObject({
      exitCode: 130,
      stdout: '3\tput\ts:1\t"two\\nlines"\n5\tdelete\ts:1\n6\tput\ts:2\t(1 B)\n7\tdelete-range\ts:\ts;\n',
      stderr: "cambium: interrupted\n",
    });
    await expect.poll(() => cluster.nodes[0]!.watches.count).toBe(0);
  });

  test("begins where it is told, and shows what was there before", async () => {
    for (const value of ["1", "2"]) await run(["set", "k", value]);
    const none = (): Promise<void> => Promise.resolve();
    expect((await watched(["k", "--after", "0", "--previous"], 2, none)).stdout).toBe(
      "2\tput\tk\t1\t(before: absent)\n3\tput\tk\t2\t(before: 1)\n",
    );
    const token = Buffer.from("seq 2").toString("base64");
    const { stdout } = await watched(["--after", token, "--previous", "--json"], 1, none);
    expect(JSON.parse(stdout)).toMatchObject({
      type: "put",
      key: "k",
      value: "2",
      previous: "1",
      position: { epoch: 1, seq: 3 },
    });
    expect((await watched(["--after", "2", "-k"], 1, none)).stdout).toBe("3\tput\tk\n");
  });

  test("says where to go on when the log has been compacted", async () => {
    await run(["set", "k", "v"]);
    cluster.compactSeq = 2n;
    expect(await run(["watch", "--after", "0"])).toMatchObject({
      exitCode: 1,
      stderr:
        "cambium: the log no longer has the changes up to seq 2; go on with --after 2 (scan lists what there is)\n",
    });
  });
});

test.each([
  [["set", "k", "v", "--ttl", "1s", "--keep-ttl"], "cambium: give --ttl or --keep-ttl, not both"],
  [["set", "k", "v", "--if-absent", "--if-seq", "1"], "cambium: give --if-absent or --if-seq, not both"],
  [["del"], "cambium: give keys, or --prefix, not both"],
  [["del", "k", "--prefix", "p"], "cambium: give keys, or --prefix, not both"],
  [["del", "--prefix", ""], "cambium: --prefix is empty: that would be all keys"],
  [["del", "a", "b", "--if-seq", "1"], "cambium: --if-seq and --previous are for one key"],
  [["watch", "k", "--prefix", "p"], "cambium: give a key, or --prefix, or --start and --end"],
  [["scan", "p", "--start", "a"], "cambium: give a prefix, or --start and --end, not both"],
  [["incr", "k", "--by", "1.5"], /Write a whole number of 64 bits/],
  [["touch", "k", "5"], /Write a number and a unit/],
])("%j is wrong usage", async (args, message) => {
  const { exitCode, stdout, stderr } = await run(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  if (typeof message === "string") expect(stderr).toBe(`${message}\n`);
  else expect(stderr).toMatch(message);
});
