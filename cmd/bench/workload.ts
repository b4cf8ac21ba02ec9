/** What is read and written: some keys, and values of a hundred bytes. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  GetRequestSchema,
  type GetResponse,
  GetResponseSchema,
  SetRequestSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";

export type Operation = "get" | "set";

const keyCount = 1000;

/** A hundred bytes, all different, so that an answer that holds them holds the value. */
const value = Uint8Array.from({ length: 100 }, (_, index) => 100 + index);

const keys = Array.from({ length: keyCount }, (_, index) => `bench/key/${String(index).padStart(6, "0")}`);

export const pathOf = { get: "/cambium.v1.KVStore/Get", set: "/cambium.v1.KVStore/Set" } as const;

/** The messages of an operation, one for each key, as base64. */
export const messagesOf: Readonly<Record<Operation, readonly string[]>> = {
  get: keys.map((key) => base64(toBinary(GetRequestSchema, create(GetRequestSchema, { key })))),
  set: keys.map((key) => base64(toBinary(SetRequestSchema, create(SetRequestSchema, { key, value })))),
};

/** What every answer to the operation contains, as base64. */
export const expectedOf: Readonly<Record<Operation, string>> = { get: base64(value), set: "" };

/** The same for a client, which encodes them itself. */
export const sampleKeys: readonly string[] = keys;
export const sampleValue: Uint8Array = value;

/** An answer to a Get as long as the real ones. */
export const sampleAnswer: GetResponse = create(GetResponseSchema, {
  exists: true,
  value,
  position: { epoch: 1n, seq: 100_000n },
  createSeq: 500n,
  modSeq: 90_000n,
  stalenessMs: 0n,
  token: Uint8Array.from({ length: 33 }, (_, index) => index),
});

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
