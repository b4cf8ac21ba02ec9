/** Histories that come from others: judged before `EpochHistory`, whose asserts are for our own mistakes, sees them. */
import { agreementSeq, EpochHistory, type EpochStart } from "../../base/epoch-history.js";
import { type Seq, seq } from "../../base/position.js";
import type { LogView } from "./event.js";

/** More masterships than any log will see; a limit on what a peer can make this node keep. */
const EPOCHS_MAX = 100_000;

/** The history that a peer told; undefined when no log can have it. */
export function readHistory(starts: readonly EpochStart[]): EpochHistory | undefined {
  if (starts.length > EPOCHS_MAX) return undefined;
  for (const [i, start] of starts.entries()) {
    const before = starts[i - 1];
    if (start.epoch < 1 || start.firstSeq < 1) return undefined;
    if (before && (start.epoch <= before.epoch || start.firstSeq <= before.firstSeq)) return undefined;
  }
  return new EpochHistory(starts);
}

/** Where a master's log and a peer's end to be the same; undefined when the peer's history contradicts the master's. */
export function agreementWith(log: LogView, peer: { history: EpochHistory; lastSeq: Seq }): Seq | undefined {
  const theirs = new Map(peer.history.starts.map((start) => [start.epoch, start]));
  for (const own of log.history.starts) {
    const same = theirs.get(own.epoch);
    if (same && same.epochId === own.epochId && same.firstSeq !== own.firstSeq) return undefined;
  }
  // A queued record may yet be dropped, and its seq given to another one.
  const agreed = agreementSeq({ history: log.history, lastSeq: log.writtenSeq }, peer);
  return seq(Math.min(agreed, log.writtenSeq, peer.lastSeq));
}
