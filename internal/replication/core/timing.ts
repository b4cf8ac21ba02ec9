/** The protocol's times, all in milliseconds, and all bounded. */

/** What a replica may ask for as its heartbeat. */
const HEARTBEAT_MIN_MS = 50;
const HEARTBEAT_MAX_MS = 60_000;
/** However short the heartbeats: a pause of the process or the network is no death. */
const SILENCE_MIN_MS = 5000;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 5000;

/** A connection opens, and the first answer comes, within this. */
export const GREETING_MS = 5000;
/** The replica may have to save and cut records, and to build its state anew, before it answers Align. */
export const ALIGNING_MS = 30_000;
/** A replica that registers says that nobody pushes to it; a connection that looks healthy has this long to show life. */
export const SUSPICION_MS = 1000;

/** What a candidate waits for the others to say what they have. */
export const SURVEY_MS = 2000;
/** And then for their promises. */
export const ASKING_MS = 5000;
/** Somebody who was busy, or was not reached, is asked again after this. */
export const ASK_AGAIN_MS = 200;
/** The state of quiet replicas is compared with the master's about so often. */
export const STATE_CHECK_MS = 1000;
const CANDIDACY_PAUSE_MIN_MS = 500;

export function boundHeartbeat(askedMs: number): number {
  return Math.min(HEARTBEAT_MAX_MS, Math.max(HEARTBEAT_MIN_MS, askedMs));
}

/** How long a peer may be silent before its connection is given up. */
export function silenceMs(heartbeatIntervalMs: number): number {
  return Math.max(3 * heartbeatIntervalMs, SILENCE_MIN_MS);
}

/** The pause before a connection is tried again: doubling, and by `jitter` (from 0 to 1) spread over its upper half. */
export function backoffMs(attempt: number, jitter: number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(attempt, 16));
  return full * (0.5 + jitter / 2);
}

/** The pause before the next try of a node that is meant to be master. */
export function candidacyPauseMs(failures: number, jitter: number): number {
  return Math.max(CANDIDACY_PAUSE_MIN_MS, backoffMs(failures + 3, jitter));
}
