/** The limits of what is stored, between the wire and the store. */
import { create } from "@bufbuild/protobuf";
import {
  EvictionPolicy,
  type SetStorageLimitsRequest,
  type StorageLimits as WireLimits,
  StorageLimitsSchema,
} from "../../api/gen/cambium/v1/cluster_pb.js";
import { fromWire64, toWire64 } from "../base/position.js";
import type { StorageLimits } from "../store/store.js";
import { RequestError } from "./request-error.js";

const POLICIES: Readonly<Record<StorageLimits["policy"], EvictionPolicy>> = {
  noeviction: EvictionPolicy.NOEVICTION,
  lru: EvictionPolicy.LRU,
  lfu: EvictionPolicy.LFU,
  random: EvictionPolicy.RANDOM,
  ttl: EvictionPolicy.TTL,
};

export function storageLimitsToWire(limits: StorageLimits | undefined): WireLimits {
  return create(StorageLimitsSchema, {
    maxEntries: toWire64(limits?.entriesMax ?? 0),
    maxBytes: toWire64(limits?.bytesMax ?? 0),
    evictionPolicy: POLICIES[limits?.policy ?? "noeviction"],
  });
}

/** What a caller wants changed. */
export function storageLimitsFromWire(request: SetStorageLimitsRequest): Partial<StorageLimits> {
  const { maxEntries, maxBytes, evictionPolicy } = request;
  if (maxEntries === undefined && maxBytes === undefined && evictionPolicy === EvictionPolicy.UNSPECIFIED) {
    throw new RequestError("invalid", "nothing is to be changed; give max_entries, max_bytes or eviction_policy");
  }
  return {
    ...(maxEntries !== undefined && { entriesMax: fromWire64(maxEntries, "max_entries") }),
    ...(maxBytes !== undefined && { bytesMax: fromWire64(maxBytes, "max_bytes") }),
    ...(evictionPolicy !== EvictionPolicy.UNSPECIFIED && { policy: policyFromWire(evictionPolicy) }),
  };
}

function policyFromWire(policy: EvictionPolicy): StorageLimits["policy"] {
  for (const name of Object.keys(POLICIES) as StorageLimits["policy"][]) if (POLICIES[name] === policy) return name;
  throw new RequestError("invalid", `eviction_policy is ${policy}, which this node does not know`);
}
