import pc from "picocolors";
import { describe, expect, test } from "vitest";
import { CambiumError, type ClusterStatus, type MemberStatus } from "../../api/client/node.js";
import { renderStatus } from "./status-command.js";
import { findingsOf } from "./status-findings.js";
import { gatherStatus, type NodeRow } from "./status-report.js";

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
      promisedEpoch: 3,
      divergedRecords: 0,
      isCandidate: false,
      storageLimits: { maxEntries: 0, maxBytes: 0, evictionPolicy: "noeviction" },
      accountedBytes: 0,
      clockAheadMs: 0,
      watches: 0,
      retryClients: 0,
      retryBytes: 0,
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

const reportOf = (rows: readonly NodeRow[]): string => renderStatus(rows, findingsOf(rows), plain);

test("a node that is not ready says why", () => {
  const status = statusOf({ ready: false, notReadyReason: "it has never caught up with a master" });
  const report = reportOf([{ endpoint: "one:8080", status }]);
  expect(report).toMatch(/^one:8080 +master +\? +not ready +3 +1,234 +1,234 +- +12,345 /m);
  expect(report).toContain("\none:8080 is not ready: it has never caught up with a master\n");
});

test("what the master knows of a silent member stands in its row and below", () => {
  const silent = member({ state: "disconnected", lagRecords: 234, lagMs: 90_000, detail: "connection refused" });
  const error = new CambiumError("unreachable", "two:8080 cannot be reached: ECONNREFUSED");
  const report = reportOf([{ endpoint: "two:8080", error, member: silent }]);
  expect(report).toMatch(/^two:8080 +- +no +no answer +- +1,000 +- +234 /m);
  expect(report).toContain("two:8080 cannot be reached: ECONNREFUSED\n");
  expect(report).toContain("the master says of two:8080: connection refused\n");
});

test("of a silent member that the master has not met since its mastership began, nothing is claimed", () => {
  const unmet = member({ state: "disconnected", matchSeq: 0, appliedSeq: 0, lagRecords: 1234 });
  const error = new CambiumError("unreachable", "two:8080 cannot be reached: ECONNREFUSED");
  const report = reportOf([{ endpoint: "two:8080", error, member: unmet }]);
  expect(report).toMatch(/^two:8080 +- +no +no answer +- +- +- +- /m);
  expect(report).not.toContain("lacks");
});

test("nodes of different clusters are pointed out", () => {
  const rows = [
    { endpoint: "one:8080", status: statusOf({}) },
    { endpoint: "other:8080", status: statusOf({ nodeId: "n9", address: "other:8080" }, [], "c2") },
  ];
  expect(reportOf(rows)).toContain("these nodes belong to different clusters: one:8080 to c1; other:8080 to c2\n");
});

describe("what is wrong", () => {
  const replica = (node: Partial<ClusterStatus["node"]> = {}): ClusterStatus =>
    statusOf({ nodeId: "n2", role: "replica", address: "two:8080", ...node });
  const problems = (...rows: NodeRow[]): readonly string[] => findingsOf(rows).problems;
  const away = new CambiumError("unreachable", "three:8080 cannot be reached: ECONNREFUSED");

  test("is nothing where a master is there and every node answers", () => {
    const rows = [
      {
        endpoint: "one:8080",
        status: statusOf({}),
        member: member({ address: "one:8080", state: "self", voter: true }),
      },
      { endpoint: "two:8080", status: replica(), member: member({ voter: true }) },
    ];
    expect(findingsOf(rows)).toEqual({ problems: [], notes: [] });
  });

  test("is a cluster without a master, whose next one would be the node that has the most", () => {
    const rows = [
      { endpoint: "one:8080", status: replica({ nodeId: "n1", address: "one:8080", last: { epoch: 3, seq: 9 } }) },
      { endpoint: "two:8080", status: replica({ last: { epoch: 4, seq: 8 } }) },
      { endpoint: "three:8080", status: replica({ nodeId: "n3", address: "three:8080", last: { epoch: 4, seq: 7 } }) },
    ];
    expect(problems(...rows)).toEqual([
      "no node that answers is the master; start it again, or promote the node that has the most: cambium promote two:8080",
    ]);
    const soon = { endpoint: "two:8080", status: replica({ isCandidate: true }) };
    expect(problems(soon)).toEqual(["no node that answers is the master; two:8080 is about to become it"]);
  });

  test("is two masters of one cluster", () => {
    const rows = [
      { endpoint: "one:8080", status: statusOf({}) },
      { endpoint: "two:8080", status: replica({ role: "master", last: { epoch: 4, seq: 1 } }) },
    ];
    expect(problems(...rows)[0]).toMatch(/^one:8080 \(epoch 3\) and two:8080 \(epoch 4\) both are master; /);
  });

  test("is a majority of voters that is silent, and each of them", () => {
    const silent = (address: string): NodeRow => ({
      endpoint: address,
      error: away,
      member: member({ address, voter: true }),
    });
    const here = { endpoint: "one:8080", status: statusOf({}), member: member({ address: "one:8080", voter: true }) };
    expect(problems(here, silent("two:8080"), silent("three:8080"))).toContain(
      "2 of 3 voters do not answer, so that there is no majority",
    );
    const there = { endpoint: "two:8080", status: replica(), member: member({ voter: true }) };
    expect(problems(here, there, silent("three:8080"))).toEqual([away.message]);
  });

  test("is a replica that answers and that the master does not reach", () => {
    const rows = [
      { endpoint: "one:8080", status: statusOf({}) },
      {
        endpoint: "two:8080",
        status: replica(),
        member: member({ state: "refused", detail: "it belongs to cluster c2" }),
      },
    ];
    expect(problems(...rows)).toEqual([
      "two:8080 answers, but the master does not push to it (refused)",
      "the master says of two:8080: it belongs to cluster c2",
    ]);
  });
});

