/**
 * Who may call what. Every method names the roles that may call it; a method that is not in the table may be called by
 * nobody, and a node does not start while it serves one. The roles of a caller follow from where it calls and from what
 * it proves.
 */
import { isIP } from "node:net";
import { isWildcardHost } from "../base/address.js";
import { IdentityError } from "./identity-error.js";
import { isLoopbackAddress, isLoopbackHost } from "./loopback.js";
import { claimsPeer, provesPeer } from "./peer-proof.js";

/** `client`: reads, writes and operates the cluster. `peer`: another node of it. */
export type Role = "client" | "peer";

/** Somebody who calls a method. */
export interface Caller {
  /** As the socket tells it; undefined once the socket is gone. */
  readonly address: string | undefined;
  /** The `authorization` header. */
  readonly authorization: string | undefined;
}

/**
 * Whether what one caller has left on this node is the other's too. Those who prove nothing are all the same: what they leave is
 * as secret as its name.
 */
export function isSameCaller(one: Caller, other: Caller): boolean {
  return one.authorization === other.authorization;
}

const client: readonly Role[] = ["client"];
const peer: readonly Role[] = ["peer"];
/** A replica may pass them on to its master. */
const clientOrPeer: readonly Role[] = ["client", "peer"];

/** `package.Service/Method`, or the path of a page → the roles that may call it. */
export const accessTable: ReadonlyMap<string, readonly Role[]> = new Map([
  ["cambium.v1.KVStore/Get", client],
  ["cambium.v1.KVStore/BatchGet", client],
  ["cambium.v1.KVStore/Scan", client],
  ["cambium.v1.KVStore/Set", clientOrPeer],
  ["cambium.v1.KVStore/Delete", clientOrPeer],
  ["cambium.v1.KVStore/DeleteRange", clientOrPeer],
  ["cambium.v1.KVStore/Touch", clientOrPeer],
  ["cambium.v1.KVStore/Increment", clientOrPeer],
  ["cambium.v1.KVStore/Txn", clientOrPeer],
  ["cambium.v1.KVStore/Write", clientOrPeer],
  ["cambium.v1.KVStore/ScanStream", client],
  ["cambium.v1.KVStore/Watch", client],
  ["cambium.v1.KVStore/WatchMany", client],
  ["cambium.v1.KVStore/AddWatch", client],
  ["cambium.v1.KVStore/RemoveWatch", client],
  ["cambium.v1.KVStore/GetUpdates", client],
  ["cambium.v1.Log/Produce", clientOrPeer],
  ["cambium.v1.Log/Consume", client],
  ["cambium.v1.Log/ProduceStream", client],
  ["cambium.v1.Log/ConsumeStream", client],
  ["cambium.v1.Log/Truncate", clientOrPeer],
  ["cambium.v1.Log/GetRange", client],
  ["cambium.v1.Cluster/Status", client],
  ["cambium.v1.Cluster/AddReplica", client],
  ["cambium.v1.Cluster/RemoveReplica", client],
  ["cambium.v1.Cluster/Promote", client],
  ["cambium.v1.Cluster/Transfer", client],
  ["cambium.v1.Cluster/SetStorageLimits", client],
  ["cambium.v1.Cluster/CreateSnapshot", client],
  ["cambium.v1.Cluster/Backup", client],
  ["cambium.v1.Cluster/SetLogLevel", client],
  ["cambium.v1.Cluster/SlowLog", client],
  ["cambium.v1.Replication/Push", peer],
  ["cambium.v1.Replication/Register", peer],
  ["cambium.v1.Replication/Survey", peer],
  ["cambium.v1.Replication/RequestPromise", peer],
  ["cambium.v1.Replication/ReadIndex", peer],
  ["grpc.health.v1.Health/Check", client],
  ["grpc.health.v1.Health/Watch", client],
  ["grpc.health.v1.Health/List", client],
  ["grpc.reflection.v1.ServerReflection/ServerReflectionInfo", client],
  ["grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", client],
  // A page, by its path.
  ["/metrics", client],
]);

export interface AccessOptions {
  /** Only callers on this machine are clients. */
  readonly protectedMode: boolean;
  /** What peers prove; without it only callers on this machine are peers. */
  readonly clusterSecret?: Uint8Array;
  readonly table?: ReadonlyMap<string, readonly Role[]>;
}

const PROTECTED_MODE_ADVICE =
  "let server.address be 127.0.0.1, or set server.protected_mode: false where the network itself keeps strangers out";

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

export class Access {
  readonly #protectedMode: boolean;
  readonly #clusterSecret: Uint8Array | undefined;
  readonly #table: ReadonlyMap<string, readonly Role[]>;

  constructor(options: AccessOptions) {
    this.#protectedMode = options.protectedMode;
    this.#clusterSecret = options.clusterSecret;
    this.#table = options.table ?? accessTable;
  }

  /** The given methods that the table does not know. */
  unlisted(methods: Iterable<string>): string[] {
    return [...methods].filter((method) => !this.#table.has(method));
  }

  /** Returns when the caller may call the method, else throws an `IdentityError`. */
  check(method: string, caller: Caller): void {
    const roles = this.#table.get(method) ?? [];
    let refusal: IdentityError | undefined;
    for (const role of roles) {
      const refused = role === "client" ? this.#refuseClient(caller) : this.#refusePeer(caller);
      if (!refused) return;
      // What a caller is told concerns what it seems to be.
      if (!refusal || (role === "peer" && claimsPeer(caller.authorization))) refusal = refused;
    }
    throw refusal ?? new IdentityError("not_allowed", `nobody may call ${method}`);
  }

  #refuseClient(caller: Caller): IdentityError | undefined {
    if (!this.#protectedMode || isLoopbackAddress(caller.address)) return undefined;
    return new IdentityError(
      "protected_mode",
      `this node is in protected mode: it listens beyond loopback without authentication, so it serves calls over loopback only (127.0.0.1 or ::1), and you call from ${caller.address ?? "a closed connection"}; ` +
        PROTECTED_MODE_ADVICE,
    );
  }

  #refusePeer(caller: Caller): IdentityError | undefined {
    if (this.#clusterSecret) {
      if (provesPeer(caller.authorization, this.#clusterSecret)) return undefined;
      return new IdentityError(
        "unproven_peer",
        `the node at ${caller.address ?? "a closed connection"} did not prove that it knows the secret of this cluster; let cluster.secret_file have the same content on every node`,
      );
    }
    if (isLoopbackAddress(caller.address)) return undefined;
    return new IdentityError(
      "unproven_peer",
      `a node beyond loopback, at ${caller.address ?? "a closed connection"}, must prove the secret of the cluster, and this node has none; set cluster.secret_file, with the same content on every node`,
    );
  }
}
