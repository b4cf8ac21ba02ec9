/** Where a node's file says something else than the replicated state, which rules. */
import { isDeepStrictEqual } from "node:util";
import type { CommitMode, LoggedState, StorageLimits } from "./store-port.js";

/** What a file may say of that. */
export interface FileSettings {
  readonly commit: CommitMode | undefined;
  readonly limits?: StorageLimits | undefined;
  readonly nodes: readonly string[];
}

/** Each as a sentence for the operator. */
export function contradictions(
  { commit, limits, nodes }: FileSettings,
  { settings, members }: LoggedState,
): readonly string[] {
  const found: string[] = [];
  if (commit !== undefined && commit !== settings.commit) {
    found.push(
      `the file says replication.commit: ${commit}, the cluster was founded with ${settings.commit}; the cluster's holds`,
    );
  }
  if (limits && !isDeepStrictEqual(limits, settings.limits)) {
    found.push(
      "the file's storage limits are not the cluster's, which hold; see what those are, or change them: cambium limits",
    );
  }
  if (nodes.length === 0) return found;
  if (settings.voters === "master") {
    found.push(
      "the file has cluster.nodes, but the cluster was founded without; its one vote goes with the mastership",
    );
    return found;
  }
  const present = members.filter(({ removed }) => !removed);
  const unknown = nodes.filter((node) => !present.some(({ address }) => address === node));
  const unlisted = present.filter(({ voter, address }) => voter && !nodes.includes(address));
  if (unknown.length > 0) found.push(`cluster.nodes has ${unknown.join(", ")}, which the cluster does not know`);
  if (unlisted.length > 0) {
    const addresses = unlisted.map(({ address }) => address).join(", ");
    found.push(`the cluster's voters at ${addresses} are not in cluster.nodes; the cluster's hold`);
  }
  return found;
}
