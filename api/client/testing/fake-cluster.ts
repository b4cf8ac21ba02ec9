/**
 * Nodes for tests of the client and of the command line: the contract of the API over one log in memory that all nodes of a
 * cluster share, with knobs for what a real cluster does rarely. Not a store: nothing is kept, nothing is replicated.
 */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  Cluster,
  EvictionPolicy,
  MemberSource,
  type MemberStatusSchema,
  MemberState,
  NodeRole,
  type SlowLogResponseSchema,
} from "../../gen/cambium/v1/cluster_pb.js";
import {
  type BatchRequest,
  type BatchResponseSchema,
  type BatchResultSchema,
  EventType,
  KVStore,
  type TxnOperation,
} from "../../gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../gen/cambium/v1/log_pb.js";
import {
  type Acknowledge,
  type Consistency,
  LimitExceededSchema,
  LineageLostSchema,
  LogRangeSchema,
  NotFreshEnoughSchema,
  NotMasterSchema,
} from "../../gen/cambium/v1/types_pb.js";

import { FakeCommands, type FakeEntry, type FakeResult, holds, rangeOf, refuse } from "./fake-commands.js";
import { FakeRecordLog } from "./fake-record-log.js";
import { type FakeFilter, FakeWatches, filtered } from "./fake-watches.js";

export interface FakeEvent {
  readonly type: EventType;
  readonly key: string;
  readonly value?: Uint8Array;
  readonly position: { readonly epoch: bigint; readonly seq: bigint };
  readonly timestampMs: bigint;
  readonly expiresAtMs?: bigint;
  readonly rangeEnd?: string;
  readonly previous?: Uint8Array;
}

export interface FakeLimits {
  keyBytesMax: number;
  valueBytesMax: number;
  messageBytesMax: number;
}

/** What the nodes share. */
export class FakeCluster {
  readonly clusterId = "c0".repeat(16);
  readonly events: FakeEvent[] = [];
  /** 1 is the empty record that begins the epoch. */
  seq = 1n;
  /** The masterships, oldest first. */
  readonly epochs: { readonly epoch: bigint; readonly firstSeq: bigint }[] = [{ epoch: 1n, firstSeq: 1n }];
  compactSeq = 0n;
  /** The master's clock. */
  nowMs = 1_700_000_000_000n;
  readonly limits: FakeLimits = { keyBytesMax: 4096, valueBytesMax: 1024 * 1024, messageBytesMax: 4 * 1024 * 1024 };
  readonly nodes: FakeNode[] = [];
  readonly removed: string[] = [];
  /** The answers of writes, by client id and seq. */
  readonly answers = new Map<string, object>();
  storageLimits = { maxEntries: 0n, maxBytes: 0n, evictionPolicy: EvictionPolicy.NOEVICTION };
  readonly records = new FakeRecordLog();
  readonly #waiting = new Set<() => void>();

  get master(): FakeNode | undefined {
    return this.nodes.find(({ role }) => role === "master");
  }

  /** All others are replicas then. */
  makeMaster(master: FakeNode): void {
    for (const node of this.nodes) node.role = node === master ? "master" : "replica";
  }

  /** Another node becomes master, and what it had not heard of by then is lost. */
  failOver(master: FakeNode, keptSeq: bigint): void {
    this.makeMaster(master);
    for (let last = this.events.at(-1); last && last.position.seq > keptSeq; last = this.events.at(-1)) {
      this.events.pop();
    }
    this.seq = keptSeq + 1n;
    this.epochs.push({ epoch: this.epochs.at(-1)!.epoch + 1n, firstSeq: this.seq });
  }

  positionAt(seq: bigint): { epoch: bigint; seq: bigint } {
    return { epoch: this.epochs.findLast(({ firstSeq }) => firstSeq <= seq)?.epoch ?? 0n, seq };
  }

  tokenAt(seq: bigint): Uint8Array {
    const { epoch } = this.positionAt(seq);
    return new TextEncoder().encode(epoch > 1n ? `epoch ${epoch} seq ${seq}` : `seq ${seq}`);
  }

  /** Resolves with the next record. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  /** Adds a node that is not listening yet. The first is the master. */
  addNode(): FakeNode {
    const node = new FakeNode(this, this.nodes.length === 0 ? "master" : "replica", this.nodes.length);
    this.nodes.push(node);
    return node;
  }

