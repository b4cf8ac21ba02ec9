/**
 * The file of those whom a node knows, a line each:
 *
 *     # name   roles   credential                options
 *     web      writer  sha256:<64 hex digits>    prefix=web/ prefix=shared/ expires=2030-01-01T00:00:00Z
 *     node-2   peer    cert:node-2.example.com
 *
 * A credential is the hash of a bearer token, or a name in a client's certificate. A name may have several lines, so that a
 * token is replaced without a moment in which neither counts. A prefix with blanks or quotes in it is a JSON string.
 */
import { allRoles, isRole, type Role } from "./role.js";

export type Credential =
  /** The SHA-256 of a bearer token, 64 hexadecimal digits in lower case. */
  | { readonly kind: "token"; readonly sha256: string }
  /** A DNS name, IP address, URI or common name of a client's certificate. */
  | { readonly kind: "certificate"; readonly name: string };

/** A line of the file. */
export interface IdentityEntry {
  readonly name: string;
  readonly roles: readonly Role[];
  readonly credential: Credential;
  /** Absent: every key. */
  readonly prefixes?: readonly string[];
  /** By the wall clock; absent: it never ends. */
  readonly expiresAtMs?: number;
}

/** Every line that is wrong. No message shows a hash. */
export class IdentityFileError extends Error {
  override readonly name = "IdentityFileError";
}

const ENTRIES_MAX = 10_000;
const PREFIXES_MAX = 100;
const PREFIX_BYTES_MAX = 65_535;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}$/;
const CERTIFICATE_NAME = /^[\x21-\x7e]{1,255}$/;
const WORD = /(?:"(?:[^"\\]|\\.)*"|[^\s"])+/y;
const PROBLEMS_MAX = 20;

/** Reads the text of a file; `file` names it in errors. Throws `IdentityFileError`. */
export function parseIdentities(text: string, file: string): IdentityEntry[] {
  const entries: IdentityEntry[] = [];
  const problems: string[] = [];
  const lineOf = new Map<string, number>();
  for (const [index, line] of text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const complain = (message: string): void => void problems.push(`${file}:${index + 1}: ${message}`);
    const entry = parseLine(line, complain);
    if (!entry) continue;
    const credential = JSON.stringify(entry.credential);
    const first = lineOf.get(credential);
    if (first !== undefined) complain(`has the credential of line ${first}; each belongs to one identity, on one line`);
    else lineOf.set(credential, index + 1);
    if (entries.push(entry) > ENTRIES_MAX) {
      complain(`is one too many; a file has ${ENTRIES_MAX} identities at most`);
      break;
    }
  }
  if (problems.length > 0) {
    const rest = problems.length - PROBLEMS_MAX;
    throw new IdentityFileError(
      [...problems.slice(0, PROBLEMS_MAX), ...(rest > 0 ? [`… and ${rest} more`] : [])].join("\n"),
    );
  }
  return entries;
}

/** The line of an entry, without a line break. */
export function formatIdentity({ name, roles, credential, prefixes = [], expiresAtMs }: IdentityEntry): string {
  return [
    name,
    roles.join(","),
    credential.kind === "token" ? `sha256:${credential.sha256}` : `cert:${credential.name}`,
    ...prefixes.map((prefix) => `prefix=${/^[^\s"#\p{C}]+$/u.test(prefix) ? prefix : JSON.stringify(prefix)}`),
    ...(expiresAtMs === undefined ? [] : [`expires=${new Date(expiresAtMs).toISOString()}`]),
  ].join(" ");
}

type Complain = (message: string) => void;

