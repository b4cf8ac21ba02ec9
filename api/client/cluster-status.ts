/** What `Cluster.Status` says, with plain numbers and words. */
import {
  type AddReplicaResponse,
  EvictionPolicy as WirePolicy,
  MemberSource as WireSource,
  MemberState as WireState,
  NodeRole,
  type StatusResponse,
  type StorageLimits as WireLimits,
} from "../gen/cambium/v1/cluster_pb.js";
import { CambiumError } from "./cambium-error.js";
import { fromWire, type Position, toPosition } from "./wire.js";

/** `unknown` stands for a word that this client is too old to know, or that the node left out. */
export type MemberState = "self" | "disconnected" | "probing" | "transferring" | "streaming" | "refused" | "unknown";
export type MemberSource = "founder" | "listed" | "added" | "registered" | "unknown";

export interface ClusterStatus {
  /** 32 hexadecimal digits; absent when the node has not joined a cluster yet. */
  readonly clusterId?: string;
  readonly node: NodeStatus;
  /** On the master with the state of replication to each. */
  readonly members: readonly MemberStatus[];
}

export interface NodeStatus {
  readonly nodeId: string;
  readonly role: "master" | "replica" | "unknown";
  /** Where others reach the node, as `host:port`. */
  readonly address: string;
  /** Whether the node serves reads. */
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly notReadyReason?: string;
  /** The master's address as the node knows it. */
  readonly masterAddress?: string;
  /** Highest position that the node has applied. */
  readonly applied: Position;
  /** Last position in the node's log. */
  readonly last: Position;
  readonly keptSeq: number;
  readonly commitSeq: number;
  readonly matchSeq: number;
  /** The log can be read from `compactSeq` + 1. */
  readonly compactSeq: number;
  readonly keys: number;
  readonly dataBytes: number;
  readonly walBytes: number;
  readonly uptimeMs: number;
  readonly version: string;
  /** How old its answers may be; absent when it cannot tell. */
  readonly stalenessMs?: number;
  /** `always`, `interval` or `os`. */
  readonly durability: string;
  /** Records that the master has committed and the node has not applied; absent when it follows no master. */
  readonly lagRecords?: number;
  /** The highest epoch that the node has promised to follow. */
  readonly promisedEpoch: number;
  /** Records that the node had and the present history does not, since it started; they are saved in its data directory. */
  readonly divergedRecords: number;
  /** Where data of the node was set aside that was found wrong; a folder of its data directory. */
  readonly setAside?: string;
  /** Absent when the system does not tell. */
  readonly diskFreeBytes?: number;
  /** Whether the node is about to become master. */
  readonly isCandidate: boolean;
  /** `master` or `majority`: how many must keep a write before it is committed; absent before that is decided. */
  readonly commit?: string;
  /** How much may be stored in the cluster. */
  readonly storageLimits: StorageLimits;
  /** What counts against `storageLimits.maxBytes`: keys, values, and 64 bytes a key. */
  readonly accountedBytes: number;
  /** How far the clock of its machine was ahead when it started, where that is more than `clock.max_jump`; else 0. */
  readonly clockAheadMs: number;
  /** Watches that are open on the node. */
  readonly watches: number;
  /** Clients whose writes are remembered, so that one that is sent again is not done again. */
  readonly retryClients: number;
  /** What remembering them takes on each node, about, of `retries.max_bytes`. */
  readonly retryBytes: number;
}

/** What goes when there is no room: no key, the one not used for longest, the one used least, any, the one that expires soonest. */
export type EvictionPolicy = "noeviction" | "lru" | "lfu" | "random" | "ttl";

export interface StorageLimits {
  /** 0: no limit. */
  readonly maxEntries: number;
  /** 0: no limit. */
  readonly maxBytes: number;
  /** `unknown`: one that this client is too old to know. */
  readonly evictionPolicy: EvictionPolicy | "unknown";
}

export interface MemberStatus {
  /** Absent while the master has not reached a listed address yet. */
  readonly nodeId?: string;
  readonly address: string;
  /** Whether the member counts towards the commit quorum. */
  readonly voter: boolean;
  readonly source: MemberSource;
  /** Only the master knows more than `self`. */
  readonly state: MemberState;
  readonly matchSeq: number;
  readonly appliedSeq: number;
  /** Records that the member lacks. */
  readonly lagRecords: number;
  /** Milliseconds since the member last had everything. */
  readonly lagMs: number;
  /** What went wrong last, in words. */
  readonly detail?: string;
}

