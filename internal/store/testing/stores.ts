/** For tests: stores in memory, and a stand-in for replication that commits whatever a sole master keeps. */
import { FakeClock } from "../../base/clock.js";
import { type EpochId, epochId, type RandomSource } from "../../base/ids.js";
import { silentLogger } from "../../base/logger.js";
import { epoch, seq } from "../../base/position.js";
import { MapEngine } from "../../engine/map-engine.js";
import type { FileSystem } from "../../wal/file-system.js";
import { MemoryFileSystem } from "../../wal/memory-file-system.js";
import { type ClusterChange, Store, type StoreOptions } from "../store.js";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array): string => new TextDecoder().decode(value);

/** Bytes that look random and are the same every time. */
export function seededRandom(seed = 1): RandomSource {
  let state = seed >>> 0;
  const next = (): number => {
    // Mulberry32.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return { bytes: (length) => Uint8Array.from({ length }, () => next() & 0xff) };
}

export function openStore(options: Partial<StoreOptions> & { fileSystem?: FileSystem } = {}): Promise<Store> {
  return Store.open({
    fileSystem: new MemoryFileSystem(),
    clock: new FakeClock(),
    random: seededRandom(),
    logger: silentLogger,
    engine: new MapEngine(),
    initialRole: "master",
    durability: "always",
    syncIntervalMs: 1000,
    segmentBytesMax: 1 << 20,
    pendingBytesMax: 1 << 20,
    snapshots: { intervalMs: 0, logBytes: Infinity, keep: 1 },
    retainedBytesMax: 1 << 30,
    ...options,
  });
}

/** Makes a store the sole voter of its cluster, and resolves when it takes writes. */
export async function beginSoleMastership(store: Store): Promise<void> {
  await beginMastership(store);
}

export interface MastershipOptions {
  /** Absent: the next one. */
  readonly epoch?: number;
  readonly epochId?: EpochId;
  readonly forced?: boolean;
  readonly changes?: readonly ClusterChange[];
  /** Whether what is kept after the first record is committed at once; absent: it is. */
  readonly commits?: boolean;
}

/** Makes a store master of a new epoch, and resolves when it takes writes. */
export async function beginMastership(store: Store, options: MastershipOptions = {}): Promise<void> {
  if (!store.clusterId) await store.foundCluster();
  const next = epoch(options.epoch ?? Math.max(store.promised.epoch, store.last.epoch) + 1);
  const id = options.epochId ?? epochId(next.toString(16).padStart(16, "0"));
  await store.promise({ epoch: next, candidate: store.nodeId, epochId: id }, "master");
  const first = store.beginEpoch(next, id, options);
  store.listen({
    kept: (seqKept) => {
      if (store.last.epoch === next) store.commit(options.commits === false ? seq(Math.min(seqKept, first)) : seqKept);
    },
  });
  await applied(store, first);
  await store.markCaughtUp();
}

/** An empty node of the same cluster. */
export async function joinReplica(master: Store, options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const replica = await openStore({ initialRole: "replica", random: seededRandom(2), ...options });
  await replica.joinCluster(master.clusterId!);
  return replica;
}

/** Gives a replica all that it lacks of a master's log; resolves when it keeps that. Committed is none of it. */
export async function push(master: Store, replica: Store): Promise<void> {
  for (;;) {
    const records = await master.readRecords(replica.last.seq, 1 << 20);
    if (records.length === 0) break;
    replica.appendRecords(records);
  }
  await kept(replica, replica.last.seq);
}

/** Resolves once the store keeps a seq. */
export function kept(store: Store, wanted: number): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (store.keptSeq >= wanted) resolve();
    };
    store.listen({ kept: check });
    check();
  });
}

/** Resolves once the store has applied a seq. */
export function applied(store: Store, wanted: number): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (store.appliedSeq >= wanted) resolve();
    };
    store.listen({ applied: check });
    check();
  });
}

export { epoch, seq };
