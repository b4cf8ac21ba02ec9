/** Messages between nodes, as tests of properties draw them. */
import fc from "fast-check";
import { clusterId, epochId, nodeId, transferId } from "../../base/ids.js";
import { epoch, epochMs, seq } from "../../base/position.js";
import type { MasterMessage, ReplicaMessage } from "../../replication/replicator.js";

const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
const anySeq = fc.maxSafeNat().map(seq);
const anyEpoch = fc.nat(2 ** 52).map(epoch);
const anyNumber = fc.maxSafeNat();
const uint32 = fc.nat(2 ** 32 - 1);
const position = fc.record({ epoch: anyEpoch, seq: anySeq });
const mark = fc.record({ epoch: anyEpoch, seq: anySeq, chain: uint32 });
const history = fc
  .array(
    fc.record({
      step: fc.integer({ min: 1, max: 1000 }),
      length: fc.integer({ min: 1, max: 1000 }),
      id: hex(16),
      forced: fc.boolean(),
    }),
  )
  .map((parts) => {
    let at = 0;
    let first = 0;
    return parts.map(({ step, length, id, forced }) => ({
      epoch: epoch((at += step)),
      epochId: epochId(id),
      firstSeq: seq((first += length)),
      ...(forced && { forced }),
    }));
  });
const envelope = {
  epoch: anyEpoch,
  sender: hex(32).map(nodeId),
};
const withCluster = { ...envelope, clusterId: hex(32).map(clusterId) };

const heartbeat = <T extends object>(more: fc.Arbitrary<T>) =>
  fc
    .tuple(
      fc.record({
        kind: fc.constant("heartbeat" as const),
        ...withCluster,
        commitSeq: anySeq,
        echo: anyNumber,
        answer: fc.boolean(),
        masterTimeMs: anyNumber.map(epochMs),
        round: anyNumber,
      }),
      more,
    )
    .map(([message, rest]) => Object.assign(message, rest));

/** Any message of a master that has one cluster. */
export const masterMessage: fc.Arbitrary<MasterMessage> = fc.oneof(
  fc.record({
    kind: fc.constant("hello" as const),
    ...withCluster,
    protocolVersion: uint32,
    epochId: hex(16).map(epochId),
    masterAddress: fc.string(),
    history,
    last: position,
  }),
  fc.record({ kind: fc.constant("align" as const), ...withCluster, agreement: mark }),
  fc.record({
    kind: fc.constant("append" as const),
    ...withCluster,
    previous: mark,
    records: fc.uint8Array(),
    commitSeq: anySeq,
    echo: anyNumber,
    masterTimeMs: anyNumber.map(epochMs),
    round: anyNumber,
  }),
  heartbeat(fc.record({})),
  heartbeat(fc.record({ check: fc.record({ seq: anySeq, checksum: uint32 }) })),
  fc.record({ kind: fc.constant("takeOver" as const), ...withCluster }),
  fc.record({
    kind: fc.constant("snapshotOffer" as const),
    ...withCluster,
    id: hex(32).map(transferId),
    size: anyNumber,
  }),
  fc.record({
    kind: fc.constant("snapshotChunk" as const),
    ...withCluster,
    id: hex(32).map(transferId),
    offset: anyNumber,
    bytes: fc.uint8Array(),
  }),
);

const reasons = [
  "foreign_cluster",
  "stale_epoch",
  "epoch_conflict",
  "misaligned",
  "protocol_version",
  "not_a_replica",
  "damaged_snapshot",
  "unknown",
] as const;

export const replicaMessage: fc.Arbitrary<ReplicaMessage> = fc.oneof(
  fc.record({
    kind: fc.constant("welcome" as const),
    ...envelope,
    protocolVersion: uint32,
    history,
    last: position,
    heartbeatIntervalMs: uint32,
    floorSeq: anySeq,
  }),
  fc.record({
    kind: fc.constant("ack" as const),
    ...withCluster,
    matchSeq: anySeq,
    appliedSeq: anySeq,
    probe: anyNumber,
    round: anyNumber,
  }),
  fc.record({ kind: fc.constant("snapshotAck" as const), ...withCluster, received: anyNumber }),
  fc.record({
    kind: fc.constant("snapshotAck" as const),
    ...withCluster,
    id: hex(32).map(transferId),
    received: anyNumber,
  }),
  fc.record({
    kind: fc.constant("reject" as const),
    ...withCluster,
    reason: fc.constantFrom(...reasons),
    detail: fc.string(),
  }),
);