test("a clock that is not believed is a problem", () => {
  const rows = [{ endpoint: "one:8080", status: statusOf({ clockAheadMs: 40 * 86_400_000 }) }];
  expect(findingsOf(rows).problems).toEqual([
    "one:8080: its clock was 40d 00h ahead of the data when it started, and is not believed: keys with a deadline are kept longer; see its log",
  ]);
});

test("what was lost, set aside, or is of another version is noted, and is nothing wrong by itself", () => {
  const rows = [
    { endpoint: "one:8080", status: statusOf({ divergedRecords: 1 }) },
    {
      endpoint: "two:8080",
      status: statusOf({
        nodeId: "n2",
        role: "replica",
        address: "two:8080",
        setAside: "set-aside-17",
        version: "1.1.0",
      }),
    },
  ];
  expect(findingsOf(rows)).toEqual({
    problems: [],
    notes: [
      "one:8080 had 1 record that the cluster does not have; they are kept in diverged-… files of its data directory",
      "two:8080 has set aside data that was not right, in set-aside-17 of its data directory",
      "the nodes run different versions: one:8080 1.0.0, two:8080 1.1.0",
    ],
  });
});

test("the head has what all have in common, and a row what is its own", () => {
  const rows = [
    {
      endpoint: "one:8080",
      status: statusOf({ commit: "majority", diskFreeBytes: 5 * 2 ** 30 }),
      member: member({ address: "one:8080", state: "self", voter: true }),
    },
    {
      endpoint: "two:8080",
      status: statusOf({ nodeId: "n2", role: "replica", commit: "majority", lagRecords: 7, stalenessMs: 90 }),
      member: member({ state: "self", voter: true }),
    },
  ];
  const lines = reportOf(rows).replaceAll(/ {2,}/g, " | ").split("\n");
  expect(lines.slice(0, 2)).toEqual(["cluster c1, commit majority, 2 voters, version 1.0.0", ""]);
  expect(lines[3]).toBe("one:8080 | master | yes | ready | 3 | 1,234 | 1,234 | - | 12,345 | 0 B | 0 B | 5 GiB | 1 s");
  expect(lines[4]).toContain(" | 7 (90 ms) | ");
});

test("a master that a replica alone knows is asked too, and the members that only that master knows", async () => {
  const lone = statusOf({ nodeId: "n2", role: "replica", address: "two:8080", masterAddress: "one:8080" });
  const master = statusOf({}, [member({ nodeId: "n3", address: "three:8080" })]);
  const third = statusOf({ nodeId: "n3", role: "replica", address: "three:8080", masterAddress: "one:8080" });
  const answers = new Map([lone, master, third].map((status) => [status.node.address, status]));
  const reader = { status: ({ endpoint }: { endpoint: string }) => Promise.resolve(answers.get(endpoint)!) };
  const rows = await gatherStatus(reader, ["two:8080"], signal);
  expect(rows.map(({ endpoint }) => endpoint)).toEqual(["two:8080", "one:8080", "three:8080"]);
});

test("a voter whose place another node has taken still counts, does not answer, and is given back by one command", async () => {
  const voters = [
    member({ nodeId: "n1", address: "one:8080", state: "self", voter: true }),
    member({ nodeId: "n2", address: "two:8080", state: "refused", voter: true }),
  ];
  const wiped = statusOf({ nodeId: "n9", role: "replica", address: "two:8080" });
  const answers = new Map([statusOf({}, voters), wiped].map((status) => [status.node.address, status]));
  const reader = { status: ({ endpoint }: { endpoint: string }) => Promise.resolve(answers.get(endpoint)!) };
  const rows = await gatherStatus(reader, ["one:8080", "two:8080"], signal);
  const report = reportOf(rows);
  expect(report).toContain("2 voters");
  expect(report).toMatch(/^two:8080 +replica +no /m);
  expect(report).toContain("two:8080 answers as another node than the voter n2 that was there");
  expect(report).toContain("cambium members add two:8080\n");
  expect(report).toContain("1 of 2 voters do not answer, so that there is no majority");
});

test("a copied directory is pointed out: one node id at two addresses", async () => {
  const at = (address: string): ClusterStatus => statusOf({ nodeId: "n2", role: "replica", address });
  const answers = new Map(
    [statusOf({}), at("two:8080"), at("three:8080")].map((status) => [status.node.address, status]),
  );
  const reader = { status: ({ endpoint }: { endpoint: string }) => Promise.resolve(answers.get(endpoint)!) };
  const rows = await gatherStatus(reader, ["one:8080", "two:8080", "three:8080"], signal);
  expect(reportOf(rows)).toContain(
    "two:8080 and three:8080 answer with one node id (n2), so that a data directory was copied",
  );
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
