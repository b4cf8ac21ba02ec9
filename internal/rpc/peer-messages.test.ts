import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  PushRequestSchema,
  PushResponseSchema,
  type RejectReason as WireReason,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { clusterId, epochId, nodeId, transferId } from "../base/ids.js";
import { epoch, epochMs, seq, WireRangeError } from "../base/position.js";
import type { MasterMessage, ReplicaMessage } from "../replication/replicator.js";
import {
  masterMessageFromWire,
  masterMessageToWire,
  replicaMessageFromWire,
  replicaMessageToWire,
} from "./peer-messages.js";
import { RequestError } from "./request-error.js";

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

const masterMessage: fc.Arbitrary<MasterMessage> = fc.oneof(
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

const replicaMessage: fc.Arbitrary<ReplicaMessage> = fc.oneof(
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

describe("messages between nodes", () => {
  test("of a master come back from the wire as they were", () => {
    fc.assert(
      fc.property(masterMessage, (message) => {
        const bytes = toBinary(PushRequestSchema, masterMessageToWire(message));
        expect(masterMessageFromWire(fromBinary(PushRequestSchema, bytes))).toEqual(message);
      }),
    );
  });

  test("of a replica come back from the wire as they were", () => {
    fc.assert(
      fc.property(replicaMessage, (message) => {
        const bytes = toBinary(PushResponseSchema, replicaMessageToWire(message));
        expect(replicaMessageFromWire(fromBinary(PushResponseSchema, bytes))).toEqual(message);
      }),
    );
  });

  test("carry the records of the log as a view, not as a copy", () => {
    const records = new Uint8Array([1, 2, 3]);
    const message = masterMessageToWire({
      kind: "append",
      clusterId: clusterId("c1".repeat(16)),
      epoch: epoch(1),
      sender: nodeId("a1".repeat(16)),
      previous: { epoch: epoch(1), seq: seq(1), chain: 1 },
      records,
      commitSeq: seq(1),
      echo: 0,
      masterTimeMs: epochMs(0),
      round: 0,
    });
    expect(message.message.value).toMatchObject({ records });
    const bytes = toBinary(PushRequestSchema, message);
    const back = masterMessageFromWire(fromBinary(PushRequestSchema, bytes));
    expect(back.kind === "append" && back.records.buffer === bytes.buffer).toBe(true);
  });

  const sender = new Uint8Array(16);
  const start = (number: bigint, firstSeq: bigint) => ({ epoch: number, epochId: 1n, firstSeq });
  const last = { epoch: 1n, seq: 1n };
  const hello = (value: object) => ({ sender, message: { case: "hello" as const, value } });

  test.each([
    ["no sender", { message: { case: "heartbeat", value: {} } }, /^sender must have 16 bytes, not 0/],
    ["a short cluster id", { sender, clusterId: new Uint8Array(3) }, /^cluster_id must have 16 bytes, not 3/],
    ["no content", { sender }, /does not know/],
    ["no position", hello({}), /^hello\.last is missing/],
    [
      "a short id",
      { sender, message: { case: "snapshotOffer", value: { id: new Uint8Array(3) } } },
      /^snapshot_offer\.id must/,
    ],
    ["no mark", { sender, message: { case: "align", value: {} } }, /^align\.agreement is missing/],
    [
      "an epoch below the one before",
      hello({ last, history: [start(2n, 1n), start(1n, 2n)] }),
      /^history does not rise/,
    ],
    ["two epochs at one place", hello({ last, history: [start(1n, 1n), start(2n, 1n)] }), /^history does not rise/],
    ["an epoch before the first", hello({ last, history: [start(0n, 1n)] }), /^history does not rise/],
  ])("with %s are refused, never taken over", (_what, init, message) => {
    const request = create(PushRequestSchema, init as Parameters<typeof create<typeof PushRequestSchema>>[1]);
    expect(() => masterMessageFromWire(request)).toThrow(RequestError);
    expect(() => masterMessageFromWire(request)).toThrow(message);
  });

  test("with numbers beyond safe integers are refused", () => {
    const request = create(PushRequestSchema, {
      sender,
      message: { case: "heartbeat", value: { commitSeq: 2n ** 60n } },
    });
    expect(() => masterMessageFromWire(request)).toThrow(WireRangeError);
  });

  test("with an epoch that nobody could count on from are refused", () => {
    const beyond = BigInt(2 ** 52) + 1n;
    for (const init of [
      { sender, epoch: beyond, message: { case: "takeOver" as const, value: {} } },
      hello({ last, history: [start(beyond, 1n)] }),
      hello({ last: { epoch: beyond, seq: 1n } }),
    ]) {
      expect(() => masterMessageFromWire(create(PushRequestSchema, init))).toThrow(/epoch must be \d+ at most/);
    }
  });

  test("of a newer replica may have reasons that this version does not know", () => {
    const response = create(PushResponseSchema, {
      sender,
      message: { case: "reject", value: { reason: 99 as WireReason, detail: "new" } },
    });
    expect(replicaMessageFromWire(response)).toMatchObject({ reason: "unknown", detail: "new" });
  });
});
