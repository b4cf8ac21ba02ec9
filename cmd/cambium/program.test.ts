import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { SetRequestSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { cambium, type Outcome, type TestTerminalOptions } from "./testing/test-terminal.js";

let cluster: FakeCluster;
let root: string;
beforeEach(async () => {
  cluster = await new FakeCluster().start(2);
  root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
});
afterEach(async () => {
  await cluster.close();
  await fs.rm(root, { recursive: true });
});

const endpoint = (node: number): string => cluster.nodes[node]!.address;
const run = (args: readonly string[], options: TestTerminalOptions = {}): Promise<Outcome> =>
  cambium(["--endpoints", endpoint(0), ...args], options);
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const stored = (key: string): string | undefined => {
  const entry = cluster.stateAt(cluster.seq).get(key);
  return entry && Buffer.from(entry.value).toString();
};

describe("get, set and del", () => {
  test("do what they say, and print so", async () => {
    expect(await run(["set", "greeting", "hello"])).toMatchObject({
      exitCode: 0,
      stdout: "written at seq 2, epoch 1\n",
    });
    expect(await run(["get", "greeting"])).toMatchObject({ exitCode: 0, stdout: "hello", stderr: "" });
    expect(await run(["del", "greeting", "other"])).toMatchObject({ stdout: "removed 1 key at seq 3, epoch 1\n" });
    expect(await run(["del", "greeting"])).toMatchObject({
      exitCode: 0,
      stdout: "nothing to remove: the key is absent\n",
    });
  });

  test("an absent key is exit code 1", async () => {
    expect(await run(["get", "absent"])).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: "cambium: no such key: absent\n",
    });
    expect(await run(["get", "absent", "--json"])).toMatchObject({
      exitCode: 1,
      stdout: '{"key":"absent","exists":false}\n',
      stderr: "",
    });
  });

  test("a value goes through byte for byte, from stdin, from a file and into a file", async () => {
    const bytes = Buffer.from([0, 255, 254, 10, 13]);
    const [source, target] = [path.join(root, "in"), path.join(root, "out")];
    await fs.writeFile(source, bytes);
    expect(await run(["set", "a", "-"], { stdin: bytes })).toMatchObject({ exitCode: 0 });
    expect(await run(["set", "b", "--file", source])).toMatchObject({ exitCode: 0 });
    expect((await run(["get", "a"])).stdoutBytes).toEqual(bytes);
    expect(await run(["get", "b", "--out", target])).toMatchObject({ exitCode: 0, stdout: "" });
    expect(await fs.readFile(target)).toEqual(bytes);
    expect(await fs.readdir(root)).toHaveLength(2);
  });

  test("JSON has text as text and bytes as base64", async () => {
    await run(["set", "text", "grüße", "--ttl", "30s"]);
    await run(["set", "bytes", "-"], { stdin: Buffer.from([255]) });
    expect(JSON.parse((await run(["get", "text", "--json"])).stdout)).toEqual({
      key: "text",
      exists: true,
      value: "grüße",
      createSeq: 2,
      modSeq: 2,
      ttlMs: 30_000,
      position: { epoch: 1, seq: 3 },
      token: base64("seq 3"),
    });
    expect(JSON.parse((await run(["get", "bytes", "--json"])).stdout)).toMatchObject({ valueBase64: "/w==" });
    expect(JSON.parse((await run(["set", "text", "x", "--json"])).stdout)).toEqual({
      position: { epoch: 1, seq: 4 },
      token: base64("seq 4"),
    });
    expect(JSON.parse((await run(["del", "text", "bytes", "no", "--json"])).stdout)).toEqual({
      removed: 2,
      absent: 1,
      position: { epoch: 1, seq: 5 },
      token: base64("seq 5"),
    });
  });

  test("a terminal gets a new line after the value, a pipe does not", async () => {
    await run(["set", "k", "v"]);
    expect((await run(["get", "k"], { isTerminal: true })).stdout).toBe("v\n");
    expect((await run(["get", "k"])).stdout).toBe("v");
  });

  test("odd keys and values are like any other", async () => {
    await run(["set", "--", "-k", "-1"]);
    await run(["set", "__proto__", ""]);
    expect([stored("-k"), stored("__proto__")]).toEqual(["-1", ""]);
  });

  test("a write goes to the master whichever node is named", async () => {
    expect(await cambium(["set", "k", "v", "-e", endpoint(1)])).toMatchObject({ exitCode: 0 });
    expect(stored("k")).toBe("v");
  });

  test("the endpoints may come from the environment", async () => {
    const environment = { CAMBIUM_ENDPOINTS: ` ${endpoint(1)} , ${endpoint(0)}` };
    expect(await cambium(["set", "k", "v"], { environment })).toMatchObject({ exitCode: 0 });
  });
});