export function toClusterStatus(status: StatusResponse): ClusterStatus {
  const { node } = status;
  if (!node) throw new CambiumError("internal", "the node answered without its own status");
  return {
    ...(status.clusterId !== "" && { clusterId: status.clusterId }),
    node: {
      nodeId: node.nodeId,
      role: toRole(node.role),
      address: node.address,
      ready: node.ready,
      ...(node.notReadyReason !== "" && { notReadyReason: node.notReadyReason }),
      ...(node.masterAddress !== "" && { masterAddress: node.masterAddress }),
      applied: toPosition(node.applied),
      last: toPosition(node.last),
      keptSeq: fromWire(node.keptSeq, "kept_seq"),
      commitSeq: fromWire(node.commitSeq, "commit_seq"),
      matchSeq: fromWire(node.matchSeq, "match_seq"),
      compactSeq: fromWire(node.compactSeq, "compact_seq"),
      keys: fromWire(node.keys, "keys"),
      dataBytes: fromWire(node.dataBytes, "data_bytes"),
      walBytes: fromWire(node.walBytes, "wal_bytes"),
      uptimeMs: fromWire(node.uptimeMs, "uptime_ms"),
      version: node.version,
      ...(node.stalenessMs !== undefined && { stalenessMs: fromWire(node.stalenessMs, "staleness_ms") }),
      durability: node.durability,
      ...(node.lagRecords !== undefined && { lagRecords: fromWire(node.lagRecords, "lag_records") }),
      promisedEpoch: fromWire(node.promisedEpoch, "promised_epoch"),
      divergedRecords: fromWire(node.divergedRecords, "diverged_records"),
      ...(node.setAside !== "" && { setAside: node.setAside }),
      ...(node.diskFreeBytes !== undefined && { diskFreeBytes: fromWire(node.diskFreeBytes, "disk_free_bytes") }),
      isCandidate: node.isCandidate,
      ...(node.commit !== "" && { commit: node.commit }),
      storageLimits: toStorageLimits(node.storageLimits),
      accountedBytes: fromWire(node.accountedBytes, "accounted_bytes"),
      clockAheadMs: fromWire(node.clockAheadMs, "clock_ahead_ms"),
      watches: fromWire(node.watches, "watches"),
      retryClients: fromWire(node.retryClients, "retry_clients"),
      retryBytes: fromWire(node.retryBytes, "retry_bytes"),
    },
    members: status.members.map(toMemberStatus),
  };
}

const POLICIES: Readonly<Record<EvictionPolicy, WirePolicy>> = {
  noeviction: WirePolicy.NOEVICTION,
  lru: WirePolicy.LRU,
  lfu: WirePolicy.LFU,
  random: WirePolicy.RANDOM,
  ttl: WirePolicy.TTL,
};

/** An older node, which says nothing of them, has none. */
export function toStorageLimits(limits: WireLimits | undefined): StorageLimits {
  if (!limits) return { maxEntries: 0, maxBytes: 0, evictionPolicy: "noeviction" };
  const policies = Object.entries(POLICIES) as [EvictionPolicy, WirePolicy][];
  return {
    maxEntries: fromWire(limits.maxEntries, "max_entries"),
    maxBytes: fromWire(limits.maxBytes, "max_bytes"),
    evictionPolicy: policies.find(([, wire]) => wire === limits.evictionPolicy)?.[0] ?? "unknown",
  };
}

export function toWirePolicy(policy: EvictionPolicy | undefined): WirePolicy {
  return policy === undefined ? WirePolicy.UNSPECIFIED : POLICIES[policy];
}

export function toMemberStatus(member: NonNullable<AddReplicaResponse["member"]>): MemberStatus {
  return {
    ...(member.nodeId !== "" && { nodeId: member.nodeId }),
    address: member.address,
    voter: member.voter,
    source: toSource(member.source),
    state: toState(member.state),
    matchSeq: fromWire(member.matchSeq, "match_seq"),
    appliedSeq: fromWire(member.appliedSeq, "applied_seq"),
    lagRecords: fromWire(member.lagRecords, "lag_records"),
    lagMs: fromWire(member.lagMs, "lag_ms"),
    ...(member.detail !== "" && { detail: member.detail }),
  };
}

function toRole(role: NodeRole): NodeStatus["role"] {
  switch (role) {
    case NodeRole.MASTER:
      return "master";
    case NodeRole.REPLICA:
      return "replica";
    default:
      return "unknown";
  }
}

function toState(state: WireState): MemberState {
  switch (state) {
    case WireState.SELF:
      return "self";
    case WireState.DISCONNECTED:
      return "disconnected";
    case WireState.PROBING:
      return "probing";
    case WireState.STREAMING:
      return "streaming";
    case WireState.TRANSFERRING:
      return "transferring";
    case WireState.REFUSED:
      return "refused";
    default:
      return "unknown";
  }
}

function toSource(source: WireSource): MemberSource {
  switch (source) {
    case WireSource.FOUNDER:
      return "founder";
    case WireSource.LISTED:
      return "listed";
    case WireSource.ADDED:
      return "added";
    case WireSource.REGISTERED:
      return "registered";
    default:
      return "unknown";
  }
}
