import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { cambium, type Outcome, type TestTerminalOptions } from "./testing/test-terminal.js";

let cluster: FakeCluster;
beforeEach(async () => {
  cluster = await new FakeCluster().start(2);
});
afterEach(() => cluster.close());

const run = (args: readonly string[], options: TestTerminalOptions = {}): Promise<Outcome> =>
  cambium(["--endpoints", cluster.nodes[0]!.address, "log", ...args], options);
const records = (): string[] => cluster.records.records.map((record) => Buffer.from(record).toString("latin1"));

describe("produce", () => {
  test("appends a record, and says where", async () => {
    expect(await run(["produce", "hello"])).toMatchObject({
      exitCode: 0,
      stdout: "produced at offset 0\n",
      stderr: "",
    });
    expect(JSON.parse((await run(["produce", "again", "--json"])).stdout)).toEqual({
      offset: 1,
      count: 1,
      position: { epoch: 1, seq: 1 },
    });
    expect(records()).toEqual(["hello", "again"]);
  });

  test("appends each line of stdin byte for byte, the last one without a line break too", async () => {
    const stdin = Buffer.from("first\n\nwith\rreturn\r\n\xff\xfe\nlast", "latin1");
    expect(await run(["produce", "-"], { stdin })).toMatchObject({
      exitCode: 0,
      stdout: "produced 5 records, the last at offset 4\n",
    });
    expect(records()).toEqual(["first", "", "with\rreturn\r", "\xff\xfe", "last"]);
    expect(await run(["produce", "-"], { stdin: "one\n" })).toMatchObject({
      stdout: "produced 1 record, the last at offset 5\n",
    });
    expect(await run(["produce", "-"], { stdin: "" })).toMatchObject({ exitCode: 0, stdout: "nothing to produce\n" });
  });

  test("prints a line of JSON for each batch of lines", async () => {
    const stdin = Array.from({ length: 1030 }, (_, index) => `line ${index}\n`).join("");
    const { stdout } = await run(["produce", "-", "--json"], { stdin });
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
    ).toMatchObject([
      { offset: 0, count: 1024 },
      { offset: 1024, count: 6 },
    ]);
  });

  test("appends a file as one record", async () => {
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
    const file = path.join(directory, "event");
    await fs.writeFile(file, "two\nlines\n");
    expect(await run(["produce", "--file", file])).toMatchObject({ exitCode: 0 });
    expect(records()).toEqual(["two\nlines\n"]);
    await fs.rm(directory, { recursive: true });
  });

  test("says how far it came when a later batch fails", async () => {
    let calls = 0;
    cluster.nodes[0]!.before = () => {
      if (++calls === 2) throw new ConnectError("the disk has no room", Code.ResourceExhausted);
    };
    const stdin = Array.from({ length: 1030 }, (_, index) => `line ${index}\n`).join("");
    expect(await run(["produce", "-"], { stdin })).toMatchObject({
      exitCode: 1,
      stderr: "cambium: produced 1,024 records, the last at offset 1023; then: the disk has no room\n",
    });
  });

  test("wants one record, or a file", async () => {
    for (const args of [["produce"], ["produce", "a", "--file", "b"]]) {
      expect(await run(args)).toMatchObject({
        exitCode: 2,
        stderr: "cambium: give the record, or - for the lines of stdin, or --file FILE\n",
      });
    }
  });
});

describe("consume", () => {
  beforeEach(() => void cluster.records.add("a", "b", "c", Buffer.from([255, 0]), "e"));

  test("prints records a line each, from the oldest or from an offset on", async () => {
    const all = Buffer.from("a\nb\nc\n\xff\x00\ne\n", "latin1");
    expect((await run(["consume"])).stdoutBytes).toEqual(all);
    expect(await run(["consume", "--offset", "1", "--limit", "2"])).toMatchObject({ exitCode: 0, stdout: "b\nc\n" });
    expect(await run(["consume", "--offset", "5"])).toMatchObject({ exitCode: 0, stdout: "" });
  });

  test("prints JSON with text as text and bytes as base64", async () => {
    const { stdout } = await run(["consume", "--offset", "2", "--limit", "2", "--json"]);
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { offset: 2, record: "c", position: { epoch: 1, seq: 4 }, timestampMs: 1_700_000_000_002 },
      { offset: 3, recordBase64: "/wA=", position: { epoch: 1, seq: 5 }, timestampMs: 1_700_000_000_003 },
    ]);
  });

  test("follows until it is interrupted", async () => {
    const interrupted = new AbortController();
    const onStdout = (text: string): void => {
      if (text === "e\n") cluster.records.add("f");
      if (text === "f\n") interrupted.abort();
    };
    const { exitCode, stdout, stderr } = await run(["consume", "--follow"], { signal: interrupted.signal, onStdout });
    expect(exitCode).toBe(130);
    expect(stdout.endsWith("e\nf\n")).toBe(true);
    expect(stderr).toBe("cambium: interrupted\n");
  });

  test("of an offset that is not there is exit code 1, and says what is", async () => {
    cluster.records.truncateBelow(2);
    const { exitCode, stderr } = await run(["consume", "--offset", "1"]);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: "cambium: offset 1 is not in the record log, which has 2 up to, but without, 5\n",
    });
    expect(await run(["consume", "--offset", "x"])).toMatchObject({ exitCode: 2 });
  });
});

test("truncate and range say which offsets there are", async () => {
  expect((await run(["range"])).stdout).toBe("no records; the next offset is 0\n");
  cluster.records.add("a", "b", "c");
  expect((await run(["range"])).stdout).toBe("3 records, offsets 0 to 2\n");
  expect((await run(["truncate", "2"])).stdout).toBe("the record log begins at offset 2\n");
  expect(JSON.parse((await run(["range", "--json"])).stdout)).toEqual({ start: 2, end: 3 });
  expect(JSON.parse((await run(["truncate", "3", "--json"])).stdout)).toMatchObject({ start: 3 });
  expect((await run(["range"])).stdout).toBe("no records; the next offset is 3\n");
  expect(await run(["truncate", "4"])).toMatchObject({ exitCode: 1 });
});