describe("what goes wrong", () => {
  test.each([
    [["gett", "k"], "cambium: unknown command 'gett'; did you mean get? (cambium --help says more)"],
    [["get", "k", "--jsn"], "cambium: unknown option '--jsn'; did you mean --json? (cambium --help says more)"],
    [["get"], "cambium: missing required argument 'key' (cambium --help says more)"],
    [
      ["get", "k", "--timeout", "5"],
      /^cambium: option '--timeout <duration>' argument '5' is invalid. Write a number and a unit/,
    ],
    [["set", "k"], "cambium: give the value, or - for stdin, or --file FILE"],
    [["set", "k", "v", "--file", "f"], "cambium: give the value, or - for stdin, or --file FILE"],
    [["get", "k", "--endpoints", ","], "cambium: --endpoints names no node"],
    [
      ["get", "k", "--endpoints", "a b"],
      'cambium: "a b" is no endpoint; write host:port, [ipv6]:port, http://… or https://…',
    ],
    [["import"], "cambium: required option '-d, --dir <folder>' not specified (cambium --help says more)"],
  ])("%j is wrong usage: exit code 2 and one line", async (args, message) => {
    const { exitCode, stdout, stderr } = await run(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toMatch(/^[^\n]+\n$/);
    if (typeof message === "string") expect(stderr).toBe(`${message}\n`);
    else expect(stderr).toMatch(message);
  });

  test("a node that is not there is exit code 3, without a stack", async () => {
    await cluster.close();
    const { exitCode, stderr } = await run(["get", "k", "--timeout", "1s"]);
    expect(exitCode).toBe(3);
    expect(stderr).toBe(`cambium: ${endpoint(0)} cannot be reached: connect ECONNREFUSED ${endpoint(0)}\n`);
    const debug = await run(["set", "k", "v"], { environment: { CAMBIUM_DEBUG: "1" } });
    expect(debug.exitCode).toBe(3);
    expect(debug.stderr).toContain("caused by ConnectError");
  });

  test("what the node refuses is exit code 1 and the node's own words", async () => {
    const { exitCode, stderr } = await run(["set", "k".repeat(5000), "v"]);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: "cambium: 5000 bytes are above limits.max_key_bytes (4096)\n",
    });
  });

  test("a file that cannot be read is exit code 1", async () => {
    const { exitCode, stderr } = await run(["set", "k", "--file", path.join(root, "absent")]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^cambium: ENOENT: [^\n]*\n$/);
  });

  test("a reader that went away is no failure", async () => {
    await run(["set", "k", "v"]);
    const onStdout = (): void => {
      throw Object.assign(new Error("write EPIPE"), { code: "EPIPE" });
    };
    expect(await run(["get", "k"], { onStdout })).toMatchObject({ exitCode: 0, stderr: "" });
  });

  test("an interruption is exit code 130", async () => {
    const controller = new AbortController();
    cluster.nodes[0]!.before = () => {
      controller.abort();
      return new Promise(() => {});
    };
    expect(await run(["get", "k"], { signal: controller.signal })).toMatchObject({
      exitCode: 130,
      stderr: "cambium: interrupted\n",
    });
  });

  test("colours are for terminals, and not against NO_COLOR", async () => {
    expect((await run(["get", "absent"], { isTerminal: true })).stderr).toContain("\u001b[31m");
    const plain = await run(["get", "absent"], { isTerminal: true, environment: { NO_COLOR: "1" } });
    expect(plain.stderr).toBe("cambium: no such key: absent\n");
  });
});

