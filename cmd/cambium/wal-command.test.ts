/** The `wal` commands on the directory of a node that runs, one that has stopped, and ones that are damaged. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Store } from "../../internal/store/store.js";
import { beginSoleMastership, bytes, openStore } from "../../internal/store/testing/stores.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";
import { cambium } from "./testing/test-terminal.js";

let root: string;
let running: string;
let stopped: string;
let killed: string;
let store: Store;

const put = (key: string, value: string) => ({ kind: "set" as const, key: bytes(key), value: bytes(value) });

async function fill(directory: string): Promise<Store> {
  const filled = await openStore({ fileSystem: new NodeFileSystem(directory), segmentBytesMax: 2048 });
  await beginSoleMastership(filled);
  for (let i = 0; i < 30; i++) await filled.write([put(`key-${i % 5}`, `value ${i}`)]);
  await filled.createSnapshot();
  for (let i = 0; i < 40; i++) await filled.write([put(`key-${i % 5}`, `secret ${i}`)]);
  await filled.write([{ kind: "delete", key: bytes("key-0") }, put("a\nb", "1")]);
  await filled.produce([bytes("produced")]);
  return filled;
}

beforeAll(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
  running = path.join(root, "running");
  stopped = path.join(root, "stopped");
  killed = path.join(root, "killed");
  store = await fill(running);
  await fs.cp(running, killed, { recursive: true });
  await fs.rm(path.join(killed, "LOCK"));
  await (await fill(stopped)).close();
});

afterAll(async () => {
  await store.close();
  await fs.rm(root, { recursive: true });
});

/** A copy of a directory, to be damaged. */
async function copyOf(directory: string): Promise<string> {
  const copy = await fs.mkdtemp(path.join(root, "copy-"));
  await fs.cp(directory, copy, { recursive: true });
  return copy;
}

async function segmentsOf(directory: string, log = "wal"): Promise<string[]> {
  const names = await fs.readdir(path.join(directory, log));
  return names.filter((name) => name.endsWith(".wal")).sort();
}

async function change(file: string, edit: (bytes: Buffer) => Buffer): Promise<void> {
  await fs.writeFile(file, edit(await fs.readFile(file)));
}

function flip(at: number): (content: Buffer) => Buffer {
  return (content) => {
    content[at < 0 ? content.length + at : at]! ^= 4;
    return content;
  };
}

/** Every file of a directory with its content and times. */
async function everything(directory: string): Promise<unknown> {
  const names = await fs.readdir(directory, { recursive: true });
  const files = [];
  for (const name of names.sort()) {
    const { mtimeMs, ino, size } = await fs.stat(path.join(directory, name));
    files.push({ name, mtimeMs, ino, size });
  }
  return files;
}

