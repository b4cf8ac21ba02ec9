/** Answers that are large, given when it is their turn; the others at once. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { type Consistency, ConsistencySchema } from "../../api/gen/cambium/v1/types_pb.js";
import { connectionKey } from "./adapter.js";
import type { FreshReads } from "./fresh-reads.js";
import { LARGE_BYTES, type Turns } from "./turns.js";

export interface LargeAnswersOptions {
  readonly turns: Turns;
  readonly reads: Pick<FreshReads, "admit">;
}

export class LargeAnswers {
  readonly #options: LargeAnswersOptions;

  constructor(options: LargeAnswersOptions) {
    this.#options = options;
  }

  /** Undefined when an answer of that size may be made in this tick; else a promise of the same. */
  turnFor(bytes: number, { values, signal }: Pick<HandlerContext, "values" | "signal">): Promise<void> | undefined {
    return bytes > LARGE_BYTES ? this.#options.turns.take(values.get(connectionKey), signal) : undefined;
  }

  /** Makes the answer of a read that has been admitted. `bytes`: of about what size. */
  give<T>(
    bytes: number,
    { consistency }: { readonly consistency?: Consistency | undefined },
    context: HandlerContext,
    answer: () => T,
  ): T | Promise<T> {
    const turn = this.turnFor(bytes, context);
    if (!turn) return answer();
    const maxStalenessMs = consistency?.maxStalenessMs;
    return turn.then(() => {
      // It has got older meanwhile.
      if (maxStalenessMs !== undefined) {
        void this.#options.reads.admit(create(ConsistencySchema, { maxStalenessMs }), context.signal);
      }
      return answer();
    });
  }
}
