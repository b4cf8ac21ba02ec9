/** What the engine does inside a store, whose log has every record of it: keys that fall due together, and a limit of memory. */
import { setImmediate } from "node:timers/promises";
import { epochMs, type Seq } from "../../internal/base/position.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import type { Store, WriteCommand } from "../../internal/store/store.js";
import { beginServing, openStore } from "./bench-store.js";
import type { ExpiryResult, Job, LimitResult } from "./engine-job.js";
import { collect, KEY_BYTES, makeKeys, makeRandom, ranMs } from "./engine-workload.js";
import { longestPauseMs, LoopWatch } from "./loop-watch.js";

const VALUE = Buffer.alloc(100, "v");
const COMMANDS_A_WRITE = 500;
const WRITES_IN_FLIGHT = 8;
const SECOND_MS = 1000;
/** Time to fill a store, for each key: several times what it takes. */
const FILL_MS_A_KEY = 0.015;
const FILL_MS_MIN = 3000;
const VALUE_BYTES_MAX = 2000;

export async function measureExpiry({ directory, entries }: Job<"expiry">): Promise<ExpiryResult> {
  const alone = await expireAlone(entries);
  const engine = new SlabEngine();
  const store = await openStore(directory, { engine, durability: "always" });
  await beginServing(store);
  const keys = makeKeys(entries);
  const dueMs = store.masterTimeMs() + FILL_MS_MIN + entries * FILL_MS_A_KEY;
  await writeAll(store, entries, (n) => ({
    kind: "set",
    key: keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES),
    value: VALUE,
    ttlMs: Math.max(1, Math.round(dueMs - store.masterTimeMs()) + (n % SECOND_MS)),
  }));
  if (engine.entryCount !== entries) throw new Error("keys fell due before all were written");
  await collect();
  const watch = new LoopWatch();
  watch.begin();
  // The store's own timers keep no process alive.
  const alive = setInterval(() => {}, SECOND_MS);
  await new Promise<void>((resolve) => {
    store.listen({
      applied: () => {
        if (engine.entryCount === 0) resolve();
      },
    });
  });
  clearInterval(alive);
  const lateMs = store.masterTimeMs() - (dueMs + SECOND_MS);
  // The turn in which the last ones went is one of them.
  await new Promise((resolve) => setTimeout(resolve, 10));
  watch.end();
  await store.close();
  return {
    lateMs,
    longestTurnMs: longestPauseMs(watch.report()),
    aloneMs: alone.elapsedMs,
    aloneLongestTurnMs: alone.longestTurnMs,
  };
}

async function expireAlone(entries: number): Promise<{ elapsedMs: number; longestTurnMs: number }> {
  const engine = new SlabEngine();
  const keys = makeKeys(entries);
  const dueMs = 1_700_000_000_000;
  let seq = 0;
  for (let n = 0; n < entries; n++) {
    engine.apply(++seq as Seq, epochMs(dueMs - SECOND_MS), {
      kind: "put",
      key: keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES),
      value: VALUE,
      expiresAtMs: epochMs(dueMs + (n % SECOND_MS)),
    });
  }
  await collect();
  const nowMs = epochMs(dueMs + SECOND_MS);
  const startMs = ranMs();
  let longestTurnMs = 0;
  while (engine.entryCount > 0) {
    const turnStartMs = ranMs();
    const due = engine.due(nowMs, COMMANDS_A_WRITE);
    engine.applyRemovals(
      ++seq as Seq,
      nowMs,
      due.map(({ key, modSeq }) => ({ kind: "expire", key, modSeq })),
    );
    await setImmediate();
    longestTurnMs = Math.max(longestTurnMs, ranMs() - turnStartMs);
  }
  return { elapsedMs: ranMs() - startMs, longestTurnMs };
}

export async function measureLimit({ directory, bytesMax, times }: Job<"limit">): Promise<LimitResult> {
  const engine = new SlabEngine();
  const snapshots = { intervalMs: 0, logBytes: bytesMax, keep: 1 };
  const store = await openStore(directory, { engine, snapshots });
  await beginServing(store);
  await store.changeLimits({ bytesMax, policy: "lru" });
  await collect();
  const watch = new LoopWatch();
  watch.begin();
  let accountedBytesMost = 0;
  store.listen({ applied: () => (accountedBytesMost = Math.max(accountedBytesMost, engine.accountedBytes)) });
  const random = makeRandom();
  const bytes = Buffer.alloc(VALUE_BYTES_MAX, "v");
  const writes = Math.ceil((bytesMax * times) / (KEY_BYTES + VALUE_BYTES_MAX / 2));
  let writtenBytes = 0;
  await writeAll(store, writes, (n) => {
    const key = Buffer.from(`key:${String(n).padStart(KEY_BYTES - 4, "0")}`, "latin1");
    const value = bytes.subarray(0, random() % VALUE_BYTES_MAX);
    writtenBytes += key.length + value.length;
    return { kind: "set", key, value };
  });
  watch.end();
  const { residentBytes, residentBytesMost } = watch.report();
  await collect();
  const residentBytesAtEnd = process.memoryUsage.rss();
  await store.close();
  return {
    writes,
    writtenBytes,
    accountedBytesMost,
    residentBytesBefore: residentBytes,
    residentBytesMost,
    residentBytesAtEnd,
  };
}

/** Writes commands, many in one record, and several records at a time. */
async function writeAll(store: Store, count: number, command: (n: number) => WriteCommand): Promise<void> {
  const inFlight = new Set<Promise<unknown>>();
  for (let n = 0; n < count;) {
    const commands: WriteCommand[] = [];
    for (const end = Math.min(count, n + COMMANDS_A_WRITE); n < end; n++) commands.push(command(n));
    const write = store.write(commands).finally(() => inFlight.delete(write));
    inFlight.add(write);
    if (inFlight.size >= WRITES_IN_FLIGHT) await Promise.race(inFlight);
  }
  await Promise.all(inFlight);
}