  async start(nodes: number): Promise<this> {
    for (let i = 0; i < nodes; i++) await this.addNode().listen();
    return this;
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()));
  }

  /** The state at a seq. */
  stateAt(seq: bigint): Map<string, FakeEntry> {
    const state = new Map<string, FakeEntry>();
    for (const event of this.events) {
      if (event.position.seq > seq) break;
      const { key } = event;
      if (event.type === EventType.DELETE_RANGE) {
        for (const other of state.keys()) {
          if (other >= key && (!event.rangeEnd || other < event.rangeEnd)) state.delete(other);
        }
        continue;
      }
      if (event.type !== EventType.PUT) {
        state.delete(key);
        continue;
      }
      const { value = new Uint8Array(), expiresAtMs } = event;
      const modSeq = event.position.seq;
      const createSeq = state.get(key)?.createSeq ?? modSeq;
      state.set(key, { value, createSeq, modSeq, ...(expiresAtMs !== undefined && { expiresAtMs }) });
    }
    for (const [key, { expiresAtMs }] of state) {
      if (expiresAtMs !== undefined && expiresAtMs <= this.nowMs) state.delete(key);
    }
    return state;
  }

  /** Carries operations out as one record, or refuses all of them. */
  write(operations: readonly Pick<TxnOperation, "operation">[]): FakeResult[] {
    for (const { operation } of operations) this.#check(operation);
    const position = this.positionAt(this.seq + 1n);
    const commands = new FakeCommands(this.stateAt(this.seq), position.seq, this.nowMs);
    const results = operations.map(({ operation }, index) => commands.carryOut(operation, index));
    const about = { position, timestampMs: this.nowMs };
    this.append(commands.effects.map((effect) => Object.assign(effect, about)));
    return results;
  }

  /** Removes the keys of a range, and tells how many there were. */
  deleteRange(start: string, end: string): bigint {
    const keys = [...this.stateAt(this.seq).keys()].filter((key) => key >= start && (end === "" || key < end));
    const position = this.positionAt(this.seq + 1n);
    const event = { type: EventType.DELETE_RANGE, key: start, rangeEnd: end, position, timestampMs: this.nowMs };
    if (keys.length > 0) this.append([event]);
    return BigInt(keys.length);
  }

  /** Appends one record, unless it is empty. */
  append(events: readonly FakeEvent[]): void {
    if (events.length === 0) return;
    this.events.push(...events);
    this.seq++;
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  #check(operation: TxnOperation["operation"]): void {
    const key = operation.value?.key ?? "";
    if (key === "") throw new ConnectError("key must not be empty", Code.InvalidArgument);
    refuseAbove("limits.max_key_bytes", this.limits.keyBytesMax, Buffer.byteLength(key));
    if (operation.case !== "set") return;
    refuseAbove("limits.max_value_bytes", this.limits.valueBytesMax, operation.value.value.byteLength);
  }
}

export type FakeMethod =
  | "get"
  | "batchGet"
  | "scan"
  | "write"
  | "watch"
  | "watchMany"
  | "addWatch"
  | "removeWatch"
  | "getUpdates"
  | "produce"
  | "consumeStream"
  | "truncate"
  | "getRange"
  | "status"
  | "addReplica"
  | "removeReplica"
  | "promote"
  | "transfer"
  | "setStorageLimits"
  | "createSnapshot"
  | "setLogLevel"
  | "slowLog"
  | "backup";

