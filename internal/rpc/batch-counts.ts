/** How many operations came in batches, by what each would have been called alone. */
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Counter, Family, Registry } from "../metrics/registry.js";
import type { PartKind } from "./batch-handlers.js";

export class BatchCounts {
  readonly #family: Family<Counter>;
  /** Each from the first time on that it is seen. */
  readonly #counters: Readonly<Record<PartKind, Map<string, Counter>>> = {
    get: new Map(),
    set: new Map(),
    delete: new Map(),
    touch: new Map(),
    increment: new Map(),
  };

  constructor(registry: Registry) {
    this.#family = registry.counters({
      name: "cambium_rpc_batch_operations_total",
      help: "Operations that came in a Batch, by the method and the code that each would have had as a call of its own. The calls of Batch itself are among the others.",
      labels: ["service", "method", "code"],
    });
  }

  /** `code`: undefined when it was not carried out, which does not count. */
  add(kind: PartKind, code: string | undefined): void {
    if (code === undefined) return;
    const ofKind = this.#counters[kind];
    let counter = ofKind.get(code);
    if (!counter) ofKind.set(code, (counter = this.#family.with(KVStore.typeName, KVStore.method[kind].name, code)));
    counter.increment();
  }
}
