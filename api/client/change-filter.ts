/** Whose changes are asked for. */
import { CambiumError } from "./cambium-error.js";
import { encodeKey } from "./message.js";
import type { KeyRange } from "./scan.js";

/** Only the changes of one key, of those that begin with a prefix, or of a range. Default: all. */
export interface ChangeFilter extends KeyRange {
  /** Not together with `prefix`, `start` or `end`. */
  readonly key?: string | undefined;
}

/** What a request carries. Throws `CambiumError` `invalid_argument`. */
export function changeFilter({ key, prefix = "", start = "", end = "" }: ChangeFilter): {
  readonly key: string;
  readonly prefix: string;
  readonly start: string;
  readonly end: string;
} {
  for (const bound of [key ?? "", prefix, start, end]) encodeKey(bound);
  // On the wire an empty key means none: that would be the changes of all.
  if (key === "")
    throw new CambiumError("invalid_argument", "the key is empty; leave it out for the changes of all keys");
  return { key: key ?? "", prefix, start, end };
}
