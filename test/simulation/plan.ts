/** What a seed decides before anything begins: the cluster, its limits, the load, and how bad the world is. */
import type { RetryLimits } from "../../internal/store/retry-guard.js";
import type { StorageLimits } from "../../internal/store/room.js";
import type { Durability } from "../../internal/wal/log.js";
import type { OperationKind } from "./client.js";
import type { Random } from "./random.js";
import type { DiskPace } from "./sim-disk.js";

export interface Plan {
  readonly seed: number;
  readonly size: number;
  /** Whether `cluster.nodes` is given. */
  readonly listed: boolean;
  readonly commit: "master" | "majority";
  readonly durability: Durability;
  /** Of replicas without `cluster.nodes`: whether they ask the master, or the master's file lists them. */
  readonly introduces: "registration" | "list";
  /** A node that is not there at the beginning, and joins later. */
  readonly spare: boolean;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  readonly recordSegmentBytesMax: number;
  readonly pendingBytesMax: number;
  readonly snapshotIntervalMs: number;
  readonly snapshotLogBytes: number;
  readonly snapshotsKept: number;
  readonly retainedBytesMax: number;
  readonly reserveBytes: number;
  readonly heartbeatIntervalMs: number;
  readonly batchBytes: number;
  readonly windowBytes: number;
  readonly retentionBytes: number;
  readonly maxReadWaitMs: number;
  readonly writeTimeoutMs: number;
  readonly pace: DiskPace;
  readonly network: { readonly delayMs: number; readonly loss: number; readonly duplication: number };
  readonly clients: number;
  readonly operations: number;
  readonly followers: number;
  readonly pauseMs: number;
  readonly clientLoss: number;
  readonly patienceMs: number;
  readonly valueBytesMax: number;
  /** The part of writes that may be sent again. */
  readonly retrying: number;
  readonly retries: RetryLimits;
  readonly weights: Readonly<Record<OperationKind, number>>;
  /** Faults at least; they go on for as long as the clients do. */
  readonly faults: number;
  /** Typical pause between two faults. */
  readonly faultPauseMs: number;
  /** How often each kind of fault comes, as against the others. */
  readonly faultWeights: Readonly<Record<FaultKind, number>>;
  readonly clockDrift: number;
  /** Of each node by chance; all nodes must come to the same. */
  readonly engines: readonly ("slab" | "map")[];
  /** Of what is stored, from the founding on. */
  readonly limits: StorageLimits | undefined;
}

