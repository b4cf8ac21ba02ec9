/** The loss of power, by an ext4 file system in a file that is shut down under load without its journal. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, onTestFinished, test, type TestContext } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { type Disk, diskFor, needs, notRun } from "../harness/disks.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import { TestNode } from "../harness/node.js";
import { call, get } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const ROUNDS = 50;
const INTERVAL_ROUNDS = 10;
const SYNC_INTERVAL_MS = 300;
/** How long a timer, and the sync that it begins, may be late on a busy machine. */
const LATE_MS = 700;

/** A disk whose power can be cut; on a machine that does not allow that, the test does not run. */
async function powered(context: TestContext): Promise<Disk> {
  needs(context, "perl");
  const disk = await diskFor(context, "ext4", 64 * 1024 * 1024);
  try {
    await disk.cutPower();
  } catch (error) {
    notRun(context, `this machine's kernel does not shut a file system down: ${String(error)}`);
  }
  await disk.unmount();
  await disk.mount();
  return disk;
}

async function masterOn(disk: Disk, walConfig: Record<string, unknown>): Promise<TestNode> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const wal = { ...SMALL_FILES["wal"], ...walConfig, directory: path.join(disk.directory, "data") };
  const node = new TestNode({ program: "master", directory, config: { ...SMALL_FILES, wal } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  return node;
}

/** The power goes, the machine comes back, and the node is started. */
async function loseAndReturn(disk: Disk, node: TestNode, ended: () => Promise<void>): Promise<void> {
  await disk.cutPower();
  if (node.running) await node.kill();
  await ended();
  await disk.unmount();
  await disk.mount();
  await node.start();
}

test(`power is lost ${ROUNDS} times under load with durability always, and everything acknowledged is there each time`, async (context) => {
  const disk = await powered(context);
  const node = await masterOn(disk, { durability: "always" });
  const load = new AuditedLoad({ valueBytesMax: 16 * 1024 });
  await node.start();
  for (let round = 0; round < ROUNDS; round++) {
    load.start(node.address);
    await pause(50 + Math.random() * 1000);
    await loseAndReturn(disk, node, () => load.ended());
    await load.audit(node.address);
  }
  const said = (msg: string): number => node.log.filter((line) => line.msg === msg).length;
  const { acknowledged, unknown } = load.counts;
  console.log(
    `power lost ${ROUNDS} times: ${acknowledged} writes acknowledged, all there; ${unknown} without an answer, each there as a whole or not at all; ${said("snapshot taken")} snapshots, ${said("log compacted")} compactions, ${said("the end of the log was cut")} torn ends`,
  );
  expect(acknowledged).toBeGreaterThan(ROUNDS);
  expect(said("snapshot taken")).toBeGreaterThan(0);
});

test(`power is lost ${INTERVAL_ROUNDS} times with durability interval, and at most the last interval is gone, from the end`, async (context) => {
  const disk = await powered(context);
  const node = await masterOn(disk, { durability: "interval", sync_interval: `${SYNC_INTERVAL_MS}ms` });
  await node.start();
  let lostMs = 0;
  let serial = 0;
  for (let round = 0; round < INTERVAL_ROUNDS; round++) {
    const first = serial;
    /** When each was acknowledged, from `first` on. */
    const acknowledgedMs: number[] = [];
    let isOver = false;
    const writer = (async () => {
      while (!isOver) {
        const key = `round-${round}-${serial}`;
        const value = Buffer.from(`value ${serial}`).toString("base64");
        const answer = await call(node.address, "KVStore/Set", { key, value }).catch(() => undefined);
        if (answer?.status !== 200) return;
        acknowledgedMs.push(performance.now());
        serial++;
      }
    })();
    await until("some intervals pass", () => {
      const [begun = Infinity] = acknowledgedMs;
      return performance.now() > begun + SYNC_INTERVAL_MS * (2 + Math.random());
    });
    const cutMs = performance.now();
    await loseAndReturn(disk, node, () => {
      isOver = true;
      return writer;
    });
    let kept = first;
    while (kept < serial && (await get(node.address, `round-${round}-${kept}`)) === `value ${kept}`) kept++;
    for (let later = kept; later < serial; later++) {
      expect(await get(node.address, `round-${round}-${later}`), "what is gone is gone from the end").toBeUndefined();
    }
    const firstLostMs = acknowledgedMs[kept - first];
    if (firstLostMs !== undefined) lostMs = Math.max(lostMs, cutMs - firstLostMs);
    serial++;
  }
  console.log(
    `power lost ${INTERVAL_ROUNDS} times, synced every ${SYNC_INTERVAL_MS} ms: at most ${Math.round(lostMs)} ms of writes were gone`,
  );
  expect(lostMs).toBeLessThan(SYNC_INTERVAL_MS + LATE_MS);
});
