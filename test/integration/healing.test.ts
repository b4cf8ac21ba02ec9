/** Damage on the disk of one node of three: the node sets its data aside, says so, and fetches it anew. */
import { open, readdir } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { TestNode } from "../harness/node.js";
import { get, set, status } from "../harness/rpc.js";
import { Voters } from "../harness/voters.js";

/** Turns a byte round in the middle of the node's first log file. */
async function damageLog(node: TestNode): Promise<void> {
  const names = await readdir(node.dataDirectory, { recursive: true });
  const [segment] = names.filter((name) => /^wal\/\d+\.wal$/.test(name)).sort();
  if (segment === undefined) throw new Error(`no log file among ${names.join(", ")}`);
  const file = await open(path.join(node.dataDirectory, segment), "r+");
  try {
    const { size } = await file.stat();
    const byte = Buffer.alloc(1);
    const at = Math.min(2000, Math.floor(size / 2));
    await file.read(byte, 0, 1, at);
    byte[0] = byte[0]! ^ 0xff;
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}

test("a replica with a damaged log sets it aside, serves nothing meanwhile, and has everything again by itself", async () => {
  const voters = await Voters.start();
  onTestFinished(() => voters.close());
  const [master, replica, other] = [...voters.nodes] as [TestNode, TestNode, TestNode];
  for (let index = 0; index < 100; index++) await set(master.address, `key-${index}`, "x".repeat(200));
  await voters.equal(master);
  await replica.kill();
  await set(master.address, "meanwhile", "1");
  await damageLog(replica);
  await replica.start();
  await voters.equal(master);
  await replica.ready();
  for (let index = 0; index < 100; index++) expect(await get(replica.address, `key-${index}`)).toBe("x".repeat(200));
  expect(await get(replica.address, "meanwhile")).toBe("1");

  const { setAside } = await status(replica.address);
  expect(setAside).toMatch(/^set-aside-\d+$/);
  expect(await readdir(replica.dataDirectory)).toContain(setAside);
  expect(replica.log.some(({ level, msg }) => level === "error" && msg.includes("aside"))).toBe(true);
  const report = await voters.cambium("status");
  expect(report.code).toBe(0);
  expect(report.stdout).toContain(`${replica.address} has set aside data that was not right, in ${setAside}`);

  // It votes again: with it, the two that are left make a majority.
  await other.kill();
  await set(master.address, "two of three", "1");
});