describe("verify", () => {
  test("finds what has stopped, what was killed and what is running sound, and touches none of it", async () => {
    for (const directory of [stopped, killed]) {
      const before = await everything(directory);
      expect(await cambium(["wal", "verify", directory])).toMatchObject({
        exitCode: 0,
        stdout: expect.stringMatching(/^sound: \d+ segments, \d+ frames, \d+ records, 1 snapshot read \(/),
      });
      await cambium(["wal", "stat", directory]);
      await cambium(["wal", "dump", directory]);
      expect(await everything(directory)).toEqual(before);
    }
    for (let round = 0; round < 5; round++) {
      const writes = Array.from({ length: 20 }, (_, i) => store.write([put(`r-${i}`, "x".repeat(i * 50))]));
      const { exitCode, stdout } = await cambium(["wal", "verify", running, "--json"]);
      await Promise.all(writes);
      expect([exitCode, JSON.parse(stdout)]).toMatchObject([0, { verdict: "sound" }]);
    }
  });

  test("tells every kind of damage with file, offset, what was expected and what was found", async () => {
    const segment = (await segmentsOf(stopped))[0]!;
    const records = (await segmentsOf(stopped, "records"))[0]!;
    const [snapshot] = (await fs.readdir(path.join(stopped, "snapshots"))) as [string];
    const cases = [
      [`wal/${segment}`, 20],
      [`wal/${segment}`, 90],
      [`wal/${segment}`, 140],
      [`wal/${segment.replace(".wal", ".index")}`, 30],
      [`records/${records}`, 10],
      [`snapshots/${snapshot}`, 100],
      ["node.json", 40],
    ] as const;
    for (const [file, at] of cases) {
      const directory = await copyOf(stopped);
      await change(path.join(directory, file), flip(at));
      const { exitCode, stdout } = await cambium(["wal", "verify", directory, "--json"]);
      const { verdict, findings } = JSON.parse(stdout) as { verdict: string; findings: Record<string, unknown>[] };
      expect([exitCode, verdict]).toEqual([1, "corrupt"]);
      const finding = findings.find((found) => found["file"] === file);
      expect(finding, file).toMatchObject({ kind: "corrupt", reason: expect.any(String) });
      if (file !== "node.json") expect(finding!["offset"]).toBeLessThanOrEqual(at);
      if (file.endsWith(".wal")) {
        expect(finding).toMatchObject({ expected: expect.any(String), found: expect.any(String) });
      }
      expect((await cambium(["wal", "verify", directory])).stdout).toContain(`corrupt: ${file}`);
    }
  });

  test("tells a log whose snapshot, or whose segment, is gone", async () => {
    const withoutSnapshot = await copyOf(stopped);
    await fs.rm(path.join(withoutSnapshot, "snapshots"), { recursive: true });
    expect(await cambium(["wal", "verify", withoutSnapshot])).toMatchObject({
      exitCode: 1,
      stdout: expect.stringContaining("corrupt: snapshots: the beginning of the log is gone"),
    });
    const withoutLog = await copyOf(stopped);
    await fs.rm(path.join(withoutLog, "wal"), { recursive: true });
    expect(await cambium(["wal", "verify", withoutLog])).toMatchObject({
      exitCode: 1,
      stdout: expect.stringContaining("corrupt: wal: "),
    });
  });

  test("has an exit code of its own for a torn end, and none while the node runs", async () => {
    const directory = await copyOf(killed);
    const name = (await segmentsOf(directory)).at(-1)!;
    const { stdout } = await cambium(["wal", "stat", directory, "--json"]);
    const { wal } = JSON.parse(stdout) as { wal: { segments: { dataBytes: number }[] } };
    await change(path.join(directory, "wal", name), (content) =>
      content.subarray(0, wal.segments.at(-1)!.dataBytes - 3),
    );
    const torn = await cambium(["wal", "verify", directory]);
    expect(torn).toMatchObject({
      exitCode: 4,
      stderr: "",
      stdout: expect.stringMatching(/^torn: wal\/\d+\.wal at byte/),
    });
    expect(await cambium(["wal", "dump", directory])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("is not sound at byte"),
    });
    // The lock of this process, which lives.
    await fs.copyFile(path.join(running, "LOCK"), path.join(directory, "LOCK"));
    const flying = await cambium(["wal", "verify", directory]);
    expect(flying).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("in flight: wal/") });
    expect(await cambium(["wal", "dump", directory])).toMatchObject({ exitCode: 0, stderr: "" });
  });

  test("refuses what is not the data directory of a node as wrong usage", async () => {
    const empty = await fs.mkdtemp(path.join(root, "empty-"));
    for (const directory of [empty, path.join(root, "nothing"), path.join(stopped, "node.json")]) {
      expect(await cambium(["wal", "verify", directory])).toMatchObject({ exitCode: 2, stdout: "" });
    }
    expect(await cambium(["wal", "verify"])).toMatchObject({ exitCode: 2 });
    expect(await fs.readdir(empty)).toEqual([]);
  });
});