/** One node of a fake cluster. */
export class FakeNode {
  role: "master" | "replica";
  readonly nodeId: string;
  /** What this node has applied, when it lags. */
  appliedSeq: bigint | undefined;
  logLevel = "info";
  slow: MessageInitShape<typeof SlowLogResponseSchema> = { thresholdMs: 100n };
  /** The record log that this node shows, when it is not the cluster's: one that lags, or another history. */
  ownRecords: FakeRecordLog | undefined;
  /** Called before each method (all writes of keys are `write`): it may throw, or wait. */
  before: (method: FakeMethod, signal: AbortSignal) => void | Promise<void> = () => {};
  /** Called when a write has been done, before it is answered: it may throw, or wait. */
  afterWrite: (signal: AbortSignal) => void | Promise<void> = () => {};
  /** The watches that are open here. */
  readonly watches: FakeWatches;
  /** What a backup sends. */
  backupChunks: Uint8Array[] = [];
  /** Called before each chunk of a backup, with its number: it may throw, or wait. */
  beforeChunk: (index: number) => void | Promise<void> = () => {};
  /** The address given in NotMaster, when it is not the master's. */
  masterHint: string | undefined;
  /** Requests that were taken, in order, with the HTTP method. */
  readonly requests: { readonly method: FakeMethod; readonly http: string }[] = [];
  /** Whether it has the method Batch, when it begins to listen. */
  knowsBatches = true;
  /** How many operations the batches had that were taken, in order; the operations are among the requests too. */
  readonly batches: number[] = [];
  /** Called before each batch: it may throw, or wait. */
  beforeBatch: (signal: AbortSignal) => void | Promise<void> = () => {};
  /** What the reads that were taken asked for, in order. */
  readonly consistencies: (Consistency | undefined)[] = [];
  /** When the writes that were taken were to be answered, in order. */
  readonly acknowledges: Acknowledge[] = [];
  /** Under what the writes that were taken are to be remembered, in order. */
  readonly retries: { readonly clientId: string; readonly clientSeq: bigint }[] = [];
  readonly #cluster: FakeCluster;
  #server: http.Server | undefined;
  #port = 0;

