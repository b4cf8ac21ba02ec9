/** Which keys a request is about, and whether somebody who has some prefixes only may ask for them. */

/** A part of the keys, each text as in the request. */
export type KeyPart =
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "prefix"; readonly prefix: string }
  /** From `start` on, below `end`; an empty `end` is no end. */
  | { readonly kind: "range"; readonly start: string; readonly end: string };

/** What a request is about: no keys at all, some parts of them, or all there are. */
export type KeyReach = "none" | "all" | readonly KeyPart[];

/** Whether everything that the request is about lies within the prefixes, each part within one of them. */
export function liesWithin(reach: KeyReach, prefixes: readonly Uint8Array[]): boolean {
  if (reach === "none") return true;
  if (reach === "all") return false;
  return reach.every((part) => prefixes.some((prefix) => isPartWithin(part, prefix)));
}

function isPartWithin(part: KeyPart, prefix: Uint8Array): boolean {
  switch (part.kind) {
    case "key":
      return beginsWith(part.key, prefix);
    case "prefix":
      return beginsWith(part.prefix, prefix);
    case "range":
      // The first key of a range, or what comes before it, begins with the prefix, and so does all until the end of the prefix.
      return part.end !== "" && beginsWith(part.start, prefix) && isAtMostEndOf(part.end, prefix);
  }
}

function beginsWith(text: string, prefix: Uint8Array): boolean {
  const bytes = Buffer.from(text);
  return bytes.length >= prefix.length && bytes.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

/** Whether no key that begins with something greater than the prefix lies below `end`. */
function isAtMostEndOf(end: string, prefix: Uint8Array): boolean {
  const bytes = Buffer.from(end);
  const length = Math.min(bytes.length, prefix.length);
  const order = bytes.compare(prefix, 0, length, 0, length);
  if (order < 0) return true;
  if (order === 0) return true;
  // The first bytes after all that begin with the prefix: UTF-8 has no byte 0xff, so that its last byte can always grow.
  const after = Buffer.from(prefix);
  const last = after.length - 1;
  if (last < 0) return false;
  after[last] = after[last]! + 1;
  return bytes.compare(after) <= 0;
}
