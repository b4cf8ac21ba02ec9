/** The members of the cluster, as far as this node has applied the log. */
import type { NodeId } from "../base/ids.js";
import type { Member } from "./change.js";

export class Members {
  readonly #byId = new Map<NodeId, Member>();

  /** In the order in which they came. */
  get all(): readonly Member[] {
    return [...this.#byId.values()];
  }

  get(id: NodeId): Member | undefined {
    return this.#byId.get(id);
  }

  apply(member: Member): void {
    this.#byId.set(member.nodeId, member);
  }

  clear(): void {
    this.#byId.clear();
  }
}
