/**
 * Who may call what. Every method has an audience; one that has none may be called by nobody, and a node does not start while
 * it serves one. Who somebody is follows from what it proves; where the node knows nobody, from where it calls.
 */
import { isIP } from "node:net";
import { isWildcardHost } from "../base/address.js";
import { bearerTokenOf } from "./bearer-token.js";
import type { Identities } from "./identities.js";
import { IdentityError } from "./identity-error.js";
import { type KeyReach, liesWithin } from "./key-reach.js";
import { isLoopbackAddress, isLoopbackHost } from "./loopback.js";
import { claimsPeer, provesPeer } from "./peer-proof.js";
import type { Audience, Identity } from "./role.js";

/** Somebody who calls a method. */
export interface Caller {
  /** As the socket tells it; undefined once the socket is gone. */
  readonly address: string | undefined;
  /** The `authorization` header. Nothing else of a request is looked at: cookies are sent by browsers unasked, and URLs are logged. */
  readonly authorization: string | undefined;
  /** The names in a certificate that the connection has proven; empty: it has one with no names. */
  readonly certificateNames?: readonly string[] | undefined;
  /** It came to the listener for peers, which takes nobody else. */
  readonly isAtPeerListener?: boolean | undefined;
}

export interface AccessOptions {
  /** Of each method, as `package.Service/Method`. */
  readonly audiences: ReadonlyMap<string, Audience>;
  /** Only callers on this machine are clients; it does not count where `identities` are given. */
  readonly protectedMode: boolean;
  /** Those whom the node knows; absent: it knows nobody, and goes by where a caller is. */
  readonly identities?: Identities;
  /** What peers prove; without it, and without `identities`, only callers on this machine are peers. */
  readonly clusterSecret?: Uint8Array;
  /** Peers have a listener of their own, and are none anywhere else. */
  readonly hasPeerListener?: boolean;
}

const PROTECTED_MODE_ADVICE =
  "let server.address be 127.0.0.1, or name those who may call in server.identity_file, or set server.protected_mode: false where the network itself keeps strangers out";

/** What the operator should know at start of a node in protected mode; undefined where it listens on loopback alone. */
export function protectedModeWarning(server: { host: string; protectedMode: boolean }): string | undefined {
  const { host, protectedMode } = server;
  if (!protectedMode || isLoopbackHost(host)) return undefined;
  // A call to an address of the machine that is not loopback has such an address as its source too. Names may be loopback.
  const who =
    isWildcardHost(host) || isIP(host) === 0
      ? `only clients that call over loopback (127.0.0.1 or ::1) are served, although the node listens at ${host}`
      : `no client can call over ${host}, since only calls over loopback (127.0.0.1 or ::1) would be served`;
  return `protected mode: ${who}; ${PROTECTED_MODE_ADVICE}`;
}

/** Who proved nothing. */
const nobody: Identity = { name: "nobody", roles: [] };
const provenPeer: Identity = { name: "peer", roles: ["peer"] };
/** Who calls a node that knows nobody. */
const open = {
  client: { name: "client", roles: ["admin"] },
  peer: { name: "peer", roles: ["peer"] },
  both: { name: "local", roles: ["admin", "peer"] },
} satisfies Record<string, Identity>;

