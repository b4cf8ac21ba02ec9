/** From a mastership, or from a candidacy that has one on the disk, to a replica. */
import { seq } from "../../base/position.js";
import type { Effect } from "./effect.js";
import { newReplicaRole, type ReplicaRole } from "./replica.js";
import { type CoreState, takeNumber } from "./state.js";

/**
 * This node is no master any more. It becomes a replica, and hears masters once that is durable: what they say
 * meanwhile waits.
 */
export function resign(state: CoreState, out: Effect[], detail: string, masterAddress?: string): ReplicaRole {
  const role = becomeReplica(state, out, detail, masterAddress);
  const operation = takeNumber(state);
  role.work = { operation, session: undefined, what: { kind: "resigning" } };
  out.push({ kind: "saveRole", operation });
  return role;
}

/** The same where another write is about to make it durable. */
export function becomeReplica(state: CoreState, out: Effect[], detail: string, masterAddress?: string): ReplicaRole {
  const role = newReplicaRole();
  state.role = role;
  // Nothing of the log is compared with a master's yet.
  state.matchSeq = seq(0);
  out.push({ kind: "stepDown", detail, masterAddress, conflict: false });
  return role;
}
