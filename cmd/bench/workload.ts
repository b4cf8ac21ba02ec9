/** What is read and written: keys of sixteen bytes, and values of a hundred. */
import { create } from "@bufbuild/protobuf";
import { type GetResponse, GetResponseSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";

/** Where nothing else is said, so many keys are there. */
export const KEY_COUNT = 1000;

/** A hundred bytes, all different, so that an answer that holds them holds the value. */
export const VALUE: Uint8Array = Uint8Array.from({ length: 100 }, (_, index) => 100 + index);

export function keyOf(n: number): string {
  return `k${String(n).padStart(15, "0")}`;
}

/** An answer to a Get as long as the real ones. */
export const sampleAnswer: GetResponse = create(GetResponseSchema, {
  exists: true,
  value: VALUE,
  position: { epoch: 1n, seq: 100_000n },
  createSeq: 500n,
  modSeq: 90_000n,
  stalenessMs: 0n,
  token: Uint8Array.from({ length: 33 }, (_, index) => index),
});
