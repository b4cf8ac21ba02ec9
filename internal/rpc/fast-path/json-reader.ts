/** Messages as JSON, as encoders write them. What is unusual is left to the library, which judges it; see DESIGN.md. */
import { isUtf8 } from "node:buffer";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { unreachable } from "../../base/assert.js";
import type { Field, Shape } from "./shape.js";

const SPACE = 32;
const COLON = 58;
/** All of them are below 2^64. */
const UINT64 = /^(?:0|[1-9]\d{0,18})$/;
/** All of them are below 2^63. */
const INT64 = /^(?:0|-?[1-9]\d{0,17})$/;

/** Undefined: the library is to read it. */
export function readJson<Desc extends DescMessage>(shape: Shape<Desc>, bytes: Buffer): MessageShape<Desc> | undefined {
  if (!isUtf8(bytes)) return undefined;
  const text = bytes.toString();
  // So every quotation mark is the beginning or the end of a text, and no text holds what is not Unicode.
  if (text.includes("\\")) return undefined;
  try {
    const json: unknown = JSON.parse(text);
    // Of names that come twice the parser says nothing.
    if (namesWritten(text) !== namesOf(json)) return undefined;
    // What a shape makes is of its own schema.
    return messageOf(json, shape) as MessageShape<Desc> | undefined;
  } catch {
    return undefined;
  }
}

/** How many names of members stand in a text of JSON that has no escapes. */
function namesWritten(text: string): number {
  let names = 0;
  for (let start = text.indexOf('"'); start >= 0;) {
    let after = text.indexOf('"', start + 1) + 1;
    while (text.charCodeAt(after) <= SPACE) after++;
    if (text.charCodeAt(after) === COLON) names++;
    start = text.indexOf('"', after);
  }
  return names;
}

function namesOf(json: unknown): number {
  if (typeof json !== "object" || json === null) return 0;
  const parts: unknown[] = Object.values(json);
  return parts.reduce<number>((names, part) => names + namesOf(part), Array.isArray(json) ? 0 : parts.length);
}

function messageOf(json: unknown, shape: Shape): Record<string, unknown> | undefined {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
  const message = shape.blank();
  for (const [name, part] of Object.entries(json)) {
    const field = shape.byJsonName.get(name);
    const value = field && valueOf(part, field);
    if (value === undefined) return undefined;
    message[field!.name] = value;
  }
  return message;
}

function valueOf(json: unknown, field: Field): unknown {
  switch (field.kind) {
    case "text":
      return textOf(json);
    case "texts": {
      if (!Array.isArray(json)) return undefined;
      const texts = json.map(textOf);
      return texts.includes(undefined) ? undefined : texts;
    }
    case "bytes": {
      if (typeof json !== "string") return undefined;
      const bytes = Buffer.from(json, "base64");
      // Whatever else there is in a text of base64 is a matter of taste.
      if (bytes.toString("base64") !== json) return undefined;
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    case "bool":
      return typeof json === "boolean" ? json : undefined;
    case "uint64":
      return numberOf(json, UINT64, 0);
    case "int64":
      return numberOf(json, INT64, Number.MIN_SAFE_INTEGER);
    case "enum":
      return typeof json === "string" ? field.values?.values.find(({ name }) => name === json)?.number : undefined;
    case "message":
      return field.shape && messageOf(json, field.shape);
    case "uint32":
    case "messages":
      return undefined;
    default:
      return unreachable(field.kind);
  }
}

function textOf(json: unknown): string | undefined {
  return typeof json === "string" ? json : undefined;
}

function numberOf(json: unknown, pattern: RegExp, least: number): bigint | undefined {
  if (typeof json === "string") return pattern.test(json) ? BigInt(json) : undefined;
  return Number.isSafeInteger(json) && (json as number) >= least ? BigInt(json as number) : undefined;
}
