/**
 * Tokens that clients show: 32 random bytes, as text with a mark by which scanners find one that has leaked. A node keeps
 * only the SHA-256 of the text. Random as they are, one hash is enough: there is nothing to be guessed.
 */
import { hash } from "node:crypto";
import { assert } from "../base/assert.js";

const MARK = "cambium_";
const BYTES = 32;
/** Characters of what is looked at as a token at all. */
const LENGTH_MAX = 256;

/** The token of 32 random bytes. */
export function bearerToken(random: Uint8Array): string {
  assert(random.length === BYTES, "a token has 32 random bytes");
  return MARK + Buffer.from(random).toString("base64url");
}

/** What a node keeps of a token: the SHA-256 of its text, in hexadecimal. */
export function bearerTokenHash(token: string): string {
  return hash("sha256", token, "hex");
}

/** The token of an `authorization` header; undefined where it is of another scheme, or none that could be one. */
export function bearerTokenOf(authorization: string): string | undefined {
  const token = /^bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
  return token !== undefined && token.length <= LENGTH_MAX ? token : undefined;
}
