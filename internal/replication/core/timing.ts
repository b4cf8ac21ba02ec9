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