export const FAULT_KINDS = [
  "kill",
  "cutPower",
  "cutAllPower",
  "close",
  "pause",
  "partition",
  "isolate",
  "oneWay",
  "breakConnection",
  "halfOpen",
  "slowNetwork",
  "lossyNetwork",
  "wallJump",
  "drift",
  "slowDisk",
  "fullDisk",
  "shortWrites",
  "failWrite",
  "failSync",
  "failRead",
  "rot",
  "wipe",
  "promote",
  "forcePromote",
  "transfer",
  "addReplica",
  "removeReplica",
  "snapshot",
  "changeLimits",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

const USUAL_WEIGHTS: Readonly<Record<FaultKind, number>> = {
  kill: 6,
  cutPower: 5,
  cutAllPower: 1,
  close: 2,
  pause: 3,
  partition: 3,
  isolate: 4,
  oneWay: 3,
  breakConnection: 4,
  halfOpen: 2,
  slowNetwork: 2,
  lossyNetwork: 2,
  wallJump: 1,
  drift: 1,
  slowDisk: 2,
  fullDisk: 2,
  shortWrites: 1,
  failWrite: 1,
  failSync: 1,
  failRead: 1,
  rot: 1,
  wipe: 1,
  promote: 4,
  forcePromote: 1,
  transfer: 3,
  addReplica: 1,
  removeReplica: 1,
  snapshot: 2,
  changeLimits: 1,
};

const OPERATION_WEIGHTS: Readonly<Record<OperationKind, number>> = {
  set: 18,
  setIf: 10,
  setExpiring: 4,
  delete: 5,
  deleteRange: 2,
  touch: 3,
  increment: 8,
  batch: 5,
  txn: 12,
  getLocal: 8,
  getAtLeast: 12,
  getBounded: 5,
  getLinearizable: 16,
  scan: 4,
  count: 2,
  produce: 7,
  consume: 5,
  truncate: 1,
};

export function planOf(seed: number, random: Random): Plan {
  const size = random.pick([1, 2, 3, 3, 3, 3, 5, 5]);
  const listed = random.chance(size >= 3 ? 0.75 : 0.4);
  const commit = listed && random.chance(0.75) ? "majority" : "master";
  const durability = random.weighted<Durability>({ always: 7, interval: 2, os: 1 });
  const clients = random.between(2, 5);
  const faultWeights = { ...USUAL_WEIGHTS };
  // Each seed has its favourites, so that some faults meet often that would rarely meet otherwise.
  for (const kind of FAULT_KINDS) {
    if (random.chance(0.25)) faultWeights[kind] = 0;
    else if (random.chance(0.15)) faultWeights[kind] *= 5;
  }
  if (random.chance(0.7)) faultWeights.forcePromote = 0;
  const tinyLog = random.chance(0.6);
  const slowReads = random.chance(0.4);
  const limits = random.chance(0.3) ? limitsOf(random) : undefined;
  const engines = Array.from({ length: size + 1 }, () => random.pick(["slab", "map"] as const));
  return {
    seed,
    size,
    listed,
    commit,
    durability,
    introduces: random.pick(["registration", "list"]),
    spare: random.chance(0.25),
    syncIntervalMs: random.pick([5, 50, 500]),
    segmentBytesMax: tinyLog ? random.between(600, 4000) : 64 * 1024,
    recordSegmentBytesMax: random.between(400, 2000),
    pendingBytesMax: random.pick([2000, 64 * 1024]),
    snapshotIntervalMs: random.pick([0, 0, 2000]),
    snapshotLogBytes: tinyLog ? random.between(1000, 10_000) : random.pick([Infinity, 20_000]),
    snapshotsKept: random.between(1, 2),
    retainedBytesMax: random.pick([0, 2000, 100_000]),
    reserveBytes: random.pick([0, 8192]),
    heartbeatIntervalMs: random.pick([50, 100, 250, 1000]),
    batchBytes: random.pick([64, 300, 1000, 64 * 1024]),
    windowBytes: random.pick([200, 1000, 4000, 256 * 1024]),
    retentionBytes: random.pick([0, 0, 1500]),
    maxReadWaitMs: random.pick([300, 2000]),
    writeTimeoutMs: random.pick([500, 3000]),
    pace: {
      writeMs: random.pick([0.02, 0.1, 0.5]),
      syncMs: random.pick([0.2, 2, 8]),
      readMs: slowReads ? random.pick([0.05, 0.5]) : 0,
    },
    network: {
      delayMs: random.pick([0.2, 1, 5, 20]),
      loss: random.pick([0, 0, 0.01, 0.05]),
      duplication: random.pick([0, 0.02, 0.2]),
    },
    clients,
    operations: random.between(200, 260),
    followers: random.between(1, 2),
    pauseMs: random.pick([10, 40, 100]),
    clientLoss: random.pick([0, 0.005, 0.02]),
    patienceMs: random.pick([1000, 4000]),
    valueBytesMax: random.pick([20, 200, 900]),
    retrying: random.pick([0, 0.5, 1]),
    retries: { bytesMax: random.pick([4000, 1 << 20, 1 << 20, 1 << 20]), retentionMs: random.pick([5000, 3_600_000]) },
    weights: OPERATION_WEIGHTS,
    faults: random.between(3, 9),
    faultPauseMs: random.pick([200, 600, 1500]),
    faultWeights,
    clockDrift: random.pick([0, 0.0002, 0.02]),
    engines,
    limits,
  };
}

/** So little that some of the few keys of the simulation have to go, or come to nothing. */
export function limitsOf(random: Random): StorageLimits {
  return {
    entriesMax: random.pick([0, 4, 7]),
    bytesMax: random.pick([0, 600, 2000]),
    policy: random.pick(["noeviction", "lru", "lfu", "random", "ttl"]),
  };
}
