/** Damage on a disk: one node of three sets its data aside, says so, and fetches it anew; the only one refuses to start. */
import { open, readdir } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import { digestOf } from "../harness/digest.js";
import type { TestNode } from "../harness/node.js";
import { call, get, set, status } from "../harness/rpc.js";
import { Voters } from "../harness/voters.js";

/** Turns a byte round in the node's newest file of a kind, `at` bytes from its beginning, or in its middle. */
async function damage(node: TestNode, kind: RegExp, at = 2000): Promise<void> {
  const names = await readdir(node.dataDirectory, { recursive: true });
  const newest = names
    .filter((name) => kind.test(name))
    .sort()
    .at(-1);
  if (newest === undefined) throw new Error(`no ${kind} among ${names.join(", ")}`);
  const file = await open(path.join(node.dataDirectory, newest), "r+");
  try {
    const { size } = await file.stat();
    const byte = Buffer.alloc(1);
    const place = Math.min(at, Math.floor(size / 2));
    await file.read(byte, 0, 1, place);
    byte[0] = byte[0]! ^ 0xff;
    await file.write(byte, 0, 1, place);
  } finally {
    await file.close();
  }
}

test("a replica with damage in its log, record log or snapshots sets its data aside, and has everything again by itself", async () => {
  const voters = await Voters.start();
  onTestFinished(() => voters.close());
  const [master, replica, other] = [...voters.nodes] as [TestNode, TestNode, TestNode];
  for (let index = 0; index < 50; index++) {
    await set(master.address, `key-${index}`, "x".repeat(200));
    await call(master.address, "Log/Produce", { records: [Buffer.alloc(200, index).toString("base64")] });
  }
  const folders = new Set<string>();
  for (const kind of [/^wal\/\d+\.wal$/, /^records\/\d+\.wal$/, /^snapshots\/.*\.snapshot$/]) {
    await voters.equal(master);
    expect((await call(replica.address, "Cluster/CreateSnapshot")).status).toBe(200);
    await set(master.address, "after the snapshot", "x".repeat(5000));
    await voters.equal(master);
    await replica.kill();
    const before = replica.log.length;
    await set(master.address, "meanwhile", String(kind));
    await damage(replica, kind);
    await replica.start();
    await voters.equal(master);
    await replica.ready();
    for (let index = 0; index < 50; index++) {
      expect(await get(replica.address, `key-${index}`)).toBe("x".repeat(200));
      const { body } = await call(replica.address, "Log/Consume", { offset: index });
      expect(body["record"]).toBe(Buffer.alloc(200, index).toString("base64"));
    }
    expect(await get(replica.address, "meanwhile")).toBe(String(kind));

    const { setAside } = await status(replica.address);
    expect(setAside, String(kind)).toMatch(/^set-aside-\d+$/);
    expect(await readdir(replica.dataDirectory)).toContain(setAside);
    folders.add(setAside);
    const said = replica.log.slice(before).filter(({ level }) => level === "error");
    expect(said.map(({ msg }) => msg)).toEqual([
      "the data of this node is damaged",
      "the data of this node is set aside, and is fetched from the master again",
    ]);
  }
  expect(folders.size).toBe(3);
  const report = await voters.cambium("status");
  expect(report.code).toBe(0);
  expect(report.stdout).toContain(`${replica.address} has set aside data that was not right, in set-aside-`);

  // It votes again: with it, the two that are left make a majority.
  await other.kill();
  await set(master.address, "two of three", "1");
});

test("a node whose copy may be the only one refuses to start, names file and place, and changes no byte", async () => {
  const cluster = await TestCluster.start({ replicas: 0 });
  onTestFinished(() => cluster.close());
  const { master } = cluster;
  for (let index = 0; index < 50; index++) await set(master.address, `key-${index}`, "x".repeat(200));
  await master.kill();
  await damage(master, /^wal\/\d+\.wal$/);
  const before = await digestOf(master.dataDirectory);
  await expect(master.start()).rejects.toThrow(/wal\/\d+\.wal.*byte \d+/);
  expect(await master.ended()).toBe(1);
  expect(master.stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(await digestOf(master.dataDirectory)).toEqual(before);
});