describe("help", () => {
  test("is printed on stdout for all and for one, with examples", async () => {
    const all = await run(["--help"]);
    expect(all.exitCode).toBe(0);
    expect(all.stdout).toContain("$ cambium set greeting hello");
    expect(all.stdout).toContain("Exit codes:");
    for (const command of ["get", "set", "del", "scan", "status", "members", "updates", "import", "export"]) {
      const { exitCode, stdout } = await run([command, "--help"]);
      expect(exitCode).toBe(0);
      expect(stdout).toContain("--endpoints");
    }
  });

  test("is printed on stderr when nothing was asked for", async () => {
    expect(await run([])).toMatchObject({
      exitCode: 2,
      stdout: "",
      stderr: expect.stringContaining("Usage: cambium") as string,
    });
  });

  test("has the version", async () => {
    expect((await run(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("status", () => {
  test("of a node that hangs does not wait longer than it is told", async () => {
    cluster.nodes[1]!.before = () => new Promise(() => {});
    const { exitCode, stdout } = await run(["status", "--timeout", "2s"]);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(new RegExp(`^${endpoint(1)} .* no answer `, "m"));
    expect(stdout).toContain(`${endpoint(1)} did not answer within 2000 ms\n`);
  });

  test("is a table of the endpoints and of the members that they know", async () => {
    await run(["set", "k", "v"]);
    cluster.nodes[1]!.appliedSeq = 1n;
    const { exitCode, stdout } = await run(["status"]);
    expect(exitCode).toBe(0);
    const lines = stdout.split("\n").map((line) => line.replaceAll(/ {2,}/g, " | "));
    expect(lines).toEqual([
      `cluster ${cluster.clusterId}, commit master, 1 voter, version 0.0.0-fake`,
      "",
      "NODE | ROLE | VOTE | STATE | EPOCH | APPLIED | COMMITTED | LAG | KEYS | DATA | LOG | FREE | UP",
      `${endpoint(0)} | master | yes | ready | 1 | 2 | 2 | - | 1 | 123 B | 4 KiB | 4.7 GiB | 1m 00s`,
      `${endpoint(1)} | replica | no | streaming | 1 | 1 | 1 | 1 (1.5 s) | 0 | 123 B | 4 KiB | 4.7 GiB | 1m 00s`,
      "",
    ]);
  });

  test("is the same whichever node is asked", async () => {
    const rows = async (node: number): Promise<string[]> =>
      (await cambium(["status", "-e", endpoint(node)])).stdout.split("\n").toSorted();
    expect(await rows(1)).toEqual(await rows(0));
  });

  test("names the nodes that do not answer, with exit code 1", async () => {
    await cluster.nodes[1]!.close();
    const { exitCode, stdout, stderr } = await run(["status"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" });
    expect(stdout).toMatch(new RegExp(`^${endpoint(1)} +- +no +no answer`, "m"));
    expect(stdout).toContain(`${endpoint(1)} cannot be reached`);
  });

  test("has all of it as JSON, with one entry for a node that is asked twice", async () => {
    await cluster.nodes[1]!.close();
    const { stdout } = await run(["status", "--json", "-e", `${endpoint(0)},localhost:${endpoint(0).split(":")[1]}`]);
    expect(JSON.parse(stdout)).toMatchObject({
      nodes: [
        { endpoint: endpoint(0), answered: true, clusterId: cluster.clusterId, node: { role: "master" } },
        { endpoint: endpoint(1), answered: false, error: { code: "unreachable" }, member: { source: "listed" } },
      ],
      problems: [expect.stringContaining(`${endpoint(1)} cannot be reached`)],
      notes: [],
    });
    expect((JSON.parse(stdout) as { nodes: unknown[] }).nodes).toHaveLength(2);
  });

  test("is exit code 3 when no node answers", async () => {
    await cluster.close();
    const { exitCode, stdout, stderr } = await run(["status"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 3, stderr: "" });
    expect(stdout).toContain(`${endpoint(0)} cannot be reached`);
  });
});

test("members are added by address, and removed by address or id", async () => {
  await cluster.addNode().listen();
  expect(await run(["members", "add", endpoint(2)])).toMatchObject({
    exitCode: 0,
    stdout: `${endpoint(2)} is a member (node ${"02".repeat(16)})\n`,
  });
  expect(await run(["members", "remove", endpoint(2)])).toMatchObject({ exitCode: 0 });
  expect(await run(["members", "remove", "02".repeat(16)])).toMatchObject({ exitCode: 0 });
  expect(cluster.removed).toEqual(["02".repeat(16), "02".repeat(16)]);
  expect(await run(["members", "remove", "nobody:1"])).toMatchObject({
    exitCode: 1,
    stderr: "cambium: no member fits\n",
  });
});

test.each(["foo", "10.0.0.7", "a b:1", "node-1:99999"])(
  "%j is no address of a member: exit code 2",
  async (address) => {
    const { exitCode, stderr } = await run(["members", "add", address]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/^cambium: command-argument value '.*' is invalid for argument 'address'. .*\n$/);
  },
);

describe("updates", () => {
  test("are lines of JSON, from a place in the log to its end", async () => {
    await run(["set", "a", "1"]);
    await run(["set", "b", "-"], { stdin: Buffer.from([255]) });
    await run(["del", "a"]);
    const lines = (await run(["updates", "--after", "2"])).stdout.trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { type: "put", key: "b", position: { epoch: 1, seq: 3 }, timestampMs: 1_700_000_000_000, valueBase64: "/w==" },
      { type: "delete", key: "a", position: { epoch: 1, seq: 4 }, timestampMs: 1_700_000_000_000 },
    ]);
  });

  test("that the log no longer has, or not yet, are exit code 1, with the way to go on", async () => {
    for (const key of ["a", "b", "c"]) await run(["set", key, "1"]);
    cluster.compactSeq = 3n;
    expect(await run(["updates"])).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr:
        "cambium: the log no longer has the changes up to seq 3; go on with --after 3 (scan lists what there is)\n",
    });
    expect((await run(["updates", "--after", "3"])).exitCode).toBe(0);
    expect(await run(["updates", "--after", "9"])).toMatchObject({
      exitCode: 1,
      stderr: "cambium: the log of that node ends at seq 4; ask another node, or give --after 4\n",
    });
  });

  test("are followed until an interruption", async () => {
    const controller = new AbortController();
    const set = { case: "set", value: { key: "late", value: Buffer.from("v"), ttlMs: 0n } } as const;
    cluster.nodes[0]!.before = (method) => {
      if (method === "getUpdates" && cluster.seq === 1n)
        setImmediate(() => cluster.write([{ operation: set as never }]));
    };
    const { exitCode, stdout } = await run(["updates", "--follow"], {
      signal: controller.signal,
      onStdout: () => controller.abort(),
    });
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ type: "put", key: "late", value: "v" });
  });
});

describe("scan", () => {
  beforeEach(async () => {
    for (const [key, value] of [
      ["b", "2"],
      ["a/1", "one\nline"],
      ["a/2", '"quoted"'],
      ["a\t", "x".repeat(300)],
    ] as const) {
      await run(["set", "--", key, value]);
    }
    await run(["set", "a/3", "-"], { stdin: Buffer.from([255, 0]) });
  });

  test("lists keys in their order, each on a line of its own whatever is in it", async () => {
    expect(await run(["scan"])).toMatchObject({
      exitCode: 0,
      stdout: `"a\\t"\t${"x".repeat(300)}\na/1\t"one\\nline"\na/2\t"\\"quoted\\""\na/3\t(2 B)\nb\t2\n`,
      stderr: "",
    });
    expect((await run(["scan", "a/", "--keys-only"])).stdout).toBe("a/1\na/2\na/3\n");
    expect((await run(["scan", "none"])).stdout).toBe("");
  });

  test("shows a terminal only the beginning of a long value", async () => {
    const { stdout } = await run(["scan", "a\t"], { isTerminal: true });
    expect(stdout).toBe(`"a\\t"\t${"x".repeat(200)}… (300 B)\n`);
  });

  test("lists no more than the limit", async () => {
    expect((await run(["scan", "a/", "--limit", "2", "-k"])).stdout).toBe("a/1\na/2\n");
    expect((await run(["scan", "--limit", "0"])).exitCode).toBe(2);
  });

  test("lists more keys than a page has", async () => {
    const sets = Array.from({ length: 2040 }, (_, i) => create(SetRequestSchema, { key: `many/${i}` }));
    cluster.write(sets.map((value) => ({ operation: { case: "set", value } })));
    expect((await run(["scan", "many/", "-k"])).stdout.trim().split("\n")).toHaveLength(2040);
    expect((await run(["scan", "many/", "-k", "--limit", "1500"])).stdout.trim().split("\n")).toHaveLength(1500);
  });

  test("as JSON has all of it", async () => {
    const lines = async (...args: string[]): Promise<unknown[]> =>
      (await run(["scan", "a/", "--json", ...args])).stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown);
    expect(await lines()).toEqual([
      { key: "a/1", value: "one\nline", valueBytes: 8, createSeq: 3, modSeq: 3 },
      { key: "a/2", value: '"quoted"', valueBytes: 8, createSeq: 4, modSeq: 4 },
      { key: "a/3", valueBase64: "/wA=", valueBytes: 2, createSeq: 6, modSeq: 6 },
    ]);
    expect((await lines("--keys-only"))[2]).toEqual({ key: "a/3", valueBytes: 2, createSeq: 6, modSeq: 6 });
  });
});

describe("import and export", () => {
  async function tree(files: Readonly<Record<string, string>>): Promise<string> {
    const folder = path.join(root, "in");
    for (const [name, content] of Object.entries(files)) {
      await fs.mkdir(path.dirname(path.join(folder, name)), { recursive: true });
      await fs.writeFile(path.join(folder, name), content);
    }
    return folder;
  }
  async function read(folder: string): Promise<Record<string, string>> {
    const entries = await fs.readdir(folder, { recursive: true, withFileTypes: true });
    const files: Record<string, string> = {};
    for (const entry of entries.filter((candidate) => candidate.isFile())) {
      const place = path.join(entry.parentPath, entry.name);
      files[path.relative(folder, place)] = await fs.readFile(place, "utf8");
    }
    return files;
  }
  const contents = { "index.js": "export {};\n", "lib/a.js": "a", "lib/deep/.hidden": "", "@types/é.d.ts": "é" };

  test("give a folder back as it was, from any node", async () => {
    const folder = await tree(contents);
    await fs.symlink("index.js", path.join(folder, "link"));
    const acked = path.join(root, "acked");
    const imported = await run(["import", "--dir", folder, "--acked", acked]);
    expect(imported).toMatchObject({ exitCode: 0, stderr: "skipped link: a symbolic link\n" });
    expect(imported.stdout).toMatch(/^stored 4 files \(14 B\), 1 skipped in \d/);
    const keys = (await fs.readFile(acked, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as string);
    expect(keys.toSorted()).toEqual(Object.keys(contents).toSorted());

    const out = path.join(root, "out");
    const exported = await cambium(["export", "--dir", out, "--endpoints", endpoint(1)]);
    expect(exported).toMatchObject({ exitCode: 0, stderr: "" });
    expect(exported.stdout).toMatch(/^wrote 4 files \(14 B\) from 127\.0\.0\.1:\d+ in \d/);
    expect(await read(out)).toEqual(contents);
  });

  test("keep to a prefix", async () => {
    await run(["set", "other", "x"]);
    await run(["import", "--dir", await tree(contents), "--prefix", "www/"]);
    expect(stored("www/lib/a.js")).toBe("a");
    await run(["export", "--dir", path.join(root, "out"), "--prefix", "www/lib/"]);
    expect(Object.keys(await read(path.join(root, "out")))).toEqual(["www/lib/a.js", "www/lib/deep/.hidden"]);
  });

  test("need nothing of a log that was compacted", async () => {
    await run(["set", "a", "1"]);
    cluster.compactSeq = cluster.seq;
    expect(await run(["export", "--dir", path.join(root, "out")])).toMatchObject({ exitCode: 0 });
    expect(await read(path.join(root, "out"))).toEqual({ a: "1" });
  });

  test("bring back keys that are no paths, with --decode", async () => {
    const keys = ["..", "../../x", "/abs", "a", "a/b", "a//", "\u0000", "%2E", "%~", "__proto__", "x".repeat(300)];
    for (const key of keys) {
      cluster.write([
        { operation: { case: "set", value: { key, value: Buffer.from(`value of ${key}`), ttlMs: 0n } as never } },
      ]);
    }
    const out = path.join(root, "out");
    expect(await run(["export", "--dir", out])).toMatchObject({ exitCode: 0 });
    await run(["del", ...keys.filter((key) => key !== "\u0000")]);
    expect(await run(["import", "--dir", out, "--decode"])).toMatchObject({ exitCode: 0 });
    for (const key of keys) expect(stored(key)).toBe(`value of ${key}`);
    expect(await fs.readdir(root)).toEqual(["out"]);
  });

  test("sum up as JSON, listing what was skipped", async () => {
    const folder = await tree({ small: "1", large: "123456" });
    const { stdout, stderr } = await run(["import", "--dir", folder, "--max-value", "5B", "--json"]);
    expect(JSON.parse(stdout)).toEqual({
      complete: true,
      stored: { files: 1, bytes: 1 },
      skipped: [{ file: "large", reason: "its 6 bytes are above the 5 that a value may have" }],
      failed: [],
      elapsedMs: expect.any(Number) as number,
    });
    expect(stderr).toBe("");
    const exported = await run(["export", "--dir", path.join(root, "out"), "--json"]);
    expect(JSON.parse(exported.stdout)).toMatchObject({
      complete: true,
      stored: { files: 1, bytes: 1 },
      gone: 0,
      failed: [],
    });
  });

  test("an import goes on when the master comes back, and when it has room again", async () => {
    const folder = await tree(contents);
    const failures = [
      new ConnectError("restarting", Code.Unavailable),
      new ConnectError("too many calls in flight", Code.ResourceExhausted),
    ];
    cluster.nodes[0]!.before = () => {
      const failure = failures.shift();
      if (failure) throw failure;
    };
    const { exitCode, stderr } = await run(["import", "--dir", folder]);
    expect(exitCode).toBe(0);
    expect(stderr).toContain("trying again: too many calls in flight");
  });

  test("an import that the cluster leaves says how much is in, with exit code 3", async () => {
    const folder = await tree({ a: "1" });
    await cluster.close();
    const { exitCode, stdout, stderr } = await run(["import", "--dir", folder, "--retry-for", "1ms"]);
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/^stored 0 files/);
    expect(stderr).toMatch(/^cambium: the import stopped with 0 files stored: .*cannot be reached/);
  });

  test("an import of no folder, and an export into a full one, are exit code 1", async () => {
    expect(await run(["import", "--dir", path.join(root, "absent")])).toMatchObject({ exitCode: 1 });
    await fs.writeFile(path.join(root, "f"), "");
    expect(await run(["export", "--dir", root])).toMatchObject({
      exitCode: 1,
      stderr: `cambium: ${root} is not empty; name another folder, or give --overwrite to write into this one\n`,
    });
  });

  test("an export into a folder that the system will not make ends", async () => {
    // What is under /proc "does not exist" also to those who would make it.
    const folder = process.platform === "linux" ? "/proc/nowhere" : "/dev/null/nowhere";
    const { exitCode, stderr } = await run(["export", "--dir", folder]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^cambium: .*nowhere/);
  });

  test("an export takes the first node that is ready", async () => {
    await run(["set", "k", "v"]);
    cluster.nodes[0]!.before = () => {
      throw new ConnectError("catching up", Code.Unavailable);
    };
    const out = path.join(root, "out");
    const { exitCode, stdout } = await run(["export", "--dir", out, "-e", `${endpoint(0)},${endpoint(1)}`]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`from ${endpoint(1)}`);
    expect(await read(out)).toEqual({ k: "v" });
  });

  test("a terminal sees a bar", async () => {
    const folder = await tree(contents);
    let drawn: (() => void) | undefined;
    const bar = new Promise<void>((resolve) => (drawn = resolve));
    cluster.nodes[0]!.before = () => bar;
    const { exitCode, stderr } = await run(["import", "--dir", folder], {
      isTerminal: true,
      onStderr: (text) => {
        if (/\r\u001b\[Kimporting \[-+\] {3}0%/.test(text)) drawn?.();
      },
    });
    expect(exitCode).toBe(0);
    expect(stderr.endsWith("\r\u001b[K")).toBe(true);
  });
});
