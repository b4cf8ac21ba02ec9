/** What the first record of an epoch says beside the epoch itself. */
import type { NodeId } from "../base/ids.js";
import type { Won } from "./core/candidacy.js";
import {
  type CommitMode,
  type EpochChange,
  INITIAL_SETTINGS,
  type LoggedState,
  type Member,
  type StorageLimits,
} from "./store-port.js";

/** Nodes of which a majority decides even when one of them is gone. */
const MAJORITY_NODES_MIN = 3;

/** The commit mode of a new cluster whose configuration does not say. */
export function commitOf(configured: CommitMode | undefined, nodes: number): CommitMode {
  return configured ?? (nodes >= MAJORITY_NODES_MIN ? "majority" : "master");
}

export interface FirstRecordOptions {
  readonly self: NodeId;
  /** These two are the configuration's, and count when a cluster is founded. */
  readonly commit: CommitMode | undefined;
  readonly limits?: StorageLimits | undefined;
  /** Absent: the log is empty. */
  readonly logged: LoggedState | undefined;
}

export function firstChanges(won: Won, { self, commit, limits, logged }: FirstRecordOptions): readonly EpochChange[] {
  if (won.founders) {
    const members = won.founders.map(({ nodeId, address }): Member => ({
      nodeId,
      address,
      voter: true,
      source: nodeId === self ? "founder" : "listed",
      removed: false,
    }));
    const settings = {
      commit: commitOf(commit, members.length),
      voters: "listed",
      ...(limits && { limits }),
    } as const;
    return [{ kind: "settings", settings }, ...members.map((member) => ({ kind: "member", member }) as const)];
  }
  if (!logged) return limits ? [{ kind: "settings", settings: { ...INITIAL_SETTINGS, limits } }] : [];
  if (logged.settings.voters !== "listed") return [];
  // Forced: whoever did not promise has no vote any more, and whoever begins has one.
  const changed: Member[] = [];
  for (const member of logged.members) {
    if (won.stripped.includes(member.nodeId)) changed.push({ ...member, voter: false });
  }
  const own = logged.members.find(({ nodeId }) => nodeId === self);
  if (!own?.voter || own.removed) {
    changed.push({ nodeId: self, address: won.address, voter: true, source: own?.source ?? "added", removed: false });
  }
  return changed.map((member) => ({ kind: "member", member }));
}
