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
  /** The member is a voter, and stays one: it is the master, or the other voters could not go on without it. */
  | "is_voter"
  /** The address is not `host:port`. */
  | "invalid_address"
  /** A majority of the voters, or the one that has the vote, does not answer or does not grant. */
  | "no_majority"
  /** A node whose promise is needed has records that this one lacks. */
  | "behind"
  /** This node has never caught up with a master, or must do so again. */
  | "not_caught_up"
  /** No member is fit to take over. */
  | "no_target"
  /** The other node did not take over. */
  | "handover_failed"
  /** The time for it is over. */
  | "timeout"
  /** What this node has is older than what was asked for. */
  | "too_stale"
  /** The node shuts down. */
  | "closing";

export class ReplicationError extends Error {
  override readonly name = "ReplicationError";
  readonly code: ReplicationErrorCode;
  /** With `not_master`: `host:port` of the master, where it is known. */
  readonly masterAddress?: string;

  constructor(
    code: ReplicationErrorCode,
    message: string,
    options: ErrorOptions & { masterAddress?: string | undefined } = {},
  ) {
    super(message, options);
    this.code = code;
    if (options.masterAddress !== undefined) this.masterAddress = options.masterAddress;
  }
}
