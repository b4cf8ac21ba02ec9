/** Those whom this node knows by a token or a certificate. What the file says is put in place of what it said before as a whole. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { bearerTokenHash } from "./bearer-token.js";
import type { IdentityEntry } from "./identity-file.js";
import type { Identity } from "./role.js";

interface Known {
  readonly identity: Identity;
  readonly entry: IdentityEntry;
  /** Of the token's hash; empty for a certificate. */
  readonly hash: Buffer;
}

export class Identities {
  readonly #wallMs: () => number;
  /** Nobody outside can tell which values of the index lie close together, so that finding one tells nothing by its time. */
  readonly #key = randomBytes(32);
  #byToken: ReadonlyMap<string, Known> = new Map();
  #byCertificate: ReadonlyMap<string, Known> = new Map();
  /** By the entry as JSON. */
  #known: ReadonlyMap<string, Known> = new Map();
  #current: ReadonlyMap<Identity, IdentityEntry> = new Map();

  /** `wallMs`: the moment, by which tokens expire. */
  constructor(entries: readonly IdentityEntry[], wallMs: () => number) {
    this.#wallMs = wallMs;
    this.replace(entries);
  }

  get size(): number {
    return this.#known.size;
  }

  /** From now on these count, and no others. An identity that is among both stays the same object. */
  replace(entries: readonly IdentityEntry[]): void {
    const known = new Map<string, Known>();
    const byToken = new Map<string, Known>();
    const byCertificate = new Map<string, Known>();
    for (const entry of entries) {
      const text = JSON.stringify(entry);
      const one = this.#known.get(text) ?? this.#knownOf(entry);
      known.set(text, one);
      if (entry.credential.kind === "token") byToken.set(this.#indexOf(one.hash), one);
      else byCertificate.set(entry.credential.name.toLowerCase(), one);
    }
    this.#known = known;
    this.#current = new Map([...known.values()].map(({ identity, entry }) => [identity, entry]));
    this.#byToken = byToken;
    this.#byCertificate = byCertificate;
  }

  /** Whose token it is; undefined where it is nobody's, or not any more. */
  ofToken(token: string): Identity | undefined {
    const hash = Buffer.from(bearerTokenHash(token), "hex");
    const known = this.#byToken.get(this.#indexOf(hash));
    return known && timingSafeEqual(known.hash, hash) && !this.#isOver(known.entry) ? known.identity : undefined;
  }

  /** Who is meant by the first of the names that is known. */
  ofCertificate(names: readonly string[]): Identity | undefined {
    for (const name of names) {
      const known = this.#byCertificate.get(name.toLowerCase());
      if (known && !this.#isOver(known.entry)) return known.identity;
    }
    return undefined;
  }

  /** Whether an identity that was given out still counts. */
  isCurrent(identity: Identity): boolean {
    const entry = this.#current.get(identity);
    return entry !== undefined && !this.#isOver(entry);
  }

  #knownOf(entry: IdentityEntry): Known {
    const { name, roles, prefixes, credential } = entry;
    const identity: Identity = {
      name,
      roles,
      ...(prefixes && { prefixes: prefixes.map((prefix) => new TextEncoder().encode(prefix)) }),
    };
    return { identity, entry, hash: Buffer.from(credential.kind === "token" ? credential.sha256 : "", "hex") };
  }

  #indexOf(hash: Buffer): string {
    return createHmac("sha256", this.#key).update(hash).digest("base64");
  }

  #isOver({ expiresAtMs }: IdentityEntry): boolean {
    return expiresAtMs !== undefined && this.#wallMs() >= expiresAtMs;
  }
}
