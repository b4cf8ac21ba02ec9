import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EvictionPolicy, SetStorageLimitsRequestSchema } from "../../api/gen/cambium/v1/cluster_pb.js";
import { WireRangeError } from "../base/position.js";
import { storageLimitsFromWire, storageLimitsToWire } from "./storage-limits.js";

const request = (init: { maxEntries?: bigint; maxBytes?: bigint; evictionPolicy?: number }) =>
  storageLimitsFromWire(create(SetStorageLimitsRequestSchema, init as object));

test("every policy goes to the wire and back", () => {
  for (const policy of ["noeviction", "lru", "lfu", "random", "ttl"] as const) {
    const wire = storageLimitsToWire({ entriesMax: 5, bytesMax: 6, policy });
    expect([wire.maxEntries, wire.maxBytes]).toEqual([5n, 6n]);
    expect(request({ evictionPolicy: wire.evictionPolicy })).toEqual({ policy });
  }
  expect(storageLimitsToWire(undefined)).toMatchObject({ maxEntries: 0n, evictionPolicy: EvictionPolicy.NOEVICTION });
});

test("what is absent stays, and no limit is said by 0", () => {
  expect(request({ maxBytes: 0n })).toEqual({ bytesMax: 0 });
  expect(request({ maxEntries: 7n, maxBytes: 9n })).toEqual({ entriesMax: 7, bytesMax: 9 });
});

test("nothing at all, an unknown policy and a number beyond all are refused", () => {
  expect(() => request({})).toThrow("nothing is to be changed; give max_entries, max_bytes or eviction_policy");
  expect(() => request({ evictionPolicy: 99 })).toThrow("eviction_policy is 99, which this node does not know");
  expect(() => request({ maxBytes: 2n ** 60n })).toThrow(WireRangeError);
});
