/** How the cluster decides, and who belongs to it, as far as this node has applied the log. */
import type { NodeId } from "../base/ids.js";
import { type Change, type ClusterSettings, INITIAL_SETTINGS, type Member } from "./change.js";

export class ClusterState {
  #settings = INITIAL_SETTINGS;
  readonly #members = new Map<NodeId, Member>();

  get settings(): ClusterSettings {
    return this.#settings;
  }

  /** In the order in which they came. */
  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** Carries out what concerns the cluster; says whether a member changed. */
  apply(change: Change): boolean {
    switch (change.kind) {
      case "member":
        this.applyMember(change.member);
        return true;
      case "settings":
        this.applySettings(change.settings);
        return false;
      case "epoch":
        return this.applyEpoch(change);
      default:
        return false;
    }
  }

  applySettings(settings: ClusterSettings): void {
    this.#settings = settings;
  }

  applyMember(member: Member): void {
    this.#members.set(member.nodeId, member);
  }

  /** A mastership begins. Where the one vote goes with it, the master's is the only one; says whether that changed a member. */
  applyEpoch({ master }: Extract<Change, { kind: "epoch" }>): boolean {
    if (this.#settings.voters !== "master") return false;
    let hasChanged = false;
    for (const member of this.#members.values()) {
      const voter = member.nodeId === master;
      if (member.voter === voter) continue;
      this.#members.set(member.nodeId, { ...member, voter });
      hasChanged = true;
    }
    return hasChanged;
  }

  clear(): void {
    this.#settings = INITIAL_SETTINGS;
    this.#members.clear();
  }
}