export class Access {
  readonly #options: AccessOptions;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  /** The given methods that have no audience. */
  unlisted(methods: Iterable<string>): string[] {
    return [...methods].filter((method) => !this.#options.audiences.has(method));
  }

  /** Returns who calls, when it may call the method; else throws an `IdentityError`. */
  admit(method: string, caller: Caller): Identity {
    const audience = this.#options.audiences.get(method);
    if (audience === undefined) throw new IdentityError("not_allowed", `nobody may call ${method}`);
    if (audience === "anyone") return nobody;
    const identity = this.#identify(caller);
    if (mayCall(identity, audience)) return identity;
    throw this.#refusal(method, audience, identity, caller);
  }

  /** For what would be a call of a method, and came within one of another: returns when the identity may make it, else throws. */
  checkRole(method: string, identity: Identity): void {
    const audience = this.#options.audiences.get(method);
    if (audience === undefined) throw new IdentityError("not_allowed", `nobody may call ${method}`);
    if (!mayCall(identity, audience)) throw wrongRole(method, audience, identity);
  }

  /** Returns when the identity may call the method for these keys, else throws an `IdentityError`. */
  checkKeys(method: string, { name, prefixes }: Identity, reach: KeyReach): void {
    if (!prefixes || liesWithin(reach, prefixes)) return;
    const what = reach === "all" ? "is about all keys" : "is about keys outside of them";
    throw new IdentityError(
      "outside_prefixes",
      `the identity ${name} may use the keys below its prefixes only, and this call of ${method} ${what}`,
      name,
    );
  }

  /** Returns while an identity still counts, that a long call was admitted with; else throws an `IdentityError`. */
  checkCurrent(identity: Identity): void {
    const { identities } = this.#options;
    if (!identities || identity === nobody || identity === provenPeer || identities.isCurrent(identity)) return;
    throw new IdentityError(
      "bad_credential",
      `what the identity ${identity.name} proved itself with has expired or was revoked; call again with a new one`,
      identity.name,
    );
  }

  #identify(caller: Caller): Identity {
    const { clusterSecret, identities, hasPeerListener = false } = this.#options;
    const { address, authorization, certificateNames } = caller;
    if (caller.isAtPeerListener) return provenPeer;
    if (authorization !== undefined && claimsPeer(authorization) && (clusterSecret || identities)) {
      // On the clients' listener it is nobody; what it is told says where it should go.
      if (hasPeerListener) return nobody;
      if (clusterSecret && provesPeer(authorization, clusterSecret)) return provenPeer;
      throw unproven(address);
    }
    if (identities) {
      if (authorization !== undefined) return ofAuthorization(authorization, identities);
      return (certificateNames && identities.ofCertificate(certificateNames)) ?? nobody;
    }
    const isHere = isLoopbackAddress(address);
    const isClient = isHere || !this.#options.protectedMode;
    const isPeer = isHere && !clusterSecret && !hasPeerListener;
    if (isClient) return isPeer ? open.both : open.client;
    return isPeer ? open.peer : nobody;
  }

  #refusal(method: string, audience: Audience, identity: Identity, caller: Caller): IdentityError {
    const { identities, clusterSecret, hasPeerListener } = this.#options;
    const isForPeers = audience !== "anyone" && audience.every((role) => role === "peer");
    const from = caller.address ?? "a closed connection";
    if (isForPeers && hasPeerListener) {
      return new IdentityError(
        "not_allowed",
        `${method} is for nodes of the cluster, which call at replication.listen`,
        identity === nobody ? undefined : identity.name,
      );
    }
    if (isForPeers && !identities) {
      if (clusterSecret) return unproven(caller.address, "no_credential");
      return new IdentityError(
        "unproven_peer",
        `a node beyond loopback, at ${from}, must prove the secret of the cluster, and this node has none; set cluster.secret_file, with the same content on every node`,
      );
    }
    if (!identities && identity === nobody) {
      return new IdentityError(
        "protected_mode",
        `this node is in protected mode: it listens beyond loopback without authentication, so it serves calls over loopback only (127.0.0.1 or ::1), and you call from ${from}; ` +
          PROTECTED_MODE_ADVICE,
      );
    }
    if (identity === nobody) {
      return new IdentityError(
        "no_credential",
        `${method} needs an identity that this node knows; send a token, as in "authorization: Bearer cambium_…"${caller.certificateNames ? " (the certificate of the connection has no name in server.identity_file)" : ""}`,
      );
    }
    return wrongRole(method, audience, identity);
  }
}

function mayCall({ roles }: Identity, audience: Audience): boolean {
  return audience === "anyone" || roles.some((role) => audience.includes(role));
}

function wrongRole(method: string, audience: Audience, { name, roles }: Identity): IdentityError {
  const wanted = audience === "anyone" ? "" : audience.join(" or ");
  return new IdentityError(
    "not_allowed",
    `the identity ${name} has the role ${roles.join(", ")}, and ${method} is for ${wanted}`,
    name,
  );
}

function ofAuthorization(authorization: string, identities: Identities): Identity {
  const token = bearerTokenOf(authorization);
  const identity = token === undefined ? undefined : identities.ofToken(token);
  if (identity) return identity;
  throw new IdentityError(
    "bad_credential",
    token === undefined
      ? 'the authorization header has no token; send it as in "authorization: Bearer cambium_…"'
      : "the token is not known here, or has expired; ask whoever runs this node for a new one",
  );
}

function unproven(
  address: string | undefined,
  code: "no_credential" | "bad_credential" = "bad_credential",
): IdentityError {
  return new IdentityError(
    code,
    `the node at ${address ?? "a closed connection"} did not prove that it knows the secret of this cluster; let cluster.secret_file have the same content on every node`,
  );
}
