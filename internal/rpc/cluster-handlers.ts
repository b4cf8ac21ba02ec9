/** `Cluster`: what an operator asks of a node. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { type Cluster, NodeStatusSchema, type SlowCallSchema } from "../../api/gen/cambium/v1/cluster_pb.js";
import type { Clock } from "../base/clock.js";
import type { NodeId } from "../base/ids.js";
import type { LogControl, LogLevel } from "../base/logger.js";
import { toWire64 } from "../base/position.js";
import { memberToWire, nodeIdFromText, positionToWire, roleToWire } from "./convert.js";
import { checkAddress } from "./limits.js";
import { backupMessages } from "./backup-messages.js";
import type { RpcBackups, RpcReplicator, RpcStore, RpcWatches } from "./ports.js";
import type { Readiness } from "./readiness.js";
import { RequestError } from "./request-error.js";
import type { SlowCall, SlowCalls } from "./slow-calls.js";
import { storageLimitsFromWire, storageLimitsToWire } from "./storage-limits.js";

export interface ClusterOptions {
  readonly store: RpcStore;
  readonly backups: RpcBackups;
  readonly replicator: RpcReplicator;
  readonly watches: Pick<RpcWatches, "count">;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly version: string;
  readonly advertisedAddress: () => string;
  readonly logControl: LogControl;
  readonly slowCalls: SlowCalls;
}

export function clusterHandlers(options: ClusterOptions): ServiceImpl<typeof Cluster> {
  const { store, backups, replicator, watches, readiness, clock, version, advertisedAddress } = options;
  const { logControl, slowCalls } = options;
  const startedMs = clock.monotonicMs();
  return {
    status() {
      const status = store.status();
      const stalenessMs = replicator.stalenessMs();
      const { lagRecords } = replicator;
      const { diskFreeBytes } = status;
      const notReadyReason = readiness.reason();
      return {
        clusterId: status.clusterId ?? "",
        node: create(NodeStatusSchema, {
          nodeId: status.nodeId,
          role: roleToWire(status.role),
          address: advertisedAddress(),
          ready: notReadyReason === "",
          notReadyReason,
          masterAddress: replicator.masterAddress ?? "",
          applied: positionToWire(status.applied),
          last: positionToWire(status.last),
          keptSeq: toWire64(status.keptSeq),
          commitSeq: toWire64(replicator.commitSeq),
          matchSeq: toWire64(replicator.matchSeq),
          compactSeq: toWire64(status.compactSeq),
          keys: toWire64(status.keys),
          dataBytes: toWire64(status.dataBytes),
          walBytes: toWire64(status.walBytes),
          uptimeMs: toWire64(Math.floor(clock.monotonicMs() - startedMs)),
          version,
          ...(stalenessMs !== undefined && { stalenessMs: toWire64(Math.ceil(stalenessMs)) }),
          durability: status.durability,
          ...(lagRecords !== undefined && { lagRecords: toWire64(lagRecords) }),
          promisedEpoch: toWire64(store.promised.epoch),
          divergedRecords: toWire64(status.divergedRecords),
          setAside: status.setAside,
          // What file systems tell is reckoned in blocks, and may be more than a number holds exactly.
          ...(diskFreeBytes !== undefined && { diskFreeBytes: toWire64(Math.min(diskFreeBytes, MAX_SAFE)) }),
          isCandidate: replicator.isCandidate,
          // Before the first record nothing has been decided.
          commit: status.applied.seq === 0 ? "" : status.settings.commit,
          storageLimits: storageLimitsToWire(status.settings.limits),
          accountedBytes: toWire64(status.accountedBytes),
          clockAheadMs: toWire64(status.clockAheadMs),
          watches: toWire64(watches.count),
          retryClients: toWire64(status.retryClients),
          retryBytes: toWire64(status.retryBytes),
        }),
        members: replicator.members().map(memberToWire),
      };
    },

    async addReplica(request) {
      checkAddress(request.address, "address");
      return { member: memberToWire(await replicator.addReplica(request.address)) };
    },

    async removeReplica(request) {
      if (request.nodeId === "" && request.address === "") {
        throw new RequestError("invalid", "node_id and address are both empty; name the replica by one of them");
      }
      await replicator.removeReplica(memberOf(request));
      return {};
    },

    async promote({ force }) {
      const { epoch, firstSeq, unreached, knownLostRecords } = await replicator.promote({ force });
      return {
        position: positionToWire({ epoch, seq: firstSeq }),
        unreached: [...unreached],
        knownLostRecords: toWire64(knownLostRecords),
      };
    },

    async transfer(request, { signal }) {
      const { nodeId, address, epoch, pauseMs } = await replicator.transfer(memberOf(request), signal);
      return { nodeId, address, epoch: toWire64(epoch), pauseMs: toWire64(Math.ceil(pauseMs)) };
    },

    async setStorageLimits(request) {
      return { limits: storageLimitsToWire(await store.changeLimits(storageLimitsFromWire(request))) };
    },

    async createSnapshot() {
      const startMs = clock.monotonicMs();
      const { header, end, bytes } = await backups.createSnapshot();
      return {
        fromSeq: toWire64(header.from.seq),
        toSeq: toWire64(end.to),
        entries: toWire64(end.entries),
        bytes: toWire64(bytes),
        durationMs: toWire64(Math.round(clock.monotonicMs() - startMs)),
      };
    },

    setLogLevel({ level }) {
      const found = LOG_LEVELS.find((each) => each === level);
      if (found === undefined) {
        const text = `level is ${JSON.stringify(level.slice(0, 80))}; it is one of ${LOG_LEVELS.join(", ")}`;
        throw new RequestError("invalid", text);
      }
      const levelBefore = logControl.level;
      logControl.level = found;
      return { levelBefore };
    },

    slowLog() {
      return {
        calls: slowCalls.list().map((call) => slowCallToWire(call)),
        thresholdMs: toWire64(slowCalls.thresholdMs),
        total: toWire64(slowCalls.total),
      };
    },

    backup: (_request, { signal }) => backupMessages({ stream: backups.backup(), clock, signal }),
  };
}

/** Rising. */
const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];
const MAX_SAFE = Number.MAX_SAFE_INTEGER;

/** A member as an operator names it; by neither, where that is allowed. */
function memberOf({ nodeId, address }: { readonly nodeId: string; readonly address: string }): {
  nodeId?: NodeId;
  address?: string;
} {
  if (address !== "") checkAddress(address, "address");
  return {
    ...(nodeId !== "" && { nodeId: nodeIdFromText(nodeId, "node_id") }),
    ...(address !== "" && { address }),
  };
}

function slowCallToWire(call: SlowCall): MessageInitShape<typeof SlowCallSchema> {
  const { startedMs, durationMs, keys, keyBytes, valueBytes, ...words } = call;
  return {
    ...words,
    startedMs: toWire64(startedMs),
    durationMs: toWire64(Math.ceil(durationMs)),
    keys: toWire64(keys),
    keyBytes: toWire64(keyBytes),
    valueBytes: toWire64(valueBytes),
  };
}
