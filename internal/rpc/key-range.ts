/** Which keys a request is about: one, those of a prefix or of a range, or all. */
import type { KeyFilter } from "../store/store.js";
import { checkedKey, type Limits } from "./limits.js";
import { RequestError } from "./request-error.js";

/** Keys from `start` on, and before `end`, where there is one. */
export interface KeyRange {
  readonly start: Uint8Array;
  readonly end?: Uint8Array;
}

interface RangeFields {
  readonly prefix: string;
  readonly start: string;
  readonly end: string;
}

const NOTHING = new Uint8Array(0);

/** Without any field: all keys. `field` stands before the names of the fields in errors. */
export function checkedRange({ prefix, start, end }: RangeFields, field: string, limits: Limits): KeyRange {
  if (prefix !== "") {
    if (start !== "" || end !== "") {
      throw new RequestError(
        "invalid",
        `${field}prefix is given together with start or end; give the one or the other`,
      );
    }
    return prefixRange(prefix, checkedKey(prefix, `${field}prefix`, limits));
  }
  const range = {
    start: start === "" ? NOTHING : checkedKey(start, `${field}start`, limits),
    ...(end !== "" && { end: checkedKey(end, `${field}end`, limits) }),
  };
  if (range.end && Buffer.compare(range.end, range.start) < 0) {
    throw new RequestError("invalid", `${field}end lies before start; exchange them`);
  }
  return range;
}

/** Whose changes a caller wants to hear of; undefined: those of all keys. */
export function checkedFilter(
  fields: RangeFields & { readonly key: string },
  field: string,
  limits: Limits,
): KeyFilter | undefined {
  const { key, prefix, start, end } = fields;
  if (key !== "") {
    if (prefix !== "" || start !== "" || end !== "") {
      throw new RequestError(
        "invalid",
        `${field}key is given together with prefix, start or end; give the one or the other`,
      );
    }
    return { key: checkedKey(key, `${field}key`, limits) };
  }
  const range = checkedRange(fields, field, limits);
  return range.start.length === 0 && !range.end ? undefined : { range };
}

const CODE_POINT_MAX = 0x10ffff;
const SURROGATES_BEGIN = 0xd800;
const SURROGATES_END = 0xe000;

/**
 * All keys that begin with the prefix. Its end is a text too, since others are told of it: the order of UTF-8 is that of the
 * code points, so that what follows is the prefix with a higher last one.
 */
function prefixRange(prefix: string, start: Uint8Array): KeyRange {
  const points = Array.from(prefix, (character) => character.codePointAt(0) ?? 0);
  for (let point = points.pop(); point !== undefined; point = points.pop()) {
    if (point === CODE_POINT_MAX) continue;
    const above = point + 1 === SURROGATES_BEGIN ? SURROGATES_END : point + 1;
    return { start, end: Buffer.from(String.fromCodePoint(...points, above)) };
  }
  return { start };
}
