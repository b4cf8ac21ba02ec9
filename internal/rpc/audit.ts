/**
 * Calls that were refused for who makes them, in the audit: each caller's first one at once and whole, the ones after it as a count.
 * Whoever calls a million times in vain writes as few lines as somebody who tries twice.
 */
import type { Clock, Timer } from "../base/clock.js";
import { AUDIT, type Logger } from "../base/logger.js";
import { addressGroupOf } from "../identity/address-group.js";

/** After it repeats are told, and whoever goes on has a line of its own again. */
export const WINDOW_MS = 60_000;
/** Callers that have lines of their own in a window: two each. Calls of others are counted together, in one line. */
export const SOURCES_MAX = 50;

/** A call that was refused. All of it is known to the node, or bounded, as nothing else may stand in a log. */
export interface Refusal {
  /** `package.Service/Method`, or the path of a page, or what comes before all calls. */
  readonly method: string;
  /** As in `IdentityError`, or of a certificate. */
  readonly reason: string;
  /** The name of who calls, where that is known. */
  readonly identity: string | undefined;
  /** Its address; undefined once its connection is gone. */
  readonly caller: string | undefined;
  readonly requestId: string | undefined;
}

interface Source {
  readonly fields: Pick<Refusal, "identity" | "caller" | "reason">;
  repeats: number;
  /** Of the repeats. There are no more than methods. */
  readonly methods: Set<string>;
}

export class RefusalAudit {
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Of this window, by network, identity and reason. */
  readonly #sources = new Map<string, Source>();
  /** Calls in this window of those that found no room among the sources. */
  #others = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  add({ method, requestId, identity, caller, reason }: Refusal): void {
    const key = JSON.stringify([addressGroupOf(caller), identity, reason]);
    const source = this.#sources.get(key);
    if (source) {
      source.repeats++;
      source.methods.add(method);
      return;
    }
    if (this.#sources.size >= SOURCES_MAX) {
      this.#others++;
      return;
    }
    const fields = { identity, caller, reason };
    this.#sources.set(key, { fields, repeats: 0, methods: new Set() });
    this.#timer ??= this.#clock.after(WINDOW_MS, () => this.flush());
    this.#logger.warn("a call was refused", { ...AUDIT, method, ...fields, request_id: requestId });
  }

  /** Tells what has been counted and not told, and begins anew. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { fields, repeats, methods } of this.#sources.values()) {
      if (repeats === 0) continue;
      const again = { ...fields, calls: repeats, methods: [...methods].join(", ") };
      this.#logger.warn("calls were refused again", { ...AUDIT, ...again });
    }
    if (this.#others > 0) {
      this.#logger.warn("calls of many more callers were refused", { ...AUDIT, calls: this.#others });
    }
    this.#sources.clear();
    this.#others = 0;
  }
}
