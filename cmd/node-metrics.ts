/** What the rooms of a node tell of themselves: looked up whenever somebody asks, but for what takes time, which is told as it happens. */
import type { Clock } from "../internal/base/clock.js";
import type { Registry } from "../internal/metrics/registry.js";
import type { MemberView, Replicator } from "../internal/replication/replicator.js";
import type { Store, StoreObserver, StoreStatus } from "../internal/store/store.js";
import type { WatchHub } from "../internal/watch/watch-hub.js";

/** From a tenth of a millisecond, which fast disks need, to what a disk takes that is about to fail. */
const SYNC_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const GROUP_RECORDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const SNAPSHOT_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600];
const ROLES = ["master", "replica", "candidate"] as const;

/** To be given to the store when it is opened. */
export function storeObserver(registry: Registry, clock: Clock): StoreObserver {
  const records = registry.counter({
    name: "cambium_wal_records_total",
    help: "Records that were written to the log.",
  });
  const bytes = registry.counter({
    name: "cambium_wal_written_bytes_total",
    help: "Bytes that were written to the log for them.",
  });
  const groups = registry.histogram({
    name: "cambium_wal_group_records",
    help: "Records that went to the log by one write.",
    buckets: GROUP_RECORDS,
  });
  const syncs = registry.histogram({
    name: "cambium_wal_sync_duration_seconds",
    help: "Time that syncs of the log took.",
    buckets: SYNC_SECONDS,
  });
  const failures = registry.counter({
    name: "cambium_wal_sync_failures_total",
    help: "Syncs of the log that failed. A node stops at its first one, so that it is seldom seen here.",
  });
  const refusals = registry.counter({
    name: "cambium_wal_disk_full_total",
    help: "Writes of the log that the disk had no room for.",
  });
  const snapshots = registry.histogram({
    name: "cambium_snapshot_duration_seconds",
    help: "Time that snapshots took.",
    buckets: SNAPSHOT_SECONDS,
  });
  let lastSnapshotMs: number | undefined;
  registry.gauge(
    {
      name: "cambium_snapshot_last_time_seconds",
      help: "When this process took its last snapshot, in seconds since 1970.",
    },
    () => lastSnapshotMs && lastSnapshotMs / 1000,
  );
  return {
    wrote(recordCount, byteCount) {
      records.increment(recordCount);
      bytes.increment(byteCount);
      groups.observe(recordCount);
    },
    synced: (seconds) => syncs.observe(seconds),
    syncFailed: () => failures.increment(),
    refused: () => refusals.increment(),
    snapshotTaken(seconds) {
      snapshots.observe(seconds);
      lastSnapshotMs = clock.wallMs();
    },
  };
}

/** What the rooms show. */
export function addNodeMetrics(
  registry: Registry,
  rooms: {
    readonly store: Store;
    readonly replicator: Replicator;
    readonly watches: WatchHub;
    readonly version: string;
  },
): void {
  const { store, replicator, watches, version } = rooms;
  const status = statusOfTick(store);
  const gauge: Add = (name, help, read) => registry.gauge({ name, help }, read);
  const counter: Add = (name, help, read) => registry.gauge({ name, help, type: "counter" }, read);
  registry.gauges(
    { name: "cambium_build_info", help: "1, for the version of the program.", labels: ["version"] },
    () => [[[version], 1]],
  );
  addStorage(gauge, counter, status, store);
  addFiles(gauge, status, store);
  addPositions(registry, gauge, status, rooms);
  addMembers(registry, replicator);
  gauge("cambium_watches", "Watches that are open.", () => watches.count);
  gauge("cambium_watch_queued_bytes", "Bytes of events that wait for watches to take them.", () => watches.queuedBytes);
  counter(
    "cambium_watch_events_total",
    "Events that watches were given, each counted for every watch.",
    () => watches.eventsGiven,
  );
}

type Add = (name: string, help: string, read: () => number | undefined) => void;

function addStorage(gauge: Add, counter: Add, status: () => StoreStatus, store: Store): void {
  gauge("cambium_keys", "Keys, overdue ones included until they are removed.", () => status().keys);
  gauge("cambium_data_bytes", "Bytes of keys and values.", () => status().dataBytes);
  gauge(
    "cambium_accounted_bytes",
    "What counts against cambium_limit_bytes: keys, values, and 64 bytes a key.",
    () => status().accountedBytes,
  );
  gauge("cambium_limit_keys", "Keys that may be stored; 0: no limit.", () => status().settings.limits?.entriesMax ?? 0);
  gauge("cambium_limit_bytes", "Bytes that may be stored; 0: no limit.", () => status().settings.limits?.bytesMax ?? 0);
  counter("cambium_expired_keys_total", "Keys that were removed since their time was over.", () => {
    return store.counts().expiredKeys;
  });
  counter("cambium_evicted_keys_total", "Keys that were removed to make room.", () => store.counts().evictedKeys);
  gauge(
    "cambium_pending_writes",
    "Writes that were proposed and are not applied yet.",
    () => store.counts().pendingWrites,
  );
  gauge("cambium_pending_bytes", "Bytes of those; see limits.max_pending_bytes.", () => store.counts().pendingBytes);
  gauge("cambium_retry_bytes", "What is remembered for safe retries takes.", () => store.counts().retryBytes);
  gauge("cambium_retry_clients", "Clients whose writes are remembered for safe retries.", () => {
    return store.counts().retryClients;
  });
}

