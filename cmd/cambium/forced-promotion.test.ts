import { expect, test } from "vitest";
import { CambiumError, type ClusterStatus, type MemberStatus } from "../../api/client/node.js";
import { forcedPromotionWarning } from "./forced-promotion.js";
import type { NodeRow } from "./status-report.js";

function row(address: string, node: Partial<ClusterStatus["node"]> = {}, voter = true): NodeRow {
  return {
    endpoint: address,
    status: { node: { ...NODE, address, ...node }, members: [] },
    member: memberOf(address, voter),
  };
}

function silent(address: string, voter = true): NodeRow {
  return {
    endpoint: address,
    error: new CambiumError("unreachable", "nobody there"),
    member: memberOf(address, voter),
  };
}

const memberOf = (address: string, voter: boolean): MemberStatus => ({
  address,
  voter,
  source: "listed",
  state: "unknown",
  matchSeq: 0,
  appliedSeq: 0,
  lagRecords: 0,
  lagMs: 0,
});

const NODE: ClusterStatus["node"] = {
  nodeId: "n",
  role: "replica",
  address: "",
  ready: true,
  applied: { epoch: 3, seq: 100 },
  last: { epoch: 3, seq: 100 },
  keptSeq: 100,
  commitSeq: 100,
  matchSeq: 100,
  compactSeq: 0,
  keys: 0,
  dataBytes: 0,
  walBytes: 0,
  uptimeMs: 0,
  version: "",
  durability: "always",
  promisedEpoch: 3,
  divergedRecords: 0,
  isCandidate: false,
  storageLimits: { maxEntries: 0, maxBytes: 0, evictionPolicy: "noeviction" },
  accountedBytes: 0,
  clockAheadMs: 0,
  watches: 0,
  retryClients: 0,
  retryBytes: 0,
};

const OLD_MASTER =
  "- An old master that is only out of reach may still be acknowledging writes, and those will be lost too. Stop it first.\n";

test("it says what the node has, who is silent, what they lose, and to stop the old master", () => {
  expect(forcedPromotionWarning([row("c:1"), silent("a:1"), silent("b:1")], "c:1")).toBe(
    "c:1 has the log up to seq 100 of epoch 3, and becomes master without a majority.\n" +
      "- No answer from a:1, b:1. What only they have is lost, and nobody can say how much.\n" +
      "- They lose their vote. Give it back, once they follow, by cambium members add: a:1, b:1\n" +
      OLD_MASTER,
  );
});

test("it points to a master that answers, and to a node that has more", () => {
  const text = forcedPromotionWarning(
    [row("c:1"), row("a:1", { role: "master", last: { epoch: 3, seq: 107 } })],
    "c:1",
  );
  expect(text).toContain("- a:1 is master and answers: `cambium transfer c:1` would lose nothing.\n");
  expect(text).toContain("- a:1 has 7 records that c:1 lacks, which will be lost: promote that one instead.\n");
  const later = forcedPromotionWarning([row("c:1"), row("b:1", { last: { epoch: 4, seq: 90 } })], "c:1");
  expect(later).toContain("- b:1 has records of a later epoch that c:1 lacks");
});

test("where there is one vote, nobody loses one", () => {
  const text = forcedPromotionWarning([row("c:1", {}, false), silent("a:1")], "c:1");
  expect(text).not.toContain("lose their vote");
  expect(text).toContain(OLD_MASTER);
});

test("a node that does not answer is said to", () => {
  expect(forcedPromotionWarning([silent("c:1")], "c:1")).toMatch(/^c:1 does not answer at present\.\n/);
});
