/**
 * How old a replica's state is, shown and not guessed. The replica sends a numbered probe; the master gives the number
 * back together with its commit seq. Once that seq is applied here, all that was committed when the probe was sent is
 * applied here, so the state is no older than that. Contact alone shows nothing.
 */
import type { Seq } from "../../base/position.js";

/** Probes that wait for their echo, and echoes that wait for their seq, are each no more than this. */
const WAITING_MAX = 64;

export class Staleness {
  #probe = 0;
  #probedAtMs = -Infinity;
  /** Probes without an echo, oldest first. */
  #probes: { readonly probe: number; readonly sentAtMs: number }[] = [];
  /** Echoes whose commit seq is not applied yet; seqs and times rise. */
  #echoes: { readonly commitSeq: Seq; readonly sentAtMs: number }[] = [];
  #shownAtMs: number | undefined;

  /** The newest probe. */
  get probe(): number {
    return this.#probe;
  }

  /** When the newest probe was sent. */
  get probedAtMs(): number {
    return this.#probedAtMs;
  }

  /** The number of a new probe, which is sent now. */
  nextProbe(nowMs: number): number {
    this.#probe++;
    this.#probedAtMs = nowMs;
    if (this.#probes.length === WAITING_MAX) this.#probes.shift();
    this.#probes.push({ probe: this.#probe, sentAtMs: nowMs });
    return this.#probe;
  }

  /** The master had `echo` from us when its commit seq was `commitSeq`. */
  echoed(echo: number, commitSeq: Seq): void {
    const sent = this.#probes.find(({ probe }) => probe === echo);
    if (!sent) return;
    this.#probes = this.#probes.filter(({ probe }) => probe > echo);
    // The older echoes are the ones that will be reached first, so a full list gives up its newest.
    if (this.#echoes.length === WAITING_MAX) this.#echoes.pop();
    this.#echoes.push({ commitSeq, sentAtMs: sent.sentAtMs });
  }

  /** This node has applied up to `seq`. True when that shows a newer state than before. */
  applied(seq: Seq): boolean {
    let shown = false;
    while (this.#echoes[0] && this.#echoes[0].commitSeq <= seq) {
      this.#shownAtMs = this.#echoes.shift()!.sentAtMs;
      shown = true;
    }
    return shown;
  }

  /** A new session: probes of the one before will get no echo, and its master's commit seq is no longer the measure. */
  restart(): void {
    this.#probes = [];
    this.#echoes = [];
    this.#probedAtMs = -Infinity;
  }

  /** Applied records were cut: what was shown before was another history. */
  forget(): void {
    this.restart();
    this.#shownAtMs = undefined;
  }

  /** Milliseconds; undefined when nothing was ever shown. */
  at(nowMs: number): number | undefined {
    return this.#shownAtMs === undefined ? undefined : nowMs - this.#shownAtMs;
  }
}
