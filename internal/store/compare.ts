/** Whether comparisons of a transaction hold. */
import { assert, unreachable } from "../base/assert.js";
import type { Seq } from "../base/position.js";
import type { Compare } from "./write-command.js";

/** What a comparison looks at. */
export interface Comparable {
  readonly value: Uint8Array;
  readonly modSeq: Seq;
  readonly createSeq: Seq;
}

export function holds({ comparison, target }: Compare, entry: Comparable | undefined): boolean {
  switch (target.kind) {
    case "mod-seq":
      return agrees(comparison, (entry?.modSeq ?? 0) - target.seq);
    case "create-seq":
      return agrees(comparison, (entry?.createSeq ?? 0) - target.seq);
    case "exists":
      assert(comparison === "equal" || comparison === "not-equal", "existence is neither less nor greater");
      return agrees(comparison, Number(entry !== undefined) - Number(target.exists));
    case "value":
      return entry ? agrees(comparison, Buffer.compare(entry.value, target.value)) : comparison === "not-equal";
    default:
      return unreachable(target);
  }
}

/** `difference` is negative when the key's is less. */
function agrees(comparison: Compare["comparison"], difference: number): boolean {
  switch (comparison) {
    case "equal":
      return difference === 0;
    case "not-equal":
      return difference !== 0;
    case "less":
      return difference < 0;
    case "greater":
      return difference > 0;
    default:
      return unreachable(comparison);
  }
}