function addFiles(gauge: Add, status: () => StoreStatus, store: Store): void {
  gauge("cambium_wal_size_bytes", "The files of the log.", () => status().walBytes);
  gauge("cambium_record_log_size_bytes", "The files of the record log.", () => store.counts().recordLogBytes);
  gauge("cambium_snapshot_size_bytes", "The newest snapshot; 0: there is none.", () => store.counts().snapshotBytes);
  gauge(
    "cambium_replication_retained_bytes",
    "The files of the log that hold what some member lacks; see replication.retain_bytes.",
    () => store.counts().lackedBytes,
  );
  gauge("cambium_disk_free_bytes", "What is free on the disk of the data directory.", () => status().diskFreeBytes);
}

function addPositions(
  registry: Registry,
  gauge: Add,
  status: () => StoreStatus,
  { store, replicator }: { readonly store: Store; readonly replicator: Replicator },
): void {
  registry.gauges(
    { name: "cambium_role", help: "1 for the role that this node has, 0 for the others.", labels: ["role"] },
    () => {
      const isMaster = store.isServingMaster || (status().role === "master" && !replicator.isCandidate);
      const role = replicator.isCandidate ? "candidate" : isMaster ? "master" : "replica";
      return ROLES.map((each) => [[each], each === role ? 1 : 0]);
    },
  );
  gauge("cambium_serving_master", "Whether this node is master and takes writes.", () => {
    return Number(store.isServingMaster && replicator.notServing() === "");
  });
  gauge("cambium_master_known", "Whether this node knows where the master is.", () => {
    return Number(replicator.masterAddress !== undefined);
  });
  gauge("cambium_epoch", "Of the last record that this node has applied.", () => status().applied.epoch);
  gauge(
    "cambium_promised_epoch",
    "The highest epoch that this node has promised to follow.",
    () => store.promised.epoch,
  );
  gauge("cambium_last_seq", "The last record of the log.", () => status().last.seq);
  gauge("cambium_kept_seq", "The last record that this node keeps safe.", () => status().keptSeq);
  gauge("cambium_commit_seq", "The last record that this node knows to be committed.", () => replicator.commitSeq);
  gauge("cambium_applied_seq", "The last record that this node has applied.", () => status().applied.seq);
  gauge("cambium_compact_seq", "The log begins after this record.", () => status().compactSeq);
  gauge(
    "cambium_replica_lag_records",
    "Of a replica: records that the master had committed, as this node heard last, and that are not applied here.",
    () => replicator.lagRecords,
  );
  gauge(
    "cambium_replica_staleness_seconds",
    "How old the state of this node is at most; absent: it cannot tell.",
    () => {
      const ms = replicator.stalenessMs();
      return ms === undefined ? undefined : ms / 1000;
    },
  );
}

/** Of a master: the other members, of which there are as many as operators allow. */
function addMembers(registry: Registry, replicator: Replicator): void {
  const labels = ["node_id", "address"];
  const others = (): readonly (readonly [readonly string[], MemberView])[] =>
    replicator
      .members()
      .filter(({ state }) => state !== undefined && state !== "self")
      .map((member) => [[member.nodeId ?? "", member.address], member]);
  registry.gauges(
    { name: "cambium_member_lag_records", help: "Of a master: records that a member lacks.", labels },
    () => others().map(([values, { lagRecords }]) => [values, lagRecords]),
  );
  registry.gauges(
    {
      name: "cambium_member_lag_seconds",
      help: "Of a master: time since a member had everything; 0 when it has.",
      labels,
    },
    () => others().map(([values, { lagMs }]) => [values, lagMs / 1000]),
  );
  registry.gauges(
    { name: "cambium_member_match_seq", help: "Of a master: the last record that a member has acknowledged.", labels },
    () => others().map(([values, { matchSeq }]) => [values, matchSeq]),
  );
  registry.gauges(
    {
      name: "cambium_member_streaming",
      help: "Of a master: whether a member is connected and takes records.",
      labels,
    },
    () => others().map(([values, { state }]) => [values, Number(state === "streaming")]),
  );
}

/** One status for all that ask in one turn of the event loop. */
function statusOfTick(store: Store): () => StoreStatus {
  let status: StoreStatus | undefined;
  return () => {
    if (!status) {
      status = store.status();
      queueMicrotask(() => (status = undefined));
    }
    return status;
  };
}
