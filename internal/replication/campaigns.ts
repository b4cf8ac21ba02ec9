/** What a node brings to a campaign, whether it may hold one at all, and who waits for how it ends. */
import { newEpochId, type NodeId, type RandomSource } from "../base/ids.js";
import type { Bid, Won } from "./core/candidacy.js";
import { isVoter } from "./core/electorate.js";
import type { Role } from "./core/state.js";
import type { CampaignFailure } from "./core/survey.js";
import { electorateOf } from "./driver.js";
import type { Mastership } from "./mastership.js";
import { ReplicationError } from "./replication-error.js";
import type { ReplicatedStore } from "./store-port.js";

/** How a campaign has ended. */
export type Campaigned =
  | { readonly kind: "begun"; readonly won: Won; readonly mastership: Mastership }
  | { readonly kind: "failed"; readonly code: CampaignFailure; readonly detail: string };

/** Those who wait for how the present campaign ends. */
export class Campaigns {
  #waiting: { readonly resolve: (outcome: Campaigned) => void; readonly reject: (error: Error) => void }[] = [];

  /** Rejects when the node shuts down. */
  outcome(): Promise<Campaigned> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  ended(outcome: Campaigned): void {
    for (const { resolve } of this.#waiting.splice(0)) resolve(outcome);
  }

  reject(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

/** What one try needs to know. `nodes`: those of the configuration. */
export function bidOf({
  store,
  random,
  address,
  nodes,
}: {
  store: ReplicatedStore;
  random: RandomSource;
  address: string;
  nodes: readonly string[];
}): Bid {
  const others = store.electorate.members.filter(({ nodeId, removed }) => !removed && nodeId !== store.nodeId);
  const addresses = new Set([...others.map((member) => member.address), ...nodes]);
  addresses.delete(address);
  return {
    epochId: newEpochId(random),
    address,
    addresses: [...addresses],
    founders: store.isEmpty ? nodes : [],
    unclean: store.mustCatchUp,
  };
}

/** Throws `ReplicationError` where an operator must not make this node master, or must force it. */
export function assertPromotable(role: Role, store: ReplicatedStore, force: boolean): void {
  const { isEmpty, caughtUp, electorate, nodeId } = store;
  if (role.kind === "idle" && !role.canFollow) throw new ReplicationError("refused", role.why);
  // A clean majority of listed voters shows by its promises that this node has all that counts. One vote shows nothing.
  const isShown = force || electorate.settings.voters === "listed";
  if (isEmpty || (!caughtUp && !isShown)) {
    const what = isEmpty ? "this node has no records" : "this node has never caught up with a master";
    throw new ReplicationError("not_caught_up", `${what}, and cannot become one; promote another node`);
  }
  if (force) return;
  if (wasRemoved(store, nodeId)) {
    throw new ReplicationError("refused", "this node was removed from the cluster; add it again first");
  }
  if (electorate.settings.voters === "listed" && !isVoter(electorateOf(electorate), nodeId)) {
    throw new ReplicationError("refused", "this node is no voter, and only follows; promote a voter");
  }
}

function wasRemoved({ electorate }: ReplicatedStore, id: NodeId): boolean {
  return electorate.members.some(({ nodeId, removed, address }) => nodeId === id && removed && address !== "");
}
