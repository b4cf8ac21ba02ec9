/** How much a request carries, whichever it is: looked at for slow calls only, by the names of the contract's fields. */

export const FIRST_KEY_CHARACTERS = 64;

export interface MessageContent {
  /** Keys and ranges. */
  readonly keys: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** How the first of them begins. */
  readonly firstKey: string;
}

/** Fields that hold a key, or where keys begin. A range's `end` belongs to its `start`. */
const KEY_FIELDS: ReadonlySet<string> = new Set(["key", "keys", "prefix", "start"]);
/** No request has more parts, and none is worth more time. */
const PARTS_MAX = 100_000;

/** Of a decoded message. */
export function contentOf(message: object): MessageContent {
  const content = { keys: 0, keyBytes: 0, valueBytes: 0, firstKey: "" };
  const left: [name: string, part: unknown][] = [["", message]];
  // The first key is the first one to be taken, and the last of the list is taken first.
  for (let taken = 0; left.length > 0 && taken < PARTS_MAX; taken++) {
    const [name, part] = left.pop()!;
    if (part instanceof Uint8Array) content.valueBytes += part.byteLength;
    else if (Array.isArray(part)) for (const each of part.toReversed()) left.push([name, each]);
    else if (typeof part === "object" && part !== null) {
      for (const [field, value] of Object.entries(part).reverse()) {
        // The branch of a `oneof` that is set is `{ case, value }`.
        left.push([field === "value" && "case" in part ? String(part.case) : field, value]);
      }
    } else if (typeof part === "string" && part !== "" && KEY_FIELDS.has(name)) {
      if (content.keys++ === 0) content.firstKey = beginningOf(part);
      content.keyBytes += Buffer.byteLength(part);
    }
  }
  return content;
}

/** A string of its own: a piece of another would keep all of it in memory. No character is cut in two. */
function beginningOf(key: string): string {
  return Array.from(key.slice(0, 2 * FIRST_KEY_CHARACTERS))
    .slice(0, FIRST_KEY_CHARACTERS)
    .join("");
}
