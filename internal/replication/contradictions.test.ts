import { expect, test } from "vitest";
import { nodeId } from "../base/ids.js";
import { contradictions } from "./contradictions.js";
import type { ClusterSettings, Member } from "./store-port.js";

const LISTED: ClusterSettings = { commit: "majority", voters: "listed" };

function member(address: string, name: number, rest: Partial<Member> = {}): Member {
  return { nodeId: nodeId(`0${name}`.repeat(16)), address, voter: true, source: "listed", removed: false, ...rest };
}

const THREE = [member("a:1", 1), member("b:1", 2), member("c:1", 3)];

test("a file that says what the cluster says, or nothing, contradicts nothing", () => {
  const nodes = ["c:1", "b:1", "a:1"];
  expect(contradictions({ commit: "majority", nodes }, { settings: LISTED, members: THREE })).toEqual([]);
  expect(contradictions({ commit: undefined, nodes: [] }, { settings: LISTED, members: THREE })).toEqual([]);
});

test("other limits of what is stored are one, and a file without any is none", () => {
  const limits = { entriesMax: 5, bytesMax: 0, policy: "lru" } as const;
  const state = { settings: { ...LISTED, limits }, members: THREE };
  const said = (file: typeof limits | undefined): readonly string[] =>
    contradictions({ commit: undefined, limits: file && { ...file }, nodes: [] }, state);
  expect([said(undefined), said(limits)]).toEqual([[], []]);
  expect(contradictions({ commit: undefined, limits, nodes: [] }, { settings: LISTED, members: THREE })).toEqual([
    "the file's storage limits are not the cluster's, which hold; see what those are, or change them: cambium limits",
  ]);
});

test("another commit mode is one, whatever the file says of nodes", () => {
  expect(contradictions({ commit: "master", nodes: [] }, { settings: LISTED, members: THREE })).toEqual([
    "the file says replication.commit: master, the cluster was founded with majority; the cluster's holds",
  ]);
});

test("nodes that the cluster does not have, and voters that the file does not have, are named", () => {
  const members = [...THREE, member("x:1", 4, { voter: false }), member("y:1", 5, { removed: true })];
  const found = contradictions(
    { commit: undefined, nodes: ["a:1", "x:1", "y:1", "z:1"] },
    { settings: LISTED, members },
  );
  expect(found).toEqual([
    "cluster.nodes has y:1, z:1, which the cluster does not know",
    "the cluster's voters at b:1, c:1 are not in cluster.nodes; the cluster's hold",
  ]);
});

test("a list of nodes is one where the cluster has one vote, and no more is said of it", () => {
  const settings: ClusterSettings = { commit: "master", voters: "master" };
  expect(contradictions({ commit: "master", nodes: ["z:1"] }, { settings, members: THREE })).toEqual([
    "the file has cluster.nodes, but the cluster was founded without; its one vote goes with the mastership",
  ]);
});
