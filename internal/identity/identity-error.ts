export type IdentityErrorCode =
  /** The node is bound wider than loopback without authentication, and the caller is not on this machine. */
  | "protected_mode"
  /** The caller proved nothing, and has to. */
  | "no_credential"
  /** What the caller showed as a proof is none. Attempts like this are slowed down. */
  | "bad_credential"
  /** A caller of a method for peers is none, and this node has nothing by which it could prove that it is one. */
  | "unproven_peer"
  /** No role of the caller may call the method. */
  | "not_allowed"
  /** The role may, but not for these keys. */
  | "outside_prefixes";

/** Why a caller may not do what it asked for. The message says what can be changed. */
export class IdentityError extends Error {
  override readonly name = "IdentityError";
  readonly code: IdentityErrorCode;
  /** The name of who called, where that is known. */
  readonly identity: string | undefined;

  constructor(code: IdentityErrorCode, message: string, identity?: string) {
    super(message);
    this.code = code;
    this.identity = identity;
  }
}
