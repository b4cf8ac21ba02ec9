/** `Cluster`: what an operator asks of a node. */
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { type Cluster, NodeStatusSchema } from "../../api/gen/cambium/v1/cluster_pb.js";
import type { Clock } from "../base/clock.js";
import { toWire64 } from "../base/position.js";
import { memberToWire, nodeIdFromText, positionToWire, roleToWire } from "./convert.js";
import { checkAddress } from "./limits.js";
import { backupMessages } from "./backup-messages.js";
import type { RpcBackups, RpcReplicator, RpcStore } from "./ports.js";
import type { Readiness } from "./readiness.js";
import { RequestError } from "./request-error.js";

export interface ClusterOptions {
  readonly store: RpcStore;
  readonly backups: RpcBackups;
  readonly replicator: RpcReplicator;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly version: string;
  readonly advertisedAddress: () => string;
}

export function clusterHandlers(options: ClusterOptions): Partial<ServiceImpl<typeof Cluster>> {
  const { store, backups, replicator, readiness, clock, version, advertisedAddress } = options;
  const startedMs = clock.monotonicMs();
  return {
    status() {
      const status = store.status();
      const stalenessMs = replicator.stalenessMs();
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
        }),
        members: replicator.members().map(memberToWire),
      };
    },

    async addReplica(request) {
      checkAddress(request.address, "address");
      return { member: memberToWire(await replicator.addReplica(request.address)) };
    },

    async removeReplica({ nodeId, address }) {
      if (nodeId === "" && address === "") {
        throw new RequestError("invalid", "node_id and address are both empty; name the replica by one of them");
      }
      if (address !== "") checkAddress(address, "address");
      await replicator.removeReplica({
        ...(nodeId !== "" && { nodeId: nodeIdFromText(nodeId, "node_id") }),
        ...(address !== "" && { address }),
      });
      return {};
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

    backup: (_request, { signal }) => backupMessages({ stream: backups.backup(), clock, signal }),
  };
}
