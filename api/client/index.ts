/**
 * The client for browsers and for Node, over `fetch`. Nothing here or below imports a module of Node; `node.ts` adds what
 * only Node has.
 */
export type { Backup, SnapshotReceipt } from "./backup.js";
export type { LogLevel, SlowCall, SlowLog } from "./node-log.js";
export { CambiumError, type CambiumErrorCode, type CambiumErrorDetails } from "./cambium-error.js";
export { CambiumClient, createClient } from "./client.js";
export type { Acknowledge, ReadConsistency } from "./consistency.js";
export type { TokenSource } from "./credential.js";
export type { PromoteReceipt, TransferReceipt } from "./mastership.js";
export type { ChangeFilter } from "./change-filter.js";
export type { Entry, UpdateEvent, UpdatesPage } from "./message.js";
export type {
  BatchReceipt,
  Condition,
  DeletedRange,
  DeleteOperation,
  DeleteRangeReceipt,
  DeleteReceipt,
  IncrementOperation,
  IncrementReceipt,
  PreviousEntry,
  SetCondition,
  SetOperation,
  SetReceipt,
  TouchOperation,
  TouchReceipt,
  WriteOperation,
  WriteReceipt,
  WriteResult,
} from "./operation.js";
export type {
  CallOptions,
  ClientOptions,
  ConsumeOptions,
  DeleteOptions,
  IncrementOptions,
  PromoteOptions,
  ReadOptions,
  ScanOptions,
  ScanPageOptions,
  SetOptions,
  StatusOptions,
  TouchOptions,
  TransferOptions,
  UpdatesOptions,
  WriteOptions,
} from "./options.js";
export type { OffsetRange, ProducedRecord, ProduceReceipt } from "./record.js";
export type { Records } from "./record-batches.js";
export type { KeyRange, ScannedEntry, ScanPage } from "./scan.js";
export type {
  ClusterStatus,
  EvictionPolicy,
  MemberSource,
  MemberState,
  MemberStatus,
  NodeStatus,
  StorageLimits,
} from "./cluster-status.js";
export { fetchTransport, type NodeTransport, type TransportFactory, type TransportOptions } from "./transport.js";
export type { Compare, Comparison, GetOperation, Txn, TxnOperation, TxnReceipt } from "./txn.js";
export type { Watch, WatchBatch, WatchOptions } from "./watch.js";
export type { Position } from "./wire.js";
export type { RetryIdentity } from "./write-numbers.js";
