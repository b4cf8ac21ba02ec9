/**
 * Every method that a node serves: who may call it, and where in a request the keys are that it is about. What is not here
 * nobody may call, and a node does not start while it serves it. Somebody who has some prefixes only is held to them by this
 * table, so that a method whose requests have keys and that says `noKeys` would be a hole.
 */
import type { DescMessage, DescMethod, Message, MessageShape } from "@bufbuild/protobuf";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { Health } from "../../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import type { KeyPart, KeyReach } from "../identity/key-reach.js";
import type { Audience, Role } from "../identity/role.js";
import { METRICS_PATH } from "./metrics-page.js";
import { methodName } from "./method-name.js";

export interface MethodRule {
  readonly method: DescMethod;
  readonly audience: Audience;
  /** What a message of a request is about. */
  readonly reach: (message: Message) => KeyReach;
  /** Its handler holds each operation to the rule of the operation's own method, and to its own keys: one that is refused refuses no other. */
  readonly isJudgedByOperation?: true;
}

const reads: readonly Role[] = ["reader", "writer", "admin"];
const writes: readonly Role[] = ["writer", "admin"];
/** A replica passes them on to its master, after it has asked who calls. */
const forwardedWrites: readonly Role[] = [...writes, "peer"];
/** Of all operations that may be in it. */
const batches: readonly Role[] = [...reads, "peer"];
const operates: readonly Role[] = ["admin"];
const peers: readonly Role[] = ["peer"];

/** Nothing of what is stored is asked for or changed. */
const noKeys = (): KeyReach => "none";
/** Whoever has some prefixes only may not. */
const allKeys = (): KeyReach => "all";

const rules: readonly MethodRule[] = [
  rule(KVStore.method.get, reads, ({ key }) => [keyPart(key)]),
  rule(KVStore.method.batchGet, reads, ({ keys }) => keys.map(keyPart)),
  rule(KVStore.method.scan, reads, rangeReach),
  rule(KVStore.method.set, forwardedWrites, ({ key }) => [keyPart(key)]),
  rule(KVStore.method.delete, forwardedWrites, ({ key }) => [keyPart(key)]),
  rule(KVStore.method.write, forwardedWrites, ({ operations }) => unite(operations.map(operationReach))),
  {
    ...rule(KVStore.method.batch, batches, ({ operations }) => unite(operations.map(operationReach))),
    isJudgedByOperation: true,
  },
  rule(KVStore.method.deleteRange, forwardedWrites, rangeReach),
  rule(KVStore.method.touch, forwardedWrites, ({ key }) => [keyPart(key)]),
  rule(KVStore.method.increment, forwardedWrites, ({ key }) => [keyPart(key)]),
  rule(KVStore.method.txn, forwardedWrites, (txn) =>
    unite([txn.compares.map(({ key }) => keyPart(key)), ...[...txn.then, ...txn.else].map(operationReach)]),
  ),
  rule(KVStore.method.scanStream, reads, ({ scan }) => rangeReach(scan ?? {})),
  rule(KVStore.method.getUpdates, reads, rangeReach),
  rule(KVStore.method.watch, reads, rangeReach),
  rule(KVStore.method.watchMany, reads, ({ watches }) => unite(watches.map(({ watch }) => rangeReach(watch ?? {})))),
  rule(KVStore.method.addWatch, reads, ({ watch }) => rangeReach(watch?.watch ?? {})),
  rule(KVStore.method.removeWatch, reads, noKeys),

  rule(Log.method.produce, forwardedWrites, allKeys),
  rule(Log.method.consume, reads, allKeys),
  rule(Log.method.produceStream, writes, allKeys),
  rule(Log.method.consumeStream, reads, allKeys),
  rule(Log.method.truncate, forwardedWrites, allKeys),
  rule(Log.method.getRange, reads, allKeys),

  rule(Cluster.method.status, reads, noKeys),
  rule(Cluster.method.addReplica, operates, noKeys),
  rule(Cluster.method.removeReplica, operates, noKeys),
  rule(Cluster.method.promote, operates, noKeys),
  rule(Cluster.method.transfer, operates, noKeys),
  rule(Cluster.method.setStorageLimits, operates, noKeys),
  rule(Cluster.method.createSnapshot, operates, noKeys),
  rule(Cluster.method.backup, operates, allKeys),
  rule(Cluster.method.setLogLevel, operates, noKeys),
  // It tells how keys begin, whosever they are.
  rule(Cluster.method.slowLog, operates, allKeys),

  rule(Replication.method.push, peers, allKeys),
  rule(Replication.method.register, peers, noKeys),
  rule(Replication.method.survey, peers, noKeys),
  rule(Replication.method.requestPromise, peers, noKeys),
  rule(Replication.method.readIndex, peers, noKeys),

  // As /readyz: those who look after a node ask it without a token.
  rule(Health.method.check, "anyone", noKeys),
  rule(Health.method.list, "anyone", noKeys),
  rule(Health.method.watch, [...reads, "peer"], noKeys),
  rule(ServerReflection.method.serverReflectionInfo, reads, noKeys),
  rule(ServerReflectionAlpha.method.serverReflectionInfo, reads, noKeys),
];

export const methodTable: ReadonlyMap<string, MethodRule> = new Map(rules.map((one) => [methodName(one.method), one]));

/** The half of the table that is asked before a message is read, and who may see the page that is no method. */
export const audiences: ReadonlyMap<string, Audience> = new Map([
  ...[...methodTable].map(([name, { audience }]): [string, Audience] => [name, audience]),
  [METRICS_PATH, reads],
]);

function rule<I extends DescMessage>(
  method: DescMethod & { readonly input: I },
  audience: Audience,
  reach: (message: MessageShape<I>) => KeyReach,
): MethodRule {
  // The library has made the message of the method's own schema.
  return { method, audience, reach: (message) => reach(message as MessageShape<I>) };
}

function keyPart(key: string): KeyPart {
  return { kind: "key", key };
}

/**
 * What a request with some of these fields is about. All that are given count, since it is for the handler to refuse what
 * does not belong together; none of them means all keys.
 */
export function rangeReach(request: {
  readonly key?: string;
  readonly prefix?: string;
  readonly start?: string;
  readonly end?: string;
}): KeyReach {
  const { key = "", prefix = "", start = "", end = "" } = request;
  const parts: KeyPart[] = [
    ...(key === "" ? [] : [keyPart(key)]),
    ...(prefix === "" ? [] : [{ kind: "prefix", prefix } as const]),
    ...(start === "" && end === "" ? [] : [{ kind: "range", start, end } as const]),
  ];
  return parts.length === 0 ? "all" : parts;
}

/** Of an operation of a batch or a transaction: whatever it does, it does it to its key. */
export function operationReach({
  operation,
}: {
  readonly operation: { readonly case: string | undefined; readonly value?: { readonly key: string } | undefined };
}): KeyReach {
  // One that says nothing is refused by the handler.
  return operation.value ? [keyPart(operation.value.key)] : "none";
}

/** About all that any of them is about. */
export function unite(reaches: readonly KeyReach[]): KeyReach {
  if (reaches.includes("all")) return "all";
  return reaches.flatMap((reach) => (typeof reach === "string" ? [] : reach));
}
