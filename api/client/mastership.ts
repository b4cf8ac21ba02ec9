/** What becomes of a promotion and of a handover, in plain types. */
import type { PromoteResponse, TransferResponse } from "../gen/cambium/v1/cluster_pb.js";
import { fromWire, type Position, toPosition } from "./wire.js";

/** A mastership that has begun. */
export interface PromoteReceipt {
  /** Of its first record. */
  readonly position: Position;
  /** Where it was forced: the addresses of members that did not promise. */
  readonly unreached: readonly string[];
  /** Where it was forced: records that are known to be lost; there may be more. */
  readonly knownLostRecords: number;
}

/** The new master, which takes writes. */
export interface TransferReceipt {
  readonly nodeId: string;
  readonly address: string;
  readonly epoch: number;
  /** Milliseconds during which no writes were taken. */
  readonly pauseMs: number;
}

export function toPromoteReceipt(answer: PromoteResponse): PromoteReceipt {
  return {
    position: toPosition(answer.position),
    unreached: answer.unreached,
    knownLostRecords: fromWire(answer.knownLostRecords, "known_lost_records"),
  };
}

export function toTransferReceipt({ nodeId, address, epoch, pauseMs }: TransferResponse): TransferReceipt {
  return { nodeId, address, epoch: fromWire(epoch, "epoch"), pauseMs: fromWire(pauseMs, "pause_ms") };
}
