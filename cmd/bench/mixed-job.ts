/** What a proof asks of a process that loads a master with gets and sets, and what it hears back, as JSON. */

export interface MixedJob {
  readonly kind: "mixed";
  /** `host:port` */
  readonly address: string;
  /** Connections, with one call at a time on each. */
  readonly callers: number;
  /** Keys that stay; every caller sets its own ones only, so that of each the last answered value is the newest. */
  readonly keyCount: number;
  /** Of the calls, how many are sets; and of the sets, how many are of keys that expire. */
  readonly setShare: number;
  readonly expiringShare: number;
  readonly ttlMs: number;
  readonly measureMs: number;
  /**
   * Calls a second, each at its time whatever became of those before it: how long it took counts from then on. Absent: every
   * caller calls again as soon as it is answered.
   */
  readonly ratePerSecond?: number;
  /** Versions are counted from here on; each set has one of its own, higher than those before it. */
  readonly firstVersion: number;
}

export interface CallTimes {
  readonly calls: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly longestMs: number;
}

export interface MixedResult {
  readonly elapsedMs: number;
  readonly callsPerSecond: number;
  readonly gets: CallTimes;
  readonly sets: CallTimes;
  /** The last version of each key whose set was answered; 0: none was. */
  readonly versions: readonly number[];
  /** Keys that expire, of which sets were answered. */
  readonly expiring: number;
  readonly nextVersion: number;
  readonly loaderCpuUs: number;
}
