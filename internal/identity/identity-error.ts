export type IdentityErrorCode =
  /** The node is bound wider than loopback without authentication, and the caller is not on this machine. */
  | "protected_mode"
  /** A caller of a method for peers did not prove that it knows the cluster's secret. */
  | "unproven_peer"
  /** No role of the caller may call the method. */
  | "not_allowed";

/** Why a caller may not do what it asked for. The message says what the operator can change. */
export class IdentityError extends Error {
  override readonly name = "IdentityError";
  readonly code: IdentityErrorCode;

  constructor(code: IdentityErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
