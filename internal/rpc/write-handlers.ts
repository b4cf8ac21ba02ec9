/** The writes of `KVStore`: each checked, carried out here or at the master, and its receipt put in the words of the wire. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BatchGetEntrySchema,
  KVStore,
  type Previous,
  PreviousSchema,
  type TxnResult,
  TxnResultSchema,
  type WriteResult as WireResult,
  WriteResultSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Position as WirePosition } from "../../api/gen/cambium/v1/types_pb.js";
import { must } from "../base/assert.js";
import { type EpochMs, toWire64 } from "../base/position.js";
import type { TxnOperation, WriteReceipt, WriteResult } from "../store/store.js";
import { failureKey } from "./adapter.js";
import type { AcknowledgedWrites } from "./acknowledged.js";
import { whileWanted } from "./caller.js";
import { bytesToWire, positionToWire } from "./convert.js";
import { entryToWire } from "./entries.js";
import {
  checkedDeleteOf,
  checkedIncrementOf,
  checkedSetOf,
  checkedWay,
  type OneWrite,
  propose,
  writeOne,
} from "./key-writes.js";
import type { LargeAnswers } from "./large-answers.js";
import type { Limits } from "./limits.js";
import type { RpcStore } from "./ports.js";
import { LARGE_BYTES } from "./turns.js";
import type { WriteForwarder } from "./write-forwarder.js";
import { checkedDeleteRange, checkedOperations, checkedTouch, checkedTxn } from "./write-requests.js";

export interface WriteHandlerOptions {
  readonly store: Pick<RpcStore, "write" | "transact" | "masterTimeMs">;
  readonly limits: Limits;
  readonly large: LargeAnswers;
  readonly writes: Pick<AcknowledgedWrites, "write">;
  readonly forwarder: Pick<WriteForwarder, "hereOrForward">;
}

type Writes = "set" | "delete" | "deleteRange" | "touch" | "increment" | "txn" | "write";

export function writeHandlers(options: WriteHandlerOptions): Pick<ServiceImpl<typeof KVStore>, Writes> {
  const { store, limits, forwarder } = options;
  /** A write of one command, and its answer. */
  const one = async <A>(
    write: OneWrite,
    context: HandlerContext,
    answer: (result: WriteResult, about: About) => A,
  ): Promise<A> => {
    const failure = context.values.get(failureKey);
    // It is not carried out twice.
    if (failure) throw failure.error;
    const receipt = await answerable(writeOne(write, context, options), context, options);
    return answer(must(receipt.results[0], "a result for each command"), aboutToWire(receipt));
  };
  return {
    set(request, context) {
      const write = checkedSetOf(request, limits);
      return forwarder.hereOrForward(KVStore.method.set, request, context, () =>
        one(write, context, (result, about) => ({ ...previousOf(result), ...about })),
      );
    },

    delete(request, context) {
      const write = checkedDeleteOf(request, limits);
      return forwarder.hereOrForward(KVStore.method.delete, request, context, () =>
        one(write, context, (result, about) => ({ existed: result.existed, ...previousOf(result), ...about })),
      );
    },

    deleteRange(request, context) {
      const write = { command: checkedDeleteRange(request, limits), way: checkedWay(request) };
      return forwarder.hereOrForward(KVStore.method.deleteRange, request, context, () =>
        one(write, context, ({ deleted }, about) => ({
          ...(deleted !== undefined && { deleted: toWire64(deleted) }),
          ...about,
        })),
      );
    },

    touch(request, context) {
      const write = { command: checkedTouch(request, "", limits), way: checkedWay(request) };
      return forwarder.hereOrForward(KVStore.method.touch, request, context, () =>
        one(write, context, ({ existed }, about) => ({ existed, ...about })),
      );
    },

    increment(request, context) {
      const write = checkedIncrementOf(request, limits);
      return forwarder.hereOrForward(KVStore.method.increment, request, context, () =>
        one(write, context, ({ sum }, about) => ({ ...(sum !== undefined && { value: sum }), ...about })),
      );
    },

    txn(request, context) {
      const txn = checkedTxn(request, limits);
      const way = checkedWay(request);
      return forwarder.hereOrForward(KVStore.method.txn, request, context, async () => {
        const count = Math.max(txn.then.length, txn.else.length);
        const written = propose(count, way, context, options, (how) => store.transact(txn, how));
        const receipt = await answerable(written, context, options);
        const { succeeded, failedCompares, results } = receipt;
        const nowMs = store.masterTimeMs();
        const operations = succeeded ? txn.then : txn.else;
        return {
          succeeded,
          failedCompares: [...failedCompares],
          results: results.map((result, index) => txnResultToWire(result, operations[index], nowMs)),
          ...aboutToWire(receipt),
        };
      });
    },

    write(request, context) {
      const commands = checkedOperations(request, limits);
      const way = checkedWay(request);
      return forwarder.hereOrForward(KVStore.method.write, request, context, async () => {
        const written = propose(commands.length, way, context, options, (how) => store.write(commands, how));
        const receipt = await answerable(written, context, options);
        return { results: receipt.results.map(resultToWire), ...aboutToWire(receipt) };
      });
    },
  };
}

/** Resolves when the write is acknowledged, and its answer may be made. */
async function answerable<R extends WriteReceipt>(
  written: Promise<R>,
  context: HandlerContext,
  { large }: Pick<WriteHandlerOptions, "large">,
): Promise<R> {
  const receipt = await written;
  const bytes = receipt.results.reduce((sum, { previous, entry }) => sum + bytesIn(previous) + bytesIn(entry), 0);
  // What has been written is answered also while this node begins to shut down.
  if (bytes > LARGE_BYTES)
    await whileWanted(context, async (signal) => large.turnFor(bytes, { values: context.values, signal }));
  return receipt;
}

const bytesIn = (entry: { readonly value: Uint8Array } | undefined): number => entry?.value.byteLength ?? 0;

/** What every answer to a write has. */
interface About {
  readonly position: WirePosition;
  readonly token: Uint8Array<ArrayBuffer>;
  readonly repeated: boolean;
}

function aboutToWire({ position, token, repeated }: WriteReceipt): About {
  return { position: positionToWire(position), token: bytesToWire(token), repeated: repeated === true };
}

function txnResultToWire(result: WriteResult, operation: TxnOperation | undefined, nowMs: EpochMs): TxnResult {
  const { entry, sum } = result;
  // Of what was sent again with other operations, the answer of the first time says most of what they were.
  if (entry || (operation?.kind === "get" && sum === undefined)) {
    const value = create(BatchGetEntrySchema, entryToWire(entry, nowMs, bytesToWire));
    return create(TxnResultSchema, { result: { case: "get", value } });
  }
  if (sum !== undefined) return create(TxnResultSchema, { result: { case: "value", value: sum } });
  return create(TxnResultSchema, { result: { case: "write", value: resultToWire(result) } });
}

function resultToWire(result: WriteResult): WireResult {
  const { existed, sum } = result;
  return create(WriteResultSchema, { existed, ...previousOf(result), ...(sum !== undefined && { value: sum }) });
}

function previousOf({ previous }: WriteResult): { previous?: Previous } {
  if (!previous) return {};
  const { value, createSeq, modSeq } = previous;
  return {
    previous: create(PreviousSchema, {
      value: bytesToWire(value),
      createSeq: toWire64(createSeq),
      modSeq: toWire64(modSeq),
    }),
  };
}
