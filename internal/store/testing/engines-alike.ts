/**
 * For tests: the same history carried out by a master and by a replica that is fed with its log, each with an engine of its own, by
 * restarts of both from snapshot and log, and by a plain map that knows nothing of engines. Their contents and checksums are equal.
 */
import { expect } from "vitest";
import { FakeClock } from "../../base/clock.js";
import { epochMs } from "../../base/position.js";
import type { Engine, KeyedEntry } from "../../engine/engine.js";
import { MapEngine } from "../../engine/map-engine.js";
import { SlabEngine } from "../../engine/slab-engine.js";
import { MemoryFileSystem } from "../../wal/memory-file-system.js";
import type { StorageLimits } from "../room.js";
import { type Store, StoreError, type WriteCommand } from "../store.js";
import { applied, beginMastership, bytes, joinReplica, openStore, push, seededRandom } from "./stores.js";

export interface AlikeOptions {
  readonly runs: number;
  /** Of each run, about. */
  readonly operations: number;
}

interface Node {
  readonly store: Store;
  readonly engine: Engine;
  readonly fileSystem: MemoryFileSystem;
}

const KEYS = 400;
/** After so long at most, a store looks again for what is due. */
const REMOVAL_RETRY_MS = 100;
const POLICIES: readonly StorageLimits["policy"][] = ["noeviction", "lru", "lfu", "random", "ttl"];

/** Whole numbers below a bound, the same for each seed. */
function chanceOf(seed: number): (below: number) => number {
  const random = seededRandom(seed);
  return (below) => new DataView(random.bytes(4).slice().buffer).getUint32(0) % below;
}

export async function proveEnginesAlike({ runs, operations }: AlikeOptions): Promise<void> {
  let [evicted, expired, snapshots] = [0, 0, 0];
  for (let seed = 1; seed <= runs; seed++) {
    const chance = chanceOf(seed);
    const clock = new FakeClock();
    const policy = POLICIES[seed % POLICIES.length]!;
    let master = await start(clock, engineOf(seed % 2 === 0));
    const limits = { entriesMax: 0, bytesMax: chance(2) === 0 ? 0 : 30_000, policy };
    await beginMastership(master.store, {
      changes: [{ kind: "settings", settings: { commit: "master", voters: "master", limits } }],
    });
    let replica = await follow(master, clock, engineOf(seed % 2 === 1));
    for (let done = 0; done < operations;) {
      const act = chance(100);
      if (act < 80) done += await write(master.store, chance);
      else if (act < 88) await pass(clock, master, chance(4000));
      else if (act < 92) for (let i = 0; i < 20; i++) master.store.get(bytes(`key-${chance(KEYS)}`));
      else if (act < 95) snapshots += await snapshot(chance(2) === 0 ? master : replica);
      else if (act < 97) {
        master = await restart(master, clock, engineOf(chance(2) === 0));
        await beginMastership(master.store);
      } else if (act < 98) replica = await restart(replica, clock, engineOf(chance(2) === 0));
      else await compare(master, replica);
    }
    await compare(master, replica);
    const { signal } = new AbortController();
    const after = master.store.compactSeq;
    const page = await master.store.updates({ after, limit: 10_000, maxBytes: 1 << 26, waitMs: 0, signal });
    evicted += page.events.filter(({ type }) => type === "evict").length;
    expired += page.events.filter(({ type }) => type === "expire").length;
    await Promise.all([master.store.close(), replica.store.close()]);
  }
  // What never came up would not have been shown.
  expect([evicted > 0, expired > 0, snapshots > 0]).toEqual([true, true, true]);
}

const engineOf = (isPlain: boolean): Engine => (isPlain ? new MapEngine() : new SlabEngine());

async function start(clock: FakeClock, engine: Engine): Promise<Node> {
  const fileSystem = new MemoryFileSystem();
  const store = await openStore({ fileSystem, clock, engine, segmentBytesMax: 1 << 14 });
  return { store, engine, fileSystem };
}

async function follow(master: Node, clock: FakeClock, engine: Engine): Promise<Node> {
  const fileSystem = new MemoryFileSystem();
  const store = await joinReplica(master.store, { fileSystem, clock, engine, segmentBytesMax: 1 << 14 });
  await push(master.store, store);
  store.commit(store.last.seq);
  await store.markCaughtUp();
  return { store, engine, fileSystem };
}

async function restart({ store, fileSystem }: Node, clock: FakeClock, engine: Engine): Promise<Node> {
  await store.close();
  return { store: await openStore({ fileSystem, clock, engine, segmentBytesMax: 1 << 14 }), engine, fileSystem };
}

/** Some keys at once; gives how many. */
async function write(store: Store, chance: (below: number) => number): Promise<number> {
  const commands = Array.from({ length: 1 + chance(5) }, (): WriteCommand => {
    const key = bytes(`key-${chance(KEYS)}`);
    if (chance(5) === 0) return { kind: "delete", key };
    const value = new Uint8Array(chance(20) === 0 ? chance(6000) : chance(200)).fill(chance(256));
    return chance(3) === 0 ? { kind: "set", key, value, ttlMs: 1 + chance(10_000) } : { kind: "set", key, value };
  });
  try {
    await store.write(commands);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== "storage_full") throw error;
  }
  return commands.length;
}

/** Lets time pass, and what falls due be removed. */
async function pass(clock: FakeClock, { store, engine }: Node, ms: number): Promise<void> {
  clock.advance(ms);
  while (engine.due(store.masterTimeMs(), 1).length > 0) {
    // Where the store had only a bound of when a key is due, it looks again after a while; so time has to go on.
    const next = applied(store, store.appliedSeq + 1);
    clock.advance(REMOVAL_RETRY_MS);
    await next;
  }
}

async function snapshot({ store }: Node): Promise<number> {
  if (!store.status().ready) return 0;
  await store.createSnapshot();
  return 1;
}

async function compare(master: Node, replica: Node): Promise<void> {
  await replica.store.whenApplied(replica.store.appliedSeq, new AbortController().signal);
  if (replica.store.last.seq < master.store.compactSeq) return;
  await push(master.store, replica.store);
  replica.store.commit(replica.store.last.seq);
  await replica.store.whenApplied(master.store.appliedSeq, new AbortController().signal);
  expect(replica.store.stateCheck()).toEqual(master.store.stateCheck());
  const [all, others] = [contentOf(master.engine), contentOf(replica.engine)];
  expect(others).toEqual(all);
  expect(scanOf(master.engine, true).toReversed()).toEqual(scanOf(replica.engine, false));
  expect([...all.keys()].toSorted()).toEqual(scanOf(master.engine, false));
}

const LAST = epochMs(0);

function contentOf(engine: Engine): Map<string, string> {
  const found = new Map<string, string>();
  for (const { key, value, createSeq, modSeq, expiresAtMs } of all(engine.walk(Number.MAX_SAFE_INTEGER as never))) {
    found.set(
      Buffer.from(key).toString(),
      `${createSeq} ${modSeq} ${expiresAtMs} ${Buffer.from(value).toString("hex")}`,
    );
  }
  return new Map([...found].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function scanOf(engine: Engine, isReverse: boolean): string[] {
  return [...all(engine.scan({ start: new Uint8Array(0) }, LAST, isReverse))].map(({ key }) =>
    Buffer.from(key).toString(),
  );
}

function* all(entries: Iterator<KeyedEntry, undefined>): Generator<KeyedEntry> {
  for (let next = entries.next(); !next.done; next = entries.next()) yield next.value;
}
