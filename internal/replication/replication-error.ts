/** What replication could not do, for reasons that are no bug. */

export type ReplicationErrorCode =
  /** This node is a replica, or its mastership has not begun. */
  | "not_master"
  /** The other node belongs to another cluster. */
  | "foreign_cluster"
  /** Nothing answers at the address. */
  | "unreachable"
  /** A node answers at the address, and will not follow this master. */
  | "refused"
  /** The node was removed from the cluster, and must be added again first. */
  | "removed"
  /** No member fits. */
  | "not_found"
  /** The member is a voter, and stays one. */
  | "is_voter"
  /** The address is not `host:port`. */
  | "invalid_address"
  /** The node shuts down. */
  | "closing";

export class ReplicationError extends Error {
  override readonly name = "ReplicationError";
  readonly code: ReplicationErrorCode;

  constructor(code: ReplicationErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
