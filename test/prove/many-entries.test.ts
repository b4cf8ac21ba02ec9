/**
 * More entries than a `Map` can hold (2^24): stored through the log, read, walked, and recovered from a snapshot and the log
 * behind it. Needs some 4 GB of memory and 2 GB of disk.
 */
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { SystemClock } from "../../internal/base/clock.js";
import { silentLogger } from "../../internal/base/logger.js";
import { epochMs, seq } from "../../internal/base/position.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import { Store, type WriteCommand } from "../../internal/store/store.js";
import { beginMastership } from "../../internal/store/testing/stores.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";

const ENTRIES = 2 ** 24 + 1;
const BATCH = 1024;
const IN_FLIGHT = 8;

/** Eight bytes each: the number, and the same again as a check on the value. */
function bytesOf(number: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32LE(number, 0);
  bytes.writeUInt32LE(Math.imul(number, 0x9e3779b1) >>> 0, 4);
  return bytes;
}

function openStore(directory: string, engine: SlabEngine): Promise<Store> {
  return Store.open({
    fileSystem: new NodeFileSystem(directory),
    clock: new SystemClock(),
    random: { bytes: (length) => new Uint8Array(randomBytes(length)) },
    logger: silentLogger,
    engine,
    initialRole: "master",
    durability: "os",
    syncIntervalMs: 1000,
    segmentBytesMax: 100_000_000,
    snapshots: { intervalMs: 0, logBytes: Infinity, keep: 1 },
    retainedBytesMax: 1 << 30,
    pendingBytesMax: 1 << 26,
  });
}

async function fill(store: Store): Promise<void> {
  const inFlight = new Set<Promise<unknown>>();
  for (let at = 0; at < ENTRIES;) {
    const commands: WriteCommand[] = [];
    for (; at < ENTRIES && commands.length < BATCH; at++) {
      const bytes = bytesOf(at);
      commands.push({ kind: "set", key: bytes, value: bytes });
    }
    const write = store.write(commands).finally(() => inFlight.delete(write));
    inFlight.add(write);
    if (inFlight.size >= IN_FLIGHT) await Promise.race(inFlight);
  }
  await Promise.all(inFlight);
}

/** Throws at the first key that is not there, or has another value than its own. */
function readAll(store: Store): void {
  for (let at = 0; at < ENTRIES; at++) {
    const bytes = bytesOf(at);
    const entry = store.get(bytes);
    if (!entry || !bytes.equals(entry.value)) throw new Error(`key ${at} is ${entry ? "wrong" : "absent"}`);
  }
}

function walkAll(engine: SlabEngine): number {
  let found = 0;
  const walk = engine.walk(seq(Number.MAX_SAFE_INTEGER));
  for (let step = walk.next(); !step.done; step = walk.next()) found++;
  return found;
}

test("2^24 + 1 entries are stored, read, walked, in order, and recovered", { timeout: 1_800_000 }, async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), "cambium-many-"));
  try {
    const engine = new SlabEngine();
    const store = await openStore(directory, engine);
    await beginMastership(store);
    await fill(store);
    expect(store.status().keys).toBe(ENTRIES);
    readAll(store);
    expect(walkAll(engine)).toBe(ENTRIES);
    const last = engine.scan({ start: new Uint8Array(0) }, epochMs(0), true).next().value;
    expect(last?.key.length).toBe(8);
    await store.createSnapshot();
    await store.write([{ kind: "set", key: bytesOf(0), value: bytesOf(0) }]);
    const check = store.stateCheck();
    await store.close();

    const recovered = await openStore(directory, new SlabEngine());
    expect(recovered.compactSeq).toBeGreaterThan(0);
    expect(recovered.stateCheck()).toEqual(check);
    readAll(recovered);
    await recovered.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
