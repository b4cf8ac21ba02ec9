import { describe, expect, test } from "vitest";
import { epochId, nodeId, type NodeId } from "../base/ids.js";
import { epoch } from "../base/position.js";
import type { Won } from "./core/candidacy.js";
import { commitOf, firstChanges } from "./first-record.js";
import type { ClusterSettings, Member } from "./store-port.js";

const id = (name: number): NodeId => nodeId(name.toString(16).padStart(2, "0").repeat(16));
const [A, B, C] = [id(1), id(2), id(3)];

const LISTED: ClusterSettings = { commit: "majority", voters: "listed" };
const MOVING: ClusterSettings = { commit: "master", voters: "master" };

function member(node: NodeId, rest: Partial<Member> = {}): Member {
  return { nodeId: node, address: `${node.slice(0, 2)}:1`, voter: true, source: "listed", removed: false, ...rest };
}

function won(rest: Partial<Won> = {}): Won {
  return {
    promise: { epoch: epoch(2), candidate: A, epochId: epochId("0e".repeat(8)) },
    address: "a:1",
    forced: false,
    founders: undefined,
    stripped: [],
    unreached: [],
    knownLostRecords: 0,
    ...rest,
  };
}

test.each([
  [undefined, 1, "master"],
  [undefined, 2, "master"],
  [undefined, 3, "majority"],
  [undefined, 5, "majority"],
  ["master", 3, "master"],
  ["majority", 1, "majority"],
] as const)("a file that says %s founds a cluster of %d nodes with commit %s", (configured, nodes, expected) => {
  expect(commitOf(configured, nodes)).toBe(expected);
});

describe("the first record of an epoch", () => {
  test("of a cluster that is founded has the settings and all voters", () => {
    const founders = [
      { nodeId: B, address: "b:1" },
      { nodeId: A, address: "a:1" },
      { nodeId: C, address: "c:1" },
    ];
    const changes = firstChanges(won({ founders }), {
      self: A,
      commit: undefined,
      logged: { settings: MOVING, members: [] },
    });
    expect(changes).toEqual([
      { kind: "settings", settings: LISTED },
      { kind: "member", member: member(B, { address: "b:1" }) },
      { kind: "member", member: member(A, { address: "a:1", source: "founder" }) },
      { kind: "member", member: member(C, { address: "c:1" }) },
    ]);
  });

  test("of a new cluster has the limits of the file, listed voters or not; a later one leaves the cluster's", () => {
    const limits = { entriesMax: 5, bytesMax: 0, policy: "lru" } as const;
    const options = { self: A, commit: undefined, limits };
    expect(firstChanges(won(), { ...options, logged: undefined })).toEqual([
      { kind: "settings", settings: { commit: "master", voters: "master", limits } },
    ]);
    const [first] = firstChanges(won({ founders: [{ nodeId: A, address: "a:1" }] }), { ...options, logged: undefined });
    expect(first).toEqual({ kind: "settings", settings: { commit: "master", voters: "listed", limits } });
    expect(firstChanges(won(), { ...options, logged: { settings: MOVING, members: [] } })).toEqual([]);
  });

  test("says nothing more where nothing else changes, nor where the one vote moves with the epoch", () => {
    const members = [member(A), member(B), member(C)];
    for (const settings of [LISTED, MOVING]) {
      expect(firstChanges(won(), { self: A, commit: "master", logged: { settings, members } })).toEqual([]);
    }
    const forced = won({ forced: true, stripped: [B] });
    expect(firstChanges(forced, { self: A, commit: undefined, logged: { settings: MOVING, members } })).toEqual([]);
  });

  test("that was forced takes the vote from those who did not promise, who stay members", () => {
    const members = [member(A), member(B), member(C)];
    const changes = firstChanges(won({ forced: true, stripped: [B, C] }), {
      self: A,
      commit: undefined,
      logged: { settings: LISTED, members },
    });
    expect(changes).toEqual([
      { kind: "member", member: member(B, { voter: false }) },
      { kind: "member", member: member(C, { voter: false }) },
    ]);
  });

  test.each([
    ["is unknown", [], "added"],
    ["has none", [member(A, { voter: false, source: "registered" })], "registered"],
    ["was removed", [member(A, { removed: true, source: "listed" })], "listed"],
  ] as const)("that was forced gives a vote to a master that %s", (_, own, source) => {
    const changes = firstChanges(won({ forced: true }), {
      self: A,
      commit: undefined,
      logged: { settings: LISTED, members: [...own, member(B)] },
    });
    expect(changes).toEqual([{ kind: "member", member: member(A, { address: "a:1", source }) }]);
  });
});