  constructor(cluster: FakeCluster, role: "master" | "replica", index: number) {
    this.#cluster = cluster;
    this.role = role;
    this.watches = new FakeWatches(cluster, () => this.#applied);
    this.nodeId = index.toString(16).padStart(2, "0").repeat(16);
  }

  /** `host:port`; of use once the node has listened. */
  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Listens, at the same port as before where there was one. */
  async listen(): Promise<void> {
    const server = http.createServer(
      connectNodeAdapter({
        routes: (router) => this.routes(router),
        readMaxBytes: this.#cluster.limits.messageBytesMax,
      }),
    );
    server.listen(this.#port, "127.0.0.1");
    await new Promise((resolve, reject) => server.once("listening", resolve).once("error", reject));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Stops abruptly: open connections are cut. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  get isListening(): boolean {
    return this.#server !== undefined;
  }

  /** Cuts all open connections; new ones are taken. */
  cutConnections(): void {
    this.#server?.closeAllConnections();
  }

  get #applied(): bigint {
    return this.appliedSeq ?? this.#cluster.seq;
  }

  get #position(): { epoch: bigint; seq: bigint } {
    return this.#cluster.positionAt(this.#applied);
  }

  readonly routes = (router: ConnectRouter): void => {
    const cluster = this.#cluster;
    const enter = async (
      method: FakeMethod,
      context: { requestMethod: string; signal: AbortSignal },
    ): Promise<void> => {
      this.requests.push({ method, http: context.requestMethod });
      await this.before(method, context.signal);
    };
    const read = async (
      method: FakeMethod,
      { consistency }: { readonly consistency?: Consistency | undefined },
      context: { requestMethod: string; signal: AbortSignal },
    ): Promise<void> => {
      await enter(method, context);
      this.consistencies.push(consistency);
      if (consistency) this.#refuseUnlessFresh(consistency);
    };
    const receipt = (): { position: { epoch: bigint; seq: bigint }; token: Uint8Array } => ({
      position: this.#position,
      token: cluster.tokenAt(this.#applied),
    });
    const { watches } = this;
    type Write = { readonly acknowledge: Acknowledge; readonly clientId: string; readonly clientSeq: bigint };
    const write = async <T extends object>(
      { acknowledge, clientId, clientSeq }: Write,
      context: { requestMethod: string; signal: AbortSignal },
      run: () => T,
      method: FakeMethod = "write",
    ): Promise<T & ReturnType<typeof receipt> & { repeated: boolean }> => {
      await enter(method, context);
      this.acknowledges.push(acknowledge);
      this.retries.push({ clientId, clientSeq });
      this.#refuseUnlessMaster();
      const name = `${clientId} ${clientSeq}`;
      const known = cluster.answers.get(name);
      if (known) return known as never;
      const before = cluster.seq;
      const answer = { ...run(), ...receipt(), repeated: false };
      const isRecord = cluster.seq > before || method === "produce";
      if (clientId !== "" && isRecord) cluster.answers.set(name, { ...answer, repeated: true });
      await this.afterWrite(context.signal);
      return answer;
    };
    const kv: Omit<ServiceImpl<typeof KVStore>, "batch" | "scanStream"> = {
      get: async (request, context) => {
        await read("get", request, context);
        return { ...this.#answer(cluster.stateAt(this.#applied).get(request.key)), ...receipt() };
      },
      batchGet: async (request, context) => {
        const { keys } = request;
        await read("batchGet", request, context);
        const state = cluster.stateAt(this.#applied);
        const entries = keys.map((key) => this.#answer(state.get(key)));
        const bytes = entries.reduce((sum, { value }) => sum + (value?.byteLength ?? 0), 0);
        refuseAbove("limits.max_message_bytes", cluster.limits.messageBytesMax, bytes, Code.ResourceExhausted);
        return { entries, ...receipt() };
      },
      scan: async (request, context) => {
        await read("scan", request, context);
        const after = request.pageToken.length > 0 ? new TextDecoder().decode(request.pageToken) : undefined;
        const { start, end } = rangeOf(request);
        const found = [...cluster.stateAt(this.#applied)]
          .filter(([key]) => key >= start && (end === "" || key < end))
          .sort(([a], [b]) => (a < b === request.reverse ? 1 : -1))
          .filter(([key]) => after === undefined || (request.reverse ? key <= after : key >= after));
        if (request.countOnly) return { count: BigInt(found.length), ...receipt() };
        const page = found.slice(0, request.limit || 1000);
        const next = found[page.length]?.[0];
        return {
          entries: page.map(([key, entry]) => {
            const { value = new Uint8Array(), createSeq = 0n, modSeq = 0n, ttlMs } = this.#answer(entry);
            const about = { key, createSeq, modSeq, valueBytes: BigInt(value.length) };
            return Object.assign(about, ttlMs !== undefined && { ttlMs }, !request.keysOnly && { value });
          }),
          ...(next !== undefined && { nextPageToken: new TextEncoder().encode(next) }),
          ...receipt(),
        };
      },
      set: (request, context) =>
        write(request, context, () => cluster.write([{ operation: { case: "set", value: request } }])[0]!),
      delete: (request, context) =>
        write(request, context, () => cluster.write([{ operation: { case: "delete", value: request } }])[0]!),
      touch: (request, context) =>
        write(request, context, () => cluster.write([{ operation: { case: "touch", value: request } }])[0]!),
      increment: (request, context) =>
        write(request, context, () => {
          const [result] = cluster.write([{ operation: { case: "increment", value: request } }]);
          return { value: result!.value ?? 0n };
        }),
      deleteRange: (request, context) =>
        write(request, context, () => {
          const { start, end } = rangeOf(request);
          if (start === "" && end === "" && !request.all) refuse("say all where all keys are meant");
          const deleted = cluster.deleteRange(start, end);
          return deleted > 10_000n ? {} : { deleted };
        }),
      txn: (request, context) =>
        write(request, context, () => {
          const state = cluster.stateAt(cluster.seq);
          const failedCompares = [...request.compares.keys()].filter((index) => {
            const compare = request.compares[index]!;
            return !holds(compare, state.get(compare.key));
          });
          const operations = failedCompares.length === 0 ? request.then : request.else;
          const results = cluster.write(operations).map((result, index) => {
            const kind = operations[index]!.operation.case;
            if (kind === "get") return { result: { case: "get" as const, value: this.#answer(result.entry) } };
            if (kind === "increment") return { result: { case: "value" as const, value: result.value! } };
            return { result: { case: "write" as const, value: result } };
          });
          return { succeeded: failedCompares.length === 0, failedCompares, results };
        }),
      write: (request, context) => write(request, context, () => ({ results: cluster.write(request.operations) })),
      watch: async function* (this: void, request, context) {
        await enter("watch", context);
        yield* watches.follow(request, context.signal);
      },
      watchMany: async function* (this: void, request, context) {
        await enter("watchMany", context);
        yield* watches.followMany(request, context.signal);
      },
      addWatch: async (request, context) => {
        await enter("addWatch", context);
        return watches.add(request);
      },
      removeWatch: async (request, context) => {
        await enter("removeWatch", context);
        return watches.remove(request);
      },
      getUpdates: async (request, context) => {
        await enter("getUpdates", context);
        const after = request.afterToken.byteLength > 0 ? placeOf(request.afterToken).seq : request.after;
        const { compactSeq } = cluster;
        if (after < compactSeq || after > this.#applied) {
          throw new ConnectError(`the log holds ${compactSeq + 1n} to ${this.#applied}`, Code.OutOfRange, undefined, [
            { desc: LogRangeSchema, value: { compactSeq, appliedSeq: this.#applied } },
          ]);
        }
        if (after === this.#applied && request.waitMs > 0) {
          await Promise.race([
            cluster.changed(),
            new Promise((resolve) => context.signal.addEventListener("abort", resolve, { once: true })),
            new Promise((resolve) => setTimeout(resolve, request.waitMs).unref()),
          ]);
        }
        return this.#updates(after, request.limit || 1000, request);
      },
    };
    // A node that is older has no such method.
    router.service(
      KVStore,
      this.knowsBatches ? { ...kv, batch: (request, context) => this.#batch(kv, request, context) } : kv,
    );
    const records = (): FakeRecordLog => this.ownRecords ?? cluster.records;
    router.service(Log, {
      produce: (request, context) =>
        write(
          request,
          context,
          () => {
            for (const record of [request.record, ...request.records]) {
              refuseAbove("limits.max_value_bytes", cluster.limits.valueBytesMax, record.byteLength);
            }
            const offset = cluster.records.add(...(request.records.length > 0 ? request.records : [request.record]));
            return { offset: BigInt(offset) };
          },
          "produce",
        ),
      consumeStream: async function* (request, context) {
        await enter("consumeStream", context);
        yield* records().follow(request, context.signal);
      },
      truncate: async ({ belowOffset }, context) => {
        await enter("truncate", context);
        this.#refuseUnlessMaster();
        cluster.records.truncateBelow(Number(belowOffset));
        return { ...receipt(), start: BigInt(cluster.records.start) };
      },
      getRange: async (_, context) => {
        await enter("getRange", context);
        return { start: BigInt(records().start), end: BigInt(records().records.length) };
      },
    });
    router.service(Cluster, {
      status: async (_, context) => {
        await enter("status", context);
        const { master } = cluster;
        return {
          clusterId: cluster.clusterId,
          node: {
            nodeId: this.nodeId,
            role: this.role === "master" ? NodeRole.MASTER : NodeRole.REPLICA,
            address: this.address,
            ready: true,
            masterAddress: master?.address ?? "",
            applied: this.#position,
            last: this.#position,
            keptSeq: this.#applied,
            commitSeq: this.#applied,
            matchSeq: this.#applied,
            compactSeq: cluster.compactSeq,
            keys: BigInt(cluster.stateAt(this.#applied).size),
            dataBytes: 123n,
            walBytes: 4096n,
            uptimeMs: 60_000n,
            version: "0.0.0-fake",
            stalenessMs: 0n,
            durability: "always",
            ...(this.role === "replica" && { lagRecords: cluster.seq - this.#applied }),
            promisedEpoch: 1n,
            diskFreeBytes: 5_000_000_000n,
            commit: "master",
            storageLimits: cluster.storageLimits,
            accountedBytes: 187n,
          },
          members: cluster.nodes.map((node) => this.#member(node)),
        };
      },
      addReplica: async ({ address }, context) => {
        await enter("addReplica", context);
        this.#refuseUnlessMaster();
        const node = cluster.nodes.find((candidate) => candidate.address === address);
        if (!node) throw new ConnectError(`nothing answers at ${address}`, Code.Unavailable);
        return { member: this.#member(node) };
      },
      removeReplica: async ({ nodeId, address }, context) => {
        await enter("removeReplica", context);
        this.#refuseUnlessMaster();
        const node = cluster.nodes.find((candidate) => candidate.address === address || candidate.nodeId === nodeId);
        if (!node) throw new ConnectError("no member fits", Code.NotFound);
        cluster.removed.push(node.nodeId);
        return {};
      },
      promote: async ({ force }, context) => {
        await enter("promote", context);
        const unreached = cluster.nodes.filter((node) => node !== this && !node.isListening);
        if (unreached.length > 0 && !force) {
          throw new ConnectError("no majority of the voters answers", Code.FailedPrecondition);
        }
        cluster.makeMaster(this);
        const lost = unreached.map((node) => node.#applied - this.#applied).filter((records) => records > 0n);
        return {
          position: { epoch: 2n, seq: this.#applied + 1n },
          unreached: unreached.map(({ address }) => address),
          knownLostRecords: lost.reduce((most, records) => (records > most ? records : most), 0n),
        };
      },
      transfer: async ({ nodeId, address }, context) => {
        await enter("transfer", context);
        this.#refuseUnlessMaster();
        const next = cluster.nodes.find(
          (node) =>
            node !== this && (nodeId === "" || node.nodeId === nodeId) && (address === "" || node.address === address),
        );
        if (!next) throw new ConnectError("no member fits", Code.NotFound);
        cluster.makeMaster(next);
        return { nodeId: next.nodeId, address: next.address, epoch: 2n, pauseMs: 7n };
      },
      setStorageLimits: async ({ maxEntries, maxBytes, evictionPolicy }, context) => {
        await enter("setStorageLimits", context);
        this.#refuseUnlessMaster();
        cluster.storageLimits = {
          ...cluster.storageLimits,
          ...(maxEntries !== undefined && { maxEntries }),
          ...(maxBytes !== undefined && { maxBytes }),
          ...(evictionPolicy !== EvictionPolicy.UNSPECIFIED && { evictionPolicy }),
        };
        return { limits: cluster.storageLimits };
      },
      createSnapshot: async (_, context) => {
        await enter("createSnapshot", context);
        const entries = BigInt(cluster.stateAt(this.#applied).size);
        return { fromSeq: this.#applied, toSeq: this.#applied, entries, bytes: 2048n, durationMs: 12n };
      },
      setLogLevel: async ({ level }, context) => {
        await enter("setLogLevel", context);
        const levelBefore = this.logLevel;
        this.logLevel = level;
        return { levelBefore };
      },
      slowLog: async (_, context) => {
        await enter("slowLog", context);
        return this.slow;
      },
      backup: (_, context) => this.#backup(() => enter("backup", context)),
    });
  };

  /** Each operation as a call of its own. Of a real node's reasons to leave one out there is `max_bytes` here. */
  async #batch(
    kv: Omit<ServiceImpl<typeof KVStore>, "batch" | "scanStream">,
    { operations, maxBytes }: BatchRequest,
    context: HandlerContext,
  ): Promise<MessageInitShape<typeof BatchResponseSchema>> {
    this.batches.push(operations.length);
    await this.beforeBatch(context.signal);
    let left = maxBytes || this.#cluster.limits.messageBytesMax;
    const results = operations.map(async ({ operation }): Promise<MessageInitShape<typeof BatchResultSchema>> => {
      try {
        if (operation.case === undefined) throw new ConnectError("it is empty", Code.InvalidArgument);
        const { case: kind, value } = operation;
        const answer = (await kv[kind](value as never, context)) as { readonly value?: unknown };
        if (answer.value instanceof Uint8Array && answer.value.byteLength > left) {
          return { result: { case: "leftOut", value: true } };
        }
        if (answer.value instanceof Uint8Array) left -= answer.value.byteLength;
        return { result: { case: kind, value: answer } as MessageInitShape<typeof BatchResultSchema>["result"] & {} };
      } catch (error) {
        const { code, rawMessage: message, details } = ConnectError.from(error);
        const shown = details.map((detail) =>
          "desc" in detail
            ? { type: detail.desc.typeName, value: toBinary(detail.desc, create(detail.desc, detail.value)) }
            : { type: detail.type, value: new Uint8Array(detail.value) },
        );
        return { result: { case: "error", value: { code: codeToString(code), message, details: shown } } };
      }
    });
    return { results: await Promise.all(results) };
  }

  async *#backup(enter: () => Promise<void>) {
    await enter();
    const bytesEstimate = BigInt(this.backupChunks.reduce((sum, { byteLength }) => sum + byteLength, 0));
    yield { header: { clusterId: this.#cluster.clusterId, position: this.#position, formatVersion: 1, bytesEstimate } };
    for (const [index, chunk] of this.backupChunks.entries()) {
      await this.beforeChunk(index);
      yield { chunk };
      yield {};
    }
  }

  #member(node: FakeNode): MessageInitShape<typeof MemberStatusSchema> {
    const lag = this.#cluster.seq - node.#applied;
    return {
      nodeId: node.nodeId,
      address: node.address,
      voter: node.role === "master",
      source: node.role === "master" ? MemberSource.FOUNDER : MemberSource.LISTED,
      state:
        node === this ? MemberState.SELF : this.role === "master" ? MemberState.STREAMING : MemberState.UNSPECIFIED,
      matchSeq: node.#applied,
      appliedSeq: node.#applied,
      lagRecords: lag,
      lagMs: lag > 0n ? 1500n : 0n,
    };
  }

  #answer(entry: FakeEntry | undefined): {
    exists: boolean;
    value?: Uint8Array;
    createSeq?: bigint;
    modSeq?: bigint;
    ttlMs?: bigint;
  } {
    if (!entry) return { exists: false };
    const { value, createSeq, modSeq, expiresAtMs } = entry;
    const left = expiresAtMs === undefined ? undefined : expiresAtMs - this.#cluster.nowMs;
    return { exists: true, value, createSeq, modSeq, ...(left !== undefined && { ttlMs: left }) };
  }

  /** A real node waits first. */
  #refuseUnlessFresh({ atLeast, atLeastSeq, maxStalenessMs }: Consistency): void {
    const place = atLeast.byteLength > 0 ? placeOf(atLeast) : { epoch: 0n, seq: 0n };
    const next = this.#cluster.epochs.find(({ epoch }) => epoch > place.epoch);
    // A node that lags behind the failover does not know of it.
    if (next && place.seq >= next.firstSeq && next.firstSeq <= this.#applied) {
      throw new ConnectError(`seq ${place.seq} was lost`, Code.Aborted, undefined, [
        { desc: LineageLostSchema, value: { fork: { epoch: place.epoch, seq: next.firstSeq - 1n } } },
      ]);
    }
    const wanted = place.seq > atLeastSeq ? place.seq : atLeastSeq;
    const isStale = maxStalenessMs !== undefined && this.#applied < this.#cluster.seq;
    if (wanted <= this.#applied && !isStale) return;
    throw new ConnectError(`this node has applied ${this.#applied} only`, Code.Unavailable, undefined, [
      { desc: NotFreshEnoughSchema, value: { applied: this.#position, stalenessMs: 1500n } },
    ]);
  }

  #refuseUnlessMaster(): void {
    if (this.role === "master") return;
    const masterAddress = this.masterHint ?? this.#cluster.master?.address ?? "";
    throw new ConnectError(
      `this node is a replica; the master is ${masterAddress || "unknown"}`,
      Code.FailedPrecondition,
      undefined,
      [{ desc: NotMasterSchema, value: { masterAddress } }],
    );
  }

  #updates(
    after: bigint,
    limit: number,
    filter: FakeFilter,
  ): {
    events: FakeEvent[];
    next: bigint;
    nextToken: Uint8Array;
    position: { epoch: bigint; seq: bigint };
  } {
    const events: FakeEvent[] = [];
    let next = this.#applied;
    for (const event of filtered(this.#cluster.events, filter)) {
      if (event.position.seq <= after || event.position.seq > this.#applied) continue;
      const last = events.at(-1);
      if (events.length >= limit && last && last.position.seq !== event.position.seq) {
        next = last.position.seq;
        break;
      }
      events.push(event);
    }
    return { events, next, nextToken: this.#cluster.tokenAt(next), position: this.#position };
  }
}

export const placeOf = (token: Uint8Array): { epoch: bigint; seq: bigint } => {
  const [, epoch = "1", seq = "0"] = /^(?:epoch (\d+) )?seq (\d+)$/.exec(new TextDecoder().decode(token)) ?? [];
  return { epoch: BigInt(epoch), seq: BigInt(seq) };
};

function refuseAbove(limit: string, maximum: number, actual: number, code = Code.InvalidArgument): void {
  if (actual <= maximum) return;
  const detail = create(LimitExceededSchema, { limit, maximum: BigInt(maximum), actual: BigInt(actual) });
  throw new ConnectError(`${actual} bytes are above ${limit} (${maximum})`, code, undefined, [
    { desc: LimitExceededSchema, value: detail },
  ]);
}
