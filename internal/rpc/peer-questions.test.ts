import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { PromiseRefusal as WireRefusal } from "../../api/gen/cambium/v1/replication_pb.js";
import {
  ReadIndexRequestSchema,
  ReadIndexResponseSchema,
  RequestPromiseRequestSchema,
  RequestPromiseResponseSchema,
  SurveyRequestSchema,
  SurveyResponseSchema,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { AssertionError } from "../base/assert.js";
import { clusterId, epochId, nodeId } from "../base/ids.js";
import { epoch, seq, WireRangeError } from "../base/position.js";
import type { Asker, PromiseReply, PromiseRequest, SurveyReply } from "../replication/peer.js";
import {
  askerFromWire,
  promiseReplyFromWire,
  promiseReplyToWire,
  promiseRequestFromWire,
  promiseRequestToWire,
  readIndexReplyFromWire,
  readIndexReplyToWire,
  readIndexToWire,
  surveyReplyFromWire,
  surveyReplyToWire,
  surveyToWire,
} from "./peer-questions.js";
import { RequestError } from "./request-error.js";

const EPOCH_MAX = 2 ** 52;
const hex = (digits: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${digits}}$`));
const anyNode = hex(32).map(nodeId);
const anyCluster = hex(32).map(clusterId);
const place = fc
  .tuple(fc.integer({ min: 1, max: EPOCH_MAX }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), fc.boolean())
  .map(([e, s, isStart]) => (isStart ? { epoch: epoch(0), seq: seq(0) } : { epoch: epoch(e), seq: seq(s) }));
const address = fc.stringMatching(/^[a-z][a-z0-9.-]{0,20}:[1-9]\d{0,3}$/);
const asker: fc.Arbitrary<Asker> = fc.record({ clusterId: anyCluster, nodeId: anyNode }, { requiredKeys: ["nodeId"] });

describe("questions between nodes come back from the wire as they were", () => {
  test("who asks", () => {
    fc.assert(
      fc.property(asker, (asking) => {
        const survey = fromBinary(SurveyRequestSchema, toBinary(SurveyRequestSchema, surveyToWire(asking)));
        expect(askerFromWire(survey)).toEqual(asking);
        const index = fromBinary(ReadIndexRequestSchema, toBinary(ReadIndexRequestSchema, readIndexToWire(asking)));
        expect(askerFromWire(index)).toEqual(asking);
      }),
    );
  });

  test("what a node says of itself", () => {
    const reply: fc.Arbitrary<SurveyReply> = fc
      .record(
        {
          clusterId: anyCluster,
          nodeId: anyNode,
          promised: fc.record({ epoch: fc.nat(EPOCH_MAX).map(epoch), candidate: anyNode }, { requiredKeys: ["epoch"] }),
          last: place,
          isMaster: fc.boolean(),
          founds: fc.boolean(),
          masterAddress: address,
          unclean: fc.constant(true),
        },
        { requiredKeys: ["nodeId", "promised", "last", "isMaster", "founds"] },
      )
      .map((made) => Object.assign(made, { isMaster: made.isMaster && made.clusterId !== undefined }));
    fc.assert(
      fc.property(reply, (made) => {
        const bytes = toBinary(SurveyResponseSchema, surveyReplyToWire(made));
        expect(surveyReplyFromWire(fromBinary(SurveyResponseSchema, bytes))).toEqual(made);
      }),
    );
  });

  test("what a candidate asks for, and whether it is granted", () => {
    const required = {
      clusterId: anyCluster,
      candidate: anyNode,
      address,
      epoch: fc.integer({ min: 1, max: EPOCH_MAX }).map(epoch),
      epochId: hex(16)
        .filter((id) => /[^0]/.test(id))
        .map(epochId),
      last: place,
      forced: fc.boolean(),
      promisedEpoch: fc.nat(EPOCH_MAX).map(epoch),
    };
    const requiredKeys = Object.keys(required) as (keyof typeof required)[];
    const request: fc.Arbitrary<PromiseRequest> = fc
      .record({ ...required, voter: anyNode }, { requiredKeys })
      .map((made) => Object.assign(made, { epoch: epoch(Math.max(made.epoch, made.last.epoch, made.promisedEpoch)) }));
    const refusal = fc.constantFrom(
      undefined,
      ...(["foreign_cluster", "stale_epoch", "behind", "no_vote", "busy"] as const),
    );
    const answer = fc.record({ nodeId: anyNode, refusal, detail: fc.string(), unclean: fc.boolean(), last: place });
    fc.assert(
      fc.property(request, answer, (asked, { refusal: why, ...rest }) => {
        const bytes = toBinary(RequestPromiseRequestSchema, promiseRequestToWire(asked));
        expect(promiseRequestFromWire(fromBinary(RequestPromiseRequestSchema, bytes))).toEqual(asked);
        const reply: PromiseReply = { ...rest, ...(why && { refusal: why }), promisedEpoch: asked.epoch };
        const back = toBinary(RequestPromiseResponseSchema, promiseReplyToWire(reply));
        expect(promiseReplyFromWire(fromBinary(RequestPromiseResponseSchema, back), asked)).toEqual(reply);
      }),
    );
  });

  test("what a linearizable read must see", () => {
    fc.assert(
      fc.property(place, (position) => {
        const bytes = toBinary(ReadIndexResponseSchema, readIndexReplyToWire(position));
        expect(readIndexReplyFromWire(fromBinary(ReadIndexResponseSchema, bytes))).toEqual(position);
      }),
    );
  });
});

const id = new Uint8Array(16).fill(7);
const last = { epoch: 3n, seq: 9n };
const asking = {
  clusterId: id,
  candidate: id,
  address: "node-2:8080",
  epoch: 4n,
  epochId: 1n,
  last,
  promisedEpoch: 3n,
};
const asked = promiseRequestFromWire(create(RequestPromiseRequestSchema, asking));

describe("a question that makes no sense is refused", () => {
  test.each([
    ["no node id", { clusterId: id }, /^node_id must have 16 bytes, not 0/],
    ["a short node id", { nodeId: id.subarray(1) }, /^node_id must have 16 bytes, not 15/],
    ["a long cluster id", { nodeId: id, clusterId: new Uint8Array(17) }, /^cluster_id must have 16 bytes, not 17/],
  ])("of somebody with %s", (_what, init, message) => {
    expect(() => askerFromWire(create(SurveyRequestSchema, init))).toThrow(RequestError);
    expect(() => askerFromWire(create(ReadIndexRequestSchema, init))).toThrow(message);
  });

  test.each([
    ["no cluster", { clusterId: new Uint8Array(0) }, /^cluster_id is empty/],
    ["no candidate", { candidate: new Uint8Array(0) }, /^candidate must have 16 bytes/],
    ["no address", { address: "" }, /^address is empty/],
    ["an endless address", { address: "x".repeat(301) }, /at most 300/],
    ["no epoch", { epoch: 0n }, /^epoch is 0/],
    ["no epoch id", { epochId: 0n }, /^epoch_id is 0/],
    ["no log end", { last: undefined }, /^last is missing/],
    ["a log end that is no place", { last: { epoch: 0n, seq: 9n } }, /no place in a log/],
    ["an epoch without a record", { last: { epoch: 1n, seq: 0n } }, /no place in a log/],
    ["a log beyond the epoch", { last: { epoch: 5n, seq: 9n } }, /has a log of epoch 5/],
    ["a promise beyond the epoch", { promisedEpoch: 5n }, /has promised epoch 5/],
  ])("of a candidate with %s", (_what, init, message) => {
    const request = create(RequestPromiseRequestSchema, { ...asking, ...init });
    expect(() => promiseRequestFromWire(request)).toThrow(RequestError);
    expect(() => promiseRequestFromWire(request)).toThrow(message);
  });

  test.each([
    ["an epoch beyond what can be counted on from", { epoch: BigInt(EPOCH_MAX) + 1n }],
    ["the highest number there is as its epoch", { epoch: 2n ** 64n - 1n }],
    ["the highest number there is as its log's end", { last: { epoch: 3n, seq: 2n ** 64n - 1n } }],
    ["a promise of the highest number there is", { promisedEpoch: 2n ** 64n - 1n }],
  ])("of a candidate with %s", (_what, init) => {
    const request = create(RequestPromiseRequestSchema, { ...asking, ...init });
    expect(() => promiseRequestFromWire(request)).toThrow(WireRangeError);
  });
});

describe("an answer that makes no sense counts as none", () => {
  const survey = { clusterId: id, nodeId: id, last };

  test.each([
    ["nothing in it", { clusterId: undefined, nodeId: undefined, last: undefined }],
    ["a master without a cluster", { clusterId: new Uint8Array(0), isMaster: true }],
    ["a promise to half a node", { promisedCandidate: id.subarray(8) }],
    ["an endless address", { masterAddress: "x".repeat(301) }],
  ])("a node's word of itself with %s", (_what, init) => {
    const response = create(SurveyResponseSchema, { ...survey, ...init } as typeof survey);
    expect(() => surveyReplyFromWire(response)).toThrow(RequestError);
  });

  test("a node's word that it has promised the highest number there is", () => {
    const response = create(SurveyResponseSchema, { ...survey, promisedEpoch: BigInt(Number.MAX_SAFE_INTEGER) });
    expect(() => surveyReplyFromWire(response)).toThrow(WireRangeError);
  });

  test("an empty answer is no promise, although the value of nothing means granted", () => {
    expect(() => promiseReplyFromWire(create(RequestPromiseResponseSchema), asked)).toThrow(RequestError);
  });

  test("a promise of an epoch that the node says it has not promised", () => {
    const response = create(RequestPromiseResponseSchema, { nodeId: id, last, promisedEpoch: 3n });
    expect(() => promiseReplyFromWire(response, asked)).toThrow(/says that it granted epoch 4/);
    const higher = create(RequestPromiseResponseSchema, { nodeId: id, last, promisedEpoch: 9n });
    expect(promiseReplyFromWire(higher, asked).refusal).toBeUndefined();
  });

  test("a reason of a newer node is a refusal, and never a grant", () => {
    for (const refusal of [6, 99, -1, 2 ** 31 - 1]) {
      const response = create(RequestPromiseResponseSchema, {
        nodeId: id,
        last,
        promisedEpoch: 4n,
        refusal: refusal as WireRefusal,
        detail: "new",
      });
      const back = fromBinary(RequestPromiseResponseSchema, toBinary(RequestPromiseResponseSchema, response));
      expect(promiseReplyFromWire(back, asked)).toMatchObject({ refusal: "unknown", detail: "new" });
    }
  });

  test("no position to read at", () => {
    expect(() => readIndexReplyFromWire(create(ReadIndexResponseSchema))).toThrow(/^position is missing/);
  });
});

test("a reason that has no value on the wire is not sent, since it would arrive as a grant", () => {
  const reply: PromiseReply = {
    nodeId: nodeId("a1".repeat(16)),
    refusal: "unknown",
    detail: "",
    unclean: false,
    promisedEpoch: epoch(4),
    last: { epoch: epoch(3), seq: seq(9) },
  };
  expect(() => promiseReplyToWire(reply)).toThrow(AssertionError);
});
