import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PushRequestSchema, PushResponseSchema } from "../../api/gen/cambium/v1/replication_pb.js";
import type { MasterMessage, ReplicaMessage } from "../replication/replicator.js";
import {
  masterMessageFromWire,
  masterMessageToWire,
  replicaMessageFromWire,
  replicaMessageToWire,
} from "./peer-messages.js";
import { frameOfMaster, frameOfReplica, PushReader } from "./peer-wire.js";
import { masterMessage, replicaMessage } from "./testing/any-messages.js";

const HEAD_BYTES = 5;

/** The message in a frame, whose head is right. */
function contentOf(frame: Uint8Array): Buffer {
  const bytes = Buffer.from(frame);
  expect(bytes[0]).toBe(0);
  expect(bytes.readUInt32BE(1)).toBe(bytes.length - HEAD_BYTES);
  return bytes.subarray(HEAD_BYTES);
}

/** The same with bytes of one kind. */
function plain<M extends MasterMessage | ReplicaMessage>(message: M): M {
  if (message.kind === "append") return { ...message, records: new Uint8Array(message.records) };
  if (message.kind === "snapshotChunk") return { ...message, bytes: new Uint8Array(message.bytes) };
  return message;
}

const byLibrary = {
  ofMaster: (bytes: Uint8Array): MasterMessage => masterMessageFromWire(fromBinary(PushRequestSchema, bytes)),
  ofReplica: (bytes: Uint8Array): ReplicaMessage => replicaMessageFromWire(fromBinary(PushResponseSchema, bytes)),
};

/** What comes of it: a message, or what is said against the bytes. */
function outcome(read: () => MasterMessage | ReplicaMessage): unknown {
  try {
    return plain(read());
  } catch (error) {
    const said = error instanceof ConnectError ? error.rawMessage : (error as Error).message;
    return said.replace(/^parse binary: /, "");
  }
}

describe("messages of a push, written and read by hand", () => {
  test("of a master are to the library what they are here, both ways", () => {
    const reader = new PushReader();
    fc.assert(
      fc.property(masterMessage, (message) => {
        const written = contentOf(Buffer.concat(frameOfMaster(message)));
        expect(plain(byLibrary.ofMaster(written))).toEqual(message);
        expect(plain(reader.ofMaster(written))).toEqual(message);
        const theirs = Buffer.from(toBinary(PushRequestSchema, masterMessageToWire(message)));
        expect(plain(reader.ofMaster(theirs))).toEqual(message);
        expect(written).toHaveLength(theirs.length + (isEmptyAppend(message) ? 2 : 0));
      }),
      { numRuns: 500 },
    );
  });

  test("of a replica are to the library what they are here, both ways", () => {
    const reader = new PushReader();
    fc.assert(
      fc.property(replicaMessage, (message) => {
        const written = contentOf(frameOfReplica(message));
        const theirs = Buffer.from(toBinary(PushResponseSchema, replicaMessageToWire(message)));
        expect(Buffer.compare(written, theirs)).toBe(0);
        expect(reader.ofReplica(theirs)).toEqual(message);
      }),
      { numRuns: 500 },
    );
  });

  test("leave records where they lie, and are read as views", () => {
    const records = Buffer.alloc(1000, 7);
    const message = { ...fc.sample(masterMessage, 100).find(({ kind }) => kind === "append")!, records };
    const [head, tail] = frameOfMaster(message);
    expect(tail).toBe(records);
    const bytes = Buffer.concat([head, records]).subarray(HEAD_BYTES);
    const back = new PushReader().ofMaster(bytes);
    expect(back.kind === "append" && back.records.buffer === bytes.buffer).toBe(true);
  });

  test("with bytes changed, cut off, doubled or put in another order are what the library makes of them", () => {
    const reader = new PushReader();
    const change = fc.record({
      at: fc.nat(),
      bytes: fc.uint8Array({ maxLength: 4 }),
      removed: fc.nat({ max: 4 }),
      appended: fc.nat({ max: 2 }),
    });
    const changed = (
      bytes: Uint8Array,
      { at, bytes: put, removed, appended }: typeof change extends fc.Arbitrary<infer C> ? C : never,
    ): Buffer => {
      const place = at % (bytes.length + 1);
      const parts = [bytes.subarray(0, place), put, bytes.subarray(place + removed)];
      for (let n = 0; n < appended; n++) parts.push(bytes);
      return Buffer.concat(parts);
    };
    fc.assert(
      fc.property(masterMessage, change, (message, how) => {
        const bytes = changed(contentOf(Buffer.concat(frameOfMaster(message))), how);
        expect(outcome(() => reader.ofMaster(bytes))).toEqual(outcome(() => byLibrary.ofMaster(bytes)));
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(replicaMessage, change, (message, how) => {
        const bytes = changed(contentOf(frameOfReplica(message)), how);
        expect(outcome(() => reader.ofReplica(bytes))).toEqual(outcome(() => byLibrary.ofReplica(bytes)));
      }),
      { numRuns: 3000 },
    );
  });
});

/** Whose field of records the library leaves out. */
const isEmptyAppend = (message: MasterMessage): boolean => message.kind === "append" && message.records.length === 0;
