import { seq } from "../../base/position.js";
import { Rounds } from "./rounds.js";
import type { MasterRole } from "./state.js";

/** A mastership that begins: nobody is pushed to yet. */
export function newMasterRole(
  begun: Pick<MasterRole, "epoch" | "epochId" | "firstSeq" | "address" | "masterTimeOffsetMs">,
): MasterRole {
  return {
    kind: "master",
    ...begun,
    peers: new Map(),
    byConnection: new Map(),
    removed: new Set(),
    rounds: new Rounds(),
    awaitedSeq: seq(0),
    checkedAtMs: -Infinity,
  };
}
