/** `snapshot`, `backup` and `restore`, with the bytes of a real store behind a fake node. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { beginSoleMastership, bytes, openStore, text } from "../../internal/store/testing/stores.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";
import { cambium, type Outcome } from "./testing/test-terminal.js";

let pieces: Uint8Array[];
let size: number;
let cluster: FakeCluster;
let root: string;
let file: string;

beforeAll(async () => {
  const store = await openStore();
  await beginSoleMastership(store);
  for (let i = 0; i < 20; i++) await store.write([{ kind: "set", key: bytes(`key-${i}`), value: bytes(`value ${i}`) }]);
  for (let i = 0; i < 7; i++) await store.produce([bytes(`record ${i}`)]);
  pieces = [];
  for await (const piece of store.backup().bytes) pieces.push(piece);
  size = Buffer.concat(pieces).length;
  await store.close();
});

beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
  file = path.join(root, "a.backup");
  cluster = await new FakeCluster().start(1);
  cluster.nodes[0]!.backupChunks = pieces;
});

afterEach(async () => {
  await cluster.close();
  await fs.rm(root, { recursive: true });
});

function run(args: readonly string[], options?: Parameters<typeof cambium>[1]): Promise<Outcome> {
  return cambium([...args, "--endpoints", cluster.nodes[0]!.address], options);
}

/** Names in the test's folder. */
const names = (): Promise<string[]> => fs.readdir(root);

test("snapshot says what a node has written", async () => {
  const { exitCode, stdout } = await run(["snapshot"]);
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: `http://${cluster.nodes[0]!.address} wrote a snapshot of 0 keys (2 KiB) at seq 1 in 12 ms\n`,
  });
  expect(JSON.parse((await run(["snapshot", "--json"])).stdout)).toMatchObject({ toSeq: 1, bytes: 2048 });
});

describe("backup", () => {
  test("writes a file that is private, whole and good", async () => {
    const { exitCode, stdout } = await run(["backup", file]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /^backed up 20 keys and 7 records of the record log, at epoch 1, seq 28 \(.*\), from http:\S+ to /,
    );
    expect(await fs.readFile(file)).toEqual(Buffer.concat(pieces));
    expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
    expect(await names()).toEqual(["a.backup"]);
  });

  test("tells scripts the same as JSON", async () => {
    expect(JSON.parse((await run(["backup", file, "--json"])).stdout)).toEqual({
      file,
      endpoint: `http://${cluster.nodes[0]!.address}`,
      clusterId: expect.stringMatching(/^[0-9a-f]{32}$/) as unknown,
      position: { epoch: 1, seq: 28 },
      keys: 20,
      records: { start: 0, end: 7, count: 7 },
      bytes: size,
      elapsedMs: expect.any(Number) as unknown,
    });
  });

  test("writes over a file, or over what a killed one left, only when it is told to", async () => {
    await fs.writeFile(file, "precious");
    expect(await run(["backup", file])).toMatchObject({
      exitCode: 1,
      stderr: `cambium: ${file} is there already; name another file, or give --force to write over it\n`,
    });
    expect(await fs.readFile(file, "utf8")).toBe("precious");
    await fs.writeFile(`${file}.partial`, "x".repeat(2 * size));
    await fs.rm(file);
    expect((await run(["backup", file])).stderr).toContain("another backup is writing it, or one was killed");
    expect(await run(["backup", file, "--force"])).toMatchObject({ exitCode: 0 });
    expect(await run(["backup", file, "--force"])).toMatchObject({ exitCode: 0 });
    expect(await fs.readFile(file)).toEqual(Buffer.concat(pieces));
    expect(await names()).toEqual(["a.backup"]);
  });

  test("leaves nothing behind when the stream breaks off, ends too early, or carries something else", async () => {
    const node = cluster.nodes[0]!;
    node.beforeChunk = (index) => {
      if (index === 2) node.cutConnections();
    };
    expect((await run(["backup", file])).exitCode).toBe(3);
    node.beforeChunk = () => {};
    node.backupChunks = pieces.slice(0, -1);
    expect(await run(["backup", file])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("sent something else than a backup: the backup is cut short") as unknown,
    });
    node.backupChunks = pieces.toSpliced(3, 1);
    expect((await run(["backup", file])).stderr).toMatch(/the backup is damaged between byte \d+ and byte \d+/);
    expect(await names()).toEqual([]);
  });

  test("ends when it is interrupted, and leaves nothing behind", async () => {
    const interrupted = new AbortController();
    cluster.nodes[0]!.beforeChunk = async (index) => {
      if (index !== 2) return;
      interrupted.abort();
      await new Promise(() => undefined);
    };
    expect(await run(["backup", file], { signal: interrupted.signal })).toMatchObject({ exitCode: 130 });
    expect(await names()).toEqual([]);
  });
});

