/** Who somebody is to this node. */

/**
 * `reader` reads; `writer` reads and writes; `admin` does all that clients do, and operates the cluster; `peer` is another
 * node of it, which is no client.
 */
export type Role = "reader" | "writer" | "admin" | "peer";

export const allRoles: readonly Role[] = ["reader", "writer", "admin", "peer"];

export const isRole = (word: string): word is Role => (allRoles as readonly string[]).includes(word);

/** Who may call a method: everybody, or whoever has one of the roles. */
export type Audience = "anyone" | readonly Role[];

export interface Identity {
  /** For people: of the node's logs and refusals. */
  readonly name: string;
  readonly roles: readonly Role[];
  /** As UTF-8; absent: every key. */
  readonly prefixes?: readonly Uint8Array[];
}