describe("stat", () => {
  test("describes a stopped node as JSON", async () => {
    const { exitCode, stdout } = await cambium(["wal", "stat", stopped, "--json"]);
    expect(exitCode).toBe(0);
    const stat = JSON.parse(stdout) as Record<string, unknown> & { wal: { segments: object[] } };
    expect(Object.keys(stat)).toEqual([
      "node",
      "holder",
      "verdict",
      "epochs",
      "wal",
      "snapshots",
      "records",
      "findings",
    ]);
    expect(stat).toMatchObject({
      node: { role: "master", hasLog: true, caughtUp: true, promised: { epoch: 1 } },
      holder: null,
      verdict: "sound",
      epochs: [{ epoch: 1, epochId: "0000000000000001" }],
      snapshots: [{ sound: true, entries: 5, records: { start: 0, end: 0 } }],
      records: { end: { seq: 1 } },
      findings: [],
    });
    expect(Object.keys(stat.wal.segments[0]!)).toEqual([
      "file",
      "firstSeq",
      "lastSeq",
      "bytes",
      "dataBytes",
      "records",
      "frames",
      "clean",
      "syncedSeq",
      "appliedSeq",
    ]);
    expect(stat.wal.segments.at(-1)).toMatchObject({ clean: true });
  });

  test("describes a running node as tables, with who holds it", async () => {
    const { exitCode, stdout } = await cambium(["wal", "stat", running]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`held by process ${process.pid} on `);
    expect(stdout).toMatch(/^EPOCH {2}ID /m);
    expect(stdout).toMatch(/^SEGMENT +FIRST +LAST +RECORDS +FRAMES +DATA +FILE +SYNCED +APPLIED +CLEAN$/m);
    expect(stdout).toMatch(/^SNAPSHOT +FROM +TO /m);
    expect(stdout).toMatch(/^record log: 1 record, .*offsets 0 to 0/m);
  });
});

describe("dump", () => {
  const lines = async (...args: string[]): Promise<string[]> => {
    const { exitCode, stdout } = await cambium(["wal", "dump", ...args]);
    expect(exitCode).toBe(0);
    return stdout.split("\n").slice(0, -1);
  };

  test("prints a line a record, from a seq on and as many as asked for", async () => {
    const all = await lines(stopped);
    const seqs = all.map((line) => Number(line.split("\t")[0]));
    expect(seqs).toEqual(seqs.map((_, i) => seqs[0]! + i));
    expect(seqs.length).toBe(42);
    expect(await lines(stopped, "--after", String(seqs[9]), "--limit", "5")).toEqual(all.slice(10, 15));
    expect(all[0]).toMatch(/^\d+\te1\t\d{4}-\d\d-\d\dT[\d:.]+Z\t\d+ B\t1 put$/);
    expect(all.at(-2)).toMatch(/\t1 delete, 1 put$/);
  });

  test("names keys only when asked, and shows values only when asked", async () => {
    expect((await lines(stopped)).join("\n")).not.toMatch(/key-|secret/);
    const keys = await lines(stopped, "--keys");
    expect(keys.at(-2)).toMatch(/\tdelete "key-0", put "a\\nb" \(1 B\)$/);
    expect(keys.join("\n")).not.toContain("secret");
    expect((await lines(stopped, "--values"))[0]).toMatch(/\tput "key-0" "secret 0"$/);
  });

  test("prints JSON, and the record log", async () => {
    const [first] = (await lines(stopped, "--json", "--values", "--limit", "1")) as [string];
    expect(JSON.parse(first)).toMatchObject({
      epoch: 1,
      changes: [{ kind: "put", key: "key-0", valueBytes: 8, value: "secret 0" }],
    });
    const [record] = (await lines(stopped, "--json", "--records", "--values")) as [string];
    expect(JSON.parse(record)).toMatchObject({ seq: 1, offset: 0, recordBytes: 8, value: "produced" });
  });
});
