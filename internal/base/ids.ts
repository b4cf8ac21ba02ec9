/** Random identities. Inside they are lower-case hexadecimal strings, so that they compare and print as they are. */
import { assert } from "./assert.js";

declare const brand: unique symbol;

/** Made by the first master of a cluster; 32 hexadecimal digits (16 bytes). */
export type ClusterId = string & { readonly [brand]: "ClusterId" };
/** Born with a data directory; 32 hexadecimal digits (16 bytes). */
export type NodeId = string & { readonly [brand]: "NodeId" };
/** Drawn anew with every epoch; 16 hexadecimal digits (8 bytes). */
export type EpochId = string & { readonly [brand]: "EpochId" };
/** Drawn anew with every file of the whole state that a master sends; 32 hexadecimal digits (16 bytes). */
export type TransferId = string & { readonly [brand]: "TransferId" };

/** Where randomness comes from; tests and the simulator give a seeded one. */
export interface RandomSource {
  bytes(length: number): Uint8Array;
}

/** True when `text` is `bytes` bytes written as lower-case hexadecimal digits. */
export function isHexId(text: string, bytes: number): boolean {
  return text.length === bytes * 2 && /^[0-9a-f]*$/.test(text);
}

function checked(text: string, bytes: number, what: string): string {
  assert(isHexId(text, bytes), `${what} must be ${bytes * 2} hexadecimal digits, not ${JSON.stringify(text)}`);
  return text;
}

export const clusterId = (hex: string): ClusterId => checked(hex, 16, "cluster id") as ClusterId;
export const nodeId = (hex: string): NodeId => checked(hex, 16, "node id") as NodeId;
export const epochId = (hex: string): EpochId => checked(hex, 8, "epoch id") as EpochId;
export const transferId = (hex: string): TransferId => checked(hex, 16, "transfer id") as TransferId;

export const idFromBytes = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const idToBytes = (id: ClusterId | NodeId | EpochId | TransferId): Uint8Array =>
  new Uint8Array(Buffer.from(id, "hex"));

export const newClusterId = (random: RandomSource): ClusterId => clusterId(idFromBytes(random.bytes(16)));
export const newNodeId = (random: RandomSource): NodeId => nodeId(idFromBytes(random.bytes(16)));
export const newEpochId = (random: RandomSource): EpochId => epochId(idFromBytes(random.bytes(8)));
