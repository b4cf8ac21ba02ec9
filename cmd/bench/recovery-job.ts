/** What the bench asks of a process that fills, opens or reads a data directory, and what it hears back, as JSON. */

export type RecoveryJob =
  /** Makes a new cluster with so many keys, each by a record of its own, and leaves the log as it grew. */
  | { readonly kind: "fill"; readonly directory: string; readonly entries: number }
  /** Takes a snapshot, which lets the log go. */
  | { readonly kind: "snapshot"; readonly directory: string }
  /** Opens the directory as a start does, and finds so many keys. */
  | { readonly kind: "open"; readonly directory: string; readonly entries: number }
  /** Reads the files, one after another from beginning to end, and sums a CRC of every byte; nothing else. */
  | { readonly kind: "read"; readonly files: readonly string[] };

/** Where a start finds the state. */
export type RecoverySource = "log" | "snapshot";

export interface RecoveryResult {
  readonly elapsedMs: number;
  /** Of the whole process meanwhile. */
  readonly cpuMs: number;
  /** Of "read". */
  readonly bytes: number;
}
