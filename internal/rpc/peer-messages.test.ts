import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  PushRequestSchema,
  PushResponseSchema,
  type RejectReason as WireReason,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { clusterId, nodeId } from "../base/ids.js";
import { epoch, epochMs, seq, WireRangeError } from "../base/position.js";
import {
  masterMessageFromWire,
  masterMessageToWire,
  replicaMessageFromWire,
  replicaMessageToWire,
} from "./peer-messages.js";
import { RequestError } from "./request-error.js";
import { masterMessage, replicaMessage } from "./testing/any-messages.js";

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
