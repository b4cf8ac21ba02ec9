/** Disks that are really full, under a real process. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { type Disk, diskFor, type DiskKind } from "../harness/disks.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import { TestNode } from "../harness/node.js";
import { until } from "../harness/until.js";

const DISK_BYTES = 16 * 1024 * 1024;
/** With some of them, large writes are cut short in the middle. */
const FREE_BYTES = [0, 100, 1000, 2500, 5000];

async function masterOn(disk: Disk): Promise<TestNode> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const wal = { ...SMALL_FILES["wal"], directory: path.join(disk.directory, "data") };
  const node = new TestNode({ program: "master", directory, config: { ...SMALL_FILES, wal } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  return node;
}

test.for<DiskKind>(["tmpfs", "ext4"])(
  "a full disk (%s) refuses writes and changes nothing; reads go on, a restart works, and writes return by themselves",
  async (kind, context) => {
    const disk = await diskFor(context, kind, DISK_BYTES);
    const node = await masterOn(disk);
    const load = new AuditedLoad({ valueBytesMax: 16 * 1024 });
    await node.start();
    for (const freeBytes of FREE_BYTES) {
      load.start(node.address);
      const before = load.counts.acknowledged;
      await until("the load is on", () => load.counts.acknowledged > before + 100);
      const { refused } = load.counts;
      await until("writes are refused", async () => {
        // Again and again, for compaction gives room back.
        await disk.fill(freeBytes);
        return load.counts.refused > refused + 50;
      });
      await load.stop();
      expect(node.running).toBe(true);
      // What was refused is not there, and what was acknowledged is.
      await load.audit(node.address);

      await node.kill();
      await node.start();
      await load.audit(node.address);

      load.start(node.address);
      await disk.free();
      const { acknowledged } = load.counts;
      await until("writes return", () => load.counts.acknowledged > acknowledged + 100);
      await load.stop();
      expect(node.running).toBe(true);
      await load.audit(node.address);
      await node.kill();
      await node.start();
      await load.audit(node.address);
    }
    expect(node.stderr).toBe("");
    const { acknowledged, refused } = load.counts;
    console.log(
      `${kind}, full ${FREE_BYTES.length} times: ${acknowledged} acknowledged, all there; ${refused} refused, none there`,
    );
  },
);
