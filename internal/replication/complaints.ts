/** What goes wrong again and again is said once, and once more when it goes wrong differently. */
import type { LogFields, Logger } from "../base/logger.js";

/** Nobody pushes to this node. */
export const MASTER = Symbol("master");
/** This node cannot become master. */
export const CAMPAIGN = Symbol("campaign");

/** An address is that of a node that this one pushes to. */
type About = string | typeof MASTER | typeof CAMPAIGN;

export class Complaints {
  readonly #logger: Logger;
  readonly #reasons = new Map<About, string>();
  readonly #said = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  complain(about: About, message: string, reason: string): void {
    if (this.#reasons.get(about) === reason) return;
    this.#reasons.set(about, reason);
    const fields: LogFields = typeof about === "string" ? { address: about, reason } : { reason };
    this.#logger.warn(message, fields);
  }

  /** All is well. */
  settle(about: About): void {
    this.#reasons.delete(about);
  }

  /** Of other addresses nothing need be remembered. */
  keepOnly(isOfInterest: (address: string) => boolean): void {
    for (const about of this.#reasons.keys()) {
      if (typeof about === "string" && !isOfInterest(about)) this.#reasons.delete(about);
    }
  }

  /** What is true for as long as the process lives is said once. */
  sayOnce(sentence: string): void {
    if (this.#said.has(sentence)) return;
    this.#said.add(sentence);
    this.#logger.warn(sentence);
  }
}
