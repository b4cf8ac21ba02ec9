/** What has to come about in a run of many seeds: a rule that was never put to the test shows nothing. */
import type { Counts } from "./counts.js";
import { FAULT_KINDS } from "./plan.js";

const REQUIRED: readonly string[] = [
  ...FAULT_KINDS.map((kind) => `fault ${kind}`),
  "cuts",
  "cuts of committed records",
  "masterships",
  "masterships that moved",
  "forced masterships",
  "torn recoveries",
  "recoveries of an unproven end",
  "installs of a whole state",
  "snapshots",
  "compactions",
  "data set aside",
  "unclean boots",
  "starts that had lost kept records",
  "promotions",
  "forced promotions",
  "transfers",
  "power cuts",
  "processes that a disk ended",
  "members added",
  "members removed",
  "nodes that joined later",
  "keys expired",
  "keys evicted",
  "refused with storage_full",
  "repeated answers",
  "repeated answers of a write in flight",
  "repeated answers of another master",
  "clients forgotten",
  "refused with retries_full",
  "reads that waited",
  "followers that lost their lineage",
  "followers that compaction had overtaken",
  "disk shortWrites",
  "disk errors",
  "disk fullWrites",
  "network brokenConnections",
  "network halfOpenConnections",
  "network ghostConnections",
  "network duplicatedCalls",
  "network delayedCalls",
  "network lostCalls",
  "network lostAnswers",
];

export function neverHappened(counts: Counts): string[] {
  return REQUIRED.filter((what) => counts.of(what) === 0);
}
