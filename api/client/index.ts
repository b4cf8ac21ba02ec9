/**
 * The client for browsers and for Node, over `fetch`. Nothing here or below imports a module of Node; `node.ts` adds what
 * only Node has.
 */
export type { Backup, SnapshotReceipt } from "./backup.js";
export { CambiumError, type CambiumErrorCode, type CambiumErrorDetails } from "./cambium-error.js";
export {
  type CallOptions,
  CambiumClient,
  type ClientOptions,
  type ConsumeOptions,
  createClient,
  type PromoteOptions,
  type ReadOptions,
  type ScanOptions,
  type ScanPageOptions,
  type SetOptions,
  type StatusOptions,
  type TransferOptions,
  type UpdatesOptions,
  type WriteOptions,
} from "./client.js";
export type { Acknowledge, ReadConsistency } from "./consistency.js";
export type { TokenSource } from "./credential.js";
export type { PromoteReceipt, TransferReceipt } from "./mastership.js";
export type {
  BatchReceipt,
  DeleteReceipt,
  Entry,
  UpdateEvent,
  UpdatesPage,
  WriteOperation,
  WriteReceipt,
} from "./message.js";
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
export type { Position } from "./wire.js";
