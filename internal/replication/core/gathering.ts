/**
 * When a replica is sent what there is for it. What somebody waits for goes in the tick in which it comes up. The rest is gathered, in the
 * spirit of RFC 896: a message and its acknowledgement cost both ends about the same with one record in it and with a hundred, so
 * those that nobody waits for are few, and each carries the records together with the news that they are committed.
 */
import type { CoreState, MasterRole } from "./state.js";
import type { Peer, Streaming } from "./progress.js";

/** What is gathered waits no longer; and messages that nobody waits for are about so far apart. */
export const GATHER_MS = 2;

/** Whether somebody waits for what the replica has not been sent yet: a majority, of which it is one, or whoever wants it everywhere. */
export function isWaitedFor(
  { log }: CoreState,
  { awaitedSeq }: MasterRole,
  { spec }: Peer,
  stream: Streaming,
): boolean {
  return (log.electorate.commit === "majority" && spec.member?.voter === true) || stream.sent.seq < awaitedSeq;
}

/**
 * When the records that the replica lacks are sent: at once to one that has been silent to for long enough, once they are committed; in any
 * case after `GATHER_MS`. One that is still catching up has lacked some for longer than that.
 */
export function recordsDueAtMs({ log, commitSeq }: CoreState, { lacksSinceMs, sentAtMs }: Streaming): number {
  const isCommitted = commitSeq >= log.writtenSeq;
  return GATHER_MS + (isCommitted ? Math.min(lacksSinceMs, sentAtMs) : lacksSinceMs);
}

/** When the news of a commit is sent, where no records go that it could go with. */
export function newsDueAtMs({ sentAtMs }: Streaming): number {
  return GATHER_MS + sentAtMs;
}