/** Undefined where it complained. */
function parseLine(line: string, complain: Complain): IdentityEntry | undefined {
  let hasComplained = false;
  const refuse = (message: string): undefined => {
    hasComplained = true;
    complain(message);
    return undefined;
  };
  const words = wordsOf(line);
  if (!words) return refuse("has a quotation mark without its other half; a prefix in quotes is a JSON string");
  const [name = "", roleList, credentialText, ...options] = words;
  if (roleList === undefined || credentialText === undefined) {
    return refuse("must have a name, roles and a credential, as in: web writer sha256:… prefix=web/");
  }
  if (!NAME.test(name)) refuse("begins with no name; a name has up to 128 letters, digits and . _ @ : / -");
  const roles = rolesOf(roleList, refuse);
  const credential = credentialOf(credentialText, refuse);
  const prefixes: string[] = [];
  let expiresAtMs: number | undefined;
  for (const option of options) {
    if (option.startsWith("prefix=")) {
      const prefix = prefixOf(option.slice("prefix=".length), refuse);
      if (prefix !== undefined) prefixes.push(prefix);
    } else if (option.startsWith("expires=") && expiresAtMs === undefined) {
      expiresAtMs = momentOf(option.slice("expires=".length), refuse);
    } else refuse("has an option that is neither prefix=… nor one expires=…");
  }
  if (prefixes.length > PREFIXES_MAX) refuse(`has ${prefixes.length} prefixes; ${PREFIXES_MAX} are possible`);
  if (prefixes.length > 0 && roles?.some((role) => role === "admin" || role === "peer")) {
    refuse("has a prefix, and a role that is about all keys; prefixes are for reader and writer");
  }
  if (hasComplained || !roles || !credential) return undefined;
  return {
    name,
    roles,
    credential,
    ...(prefixes.length > 0 && { prefixes }),
    ...(expiresAtMs !== undefined && { expiresAtMs }),
  };
}

/** Words between blanks, of which those in quotes may have some; undefined where a quotation mark stands alone. */
function wordsOf(line: string): string[] | undefined {
  const words: string[] = [];
  for (let at = 0; ;) {
    while (at < line.length && /\s/.test(line[at]!)) at++;
    if (at >= line.length) return words;
    WORD.lastIndex = at;
    const word = WORD.exec(line)?.[0];
    if (word === undefined) return undefined;
    words.push(word);
    at += word.length;
    if (at < line.length && !/\s/.test(line[at]!)) return undefined;
  }
}

function rolesOf(text: string, refuse: Complain): Role[] | undefined {
  const roles: Role[] = [];
  for (const word of text.split(",")) {
    if (!isRole(word)) {
      refuse(`has an unknown role; the roles are ${allRoles.join(", ")}, with commas and no blanks between several`);
      return undefined;
    }
    if (!roles.includes(word)) roles.push(word);
  }
  return roles;
}

function credentialOf(text: string, refuse: Complain): Credential | undefined {
  const [, kind, value = ""] = /^(sha256|cert):(.*)$/.exec(text) ?? [];
  if (kind === "sha256" && /^[0-9a-fA-F]{64}$/.test(value)) return { kind: "token", sha256: value.toLowerCase() };
  if (kind === "cert" && CERTIFICATE_NAME.test(value)) return { kind: "certificate", name: value };
  refuse(
    "has no credential; it is sha256: with the 64 hexadecimal digits of a token's hash, or cert: with a name in a certificate",
  );
  return undefined;
}

function prefixOf(text: string, refuse: Complain): string | undefined {
  let prefix: unknown = text;
  if (text.startsWith('"')) {
    try {
      prefix = JSON.parse(text);
    } catch {
      prefix = undefined;
    }
  } else if (text.includes('"')) prefix = undefined;
  // Half a surrogate pair, which JSON can express, would come out as another character.
  if (typeof prefix === "string" && prefix !== "" && !/\p{Cs}/u.test(prefix)) {
    if (Buffer.byteLength(prefix) <= PREFIX_BYTES_MAX) return prefix;
  }
  refuse("has a prefix that is none; leave it out for every key, and put one with blanks into quotes, as JSON");
  return undefined;
}

function momentOf(text: string, refuse: Complain): number | undefined {
  const isIso = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text);
  const ms = isIso ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  refuse("has an expires that is no moment; write it as 2030-01-01T00:00:00Z");
  return undefined;
}