describe("restore", () => {
  let data: string;

  beforeEach(async () => {
    data = path.join(root, "deep", "data");
    await fs.writeFile(file, Buffer.concat(pieces));
  });

  test("makes a directory that a node starts in, with everything", async () => {
    const { exitCode, stdout } = await cambium(["restore", file, "--data", data]);
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: expect.stringMatching(
        /^restored 20 keys and 7 records of the record log, as they were at epoch 1, seq 28, into .*\nnode [0-9a-f]{32} of the new cluster [0-9a-f]{32}; start it with wal.directory: .*\n$/,
      ) as unknown,
    });
    expect((await fs.stat(data)).mode & 0o777).toBe(0o700);
    const store = await openStore({ fileSystem: new NodeFileSystem(data) });
    await beginSoleMastership(store);
    expect(text(store.get(bytes("key-7"))!.value)).toBe("value 7");
    expect(store.recordRange()).toEqual({ start: 0, end: 7 });
    await store.close();
  });

  test("keeps the cluster when it is told to", async () => {
    const { clusterId } = JSON.parse((await cambium(["restore", file, "--check", "--json"])).stdout) as {
      clusterId: string;
    };
    const kept = await cambium(["restore", file, "--data", data, "--keep-cluster-id", "--json"]);
    expect(JSON.parse(kept.stdout)).toMatchObject({ data, clusterId, keys: 20, backup: { clusterId } });
    const fresh = await cambium(["restore", file, "--data", path.join(root, "other"), "--json"]);
    expect(JSON.parse(fresh.stdout)).not.toMatchObject({ clusterId });
  });

  test("does not touch a directory that has something in it", async () => {
    await fs.mkdir(path.join(data, "something"), { recursive: true });
    expect(await cambium(["restore", file, "--data", data])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("is not empty, it has something") as unknown,
    });
    expect(await fs.readdir(data)).toEqual(["something"]);
  });

  test("refuses a damaged file, naming the place, and makes nothing", async () => {
    const damaged = Buffer.concat(pieces);
    damaged[200]! ^= 1;
    await fs.writeFile(file, damaged);
    const expected = {
      exitCode: 1,
      stderr: expect.stringMatching(/a\.backup: the backup is damaged between byte \d+ and byte \d+: chunk/) as unknown,
    };
    expect(await cambium(["restore", file, "--data", data])).toMatchObject(expected);
    expect(await cambium(["restore", file, "--check"])).toMatchObject(expected);
    expect(await names()).toEqual(["a.backup"]);
  });

  test("checks a file without making anything", async () => {
    expect(await cambium(["restore", file, "--check"])).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining(
        "is good: 20 keys and 7 records of the record log, at epoch 1, seq 28",
      ) as unknown,
    });
    expect(await names()).toEqual(["a.backup"]);
  });

  test("needs to know what to do", async () => {
    for (const args of [[], ["--data", data, "--check"]]) {
      expect(await cambium(["restore", file, ...args])).toMatchObject({
        exitCode: 2,
        stderr: "cambium: give --data with the directory to make, or --check to only check the file\n",
      });
    }
  });
});
