import pc from "picocolors";
import { expect, test } from "vitest";
import { CambiumError, type ClusterStatus, type MemberStatus } from "../../api/client/node.js";
import { renderStatus } from "./status-command.js";
import { gatherStatus } from "./status-report.js";

const plain = pc.createColors(false);
const { signal } = new AbortController();

function statusOf(
  node: Partial<ClusterStatus["node"]>,
  members: readonly MemberStatus[] = [],
  clusterId = "c1",
): ClusterStatus {
  return {
    clusterId,
    members,
    node: {
      nodeId: "n1",
      role: "master",
      address: "one:8080",
      ready: true,
      applied: { epoch: 3, seq: 1234 },
      last: { epoch: 3, seq: 1234 },
      keptSeq: 1234,
      commitSeq: 1234,
      matchSeq: 1234,
      compactSeq: 0,
      keys: 12_345,
      dataBytes: 0,
      walBytes: 0,
      uptimeMs: 1000,
      version: "1.0.0",
      durability: "always",
      ...node,
    },
  };
}

const member = (status: Partial<MemberStatus>): MemberStatus => ({
  address: "two:8080",
  voter: false,
  source: "listed",
  state: "streaming",
  matchSeq: 1000,
  appliedSeq: 1000,
  lagRecords: 0,
  lagMs: 0,
  ...status,
});

test("a node that is not ready says why", () => {
  const status = statusOf({ ready: false, notReadyReason: "it has never caught up with a master" });
  const report = renderStatus([{ endpoint: "one:8080", status }], plain);
  expect(report).toMatch(/^one:8080 +master +not ready +3 +1,234 +1,234 +- +12,345 /m);
  expect(report).toContain("\none:8080 is not ready: it has never caught up with a master\n");
});

test("what the master knows of a silent member stands in its row and below", () => {
  const silent = member({ state: "disconnected", lagRecords: 234, lagMs: 90_000, detail: "connection refused" });
  const error = new CambiumError("unreachable", "two:8080 cannot be reached: ECONNREFUSED");
  const report = renderStatus([{ endpoint: "two:8080", error, member: silent }], plain);
  expect(report).toMatch(/^two:8080 +- +no answer +- +1,000 +- +234 /m);
  expect(report).toContain("two:8080 cannot be reached: ECONNREFUSED\n");
  expect(report).toContain("the master says of two:8080: connection refused\n");
});

test("nodes of different clusters are pointed out", () => {
  const rows = [
    { endpoint: "one:8080", status: statusOf({}) },
    { endpoint: "other:8080", status: statusOf({ nodeId: "n9", address: "other:8080" }, [], "c2") },
  ];
  expect(renderStatus(rows, plain)).toContain("these nodes belong to different clusters: c1, c2");
});

test("every node is one row, with what the newest master says of it", async () => {
  const stale = statusOf({ nodeId: "n0", address: "old:8080", last: { epoch: 2, seq: 1 } }, [
    member({ nodeId: "n2", state: "disconnected" }),
  ]);
  const master = statusOf({}, [
    member({ nodeId: "n1", address: "one:8080", state: "self" }),
    member({ nodeId: "n2", lagRecords: 5 }),
    member({ nodeId: "n3", address: "three:8080" }),
    member({ address: "listed:8080", state: "disconnected" }),
  ]);
  const replica = statusOf({ nodeId: "n2", role: "replica", address: "two:8080" }, [
    member({ nodeId: "n2", state: "self" }),
  ]);
  const answers = new Map([
    ["old:8080", stale],
    ["localhost:8080", master],
    ["one:8080", master],
    ["two:8080", replica],
  ]);
  const asked: string[] = [];
  const rows = await gatherStatus(
    {
      status: ({ endpoint }) => {
        asked.push(endpoint);
        const answer = answers.get(endpoint);
        return answer ? Promise.resolve(answer) : Promise.reject(new CambiumError("unreachable", "nobody there"));
      },
    },
    ["old:8080", "localhost:8080", "one:8080"],
    signal,
  );
  expect(asked).toEqual(["old:8080", "localhost:8080", "one:8080", "two:8080", "three:8080", "listed:8080"]);
  expect(
    rows.map((row) => [
      row.endpoint,
      row.status?.node.nodeId ?? row.error?.code,
      row.member?.state,
      row.member?.lagRecords,
    ]),
  ).toEqual([
    ["old:8080", "n0", undefined, undefined],
    ["localhost:8080", "n1", "self", 0],
    ["two:8080", "n2", "streaming", 5],
    ["three:8080", "unreachable", "streaming", 0],
    ["listed:8080", "unreachable", "disconnected", 0],
  ]);
});

test("an interruption is not a node that does not answer", async () => {
  const reader = { status: () => Promise.reject(new CambiumError("canceled", "the call was canceled")) };
  await expect(gatherStatus(reader, ["one:8080"], signal)).rejects.toMatchObject({ code: "canceled" });
});
