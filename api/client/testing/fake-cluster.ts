/**
 * Nodes for tests of the client and of the command line: the contract of the API over one log in memory that all nodes of a
 * cluster share, with knobs for what a real cluster does rarely. Not a store: nothing is kept, nothing is replicated.
 */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  Cluster,
  EvictionPolicy,
  MemberSource,
  type MemberStatusSchema,
  MemberState,
  NodeRole,
} from "../../gen/cambium/v1/cluster_pb.js";
import {
  type EventSchema,
  EventType,
  KVStore,
  type SetRequest,
  type WriteOperation,
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

import { FakeRecordLog } from "./fake-record-log.js";

interface FakeEntry {
  readonly value: Uint8Array;
  readonly createSeq: bigint;
  readonly modSeq: bigint;
  readonly expiresAtMs?: bigint;
}

type FakeEvent = MessageInitShape<typeof EventSchema> & { position: { epoch: bigint; seq: bigint } };

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
      const key = event.key!;
      if (event.type === EventType.DELETE) {
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

  write(operations: readonly Pick<WriteOperation, "operation">[]): { existed: boolean }[] {
    for (const { operation } of operations) this.#check(operation);
    const state = this.stateAt(this.seq);
    const present = new Set(state.keys());
    const results: { existed: boolean }[] = [];
    const effects: FakeEvent[] = [];
    const position = this.positionAt(this.seq + 1n);
    for (const { operation } of operations) {
      results.push({ existed: present.has(keyOf(operation)) });
      const common = { key: keyOf(operation), position, timestampMs: this.nowMs };
      if (operation.case === "set") {
        const { value, ttlMs } = operation.value;
        present.add(common.key);
        effects.push({
          ...common,
          type: EventType.PUT,
          value,
          ...(ttlMs > 0n && { expiresAtMs: this.nowMs + ttlMs }),
        });
      } else if (present.delete(common.key)) effects.push({ ...common, type: EventType.DELETE });
    }
    if (effects.length > 0) {
      this.events.push(...effects);
      this.seq++;
      for (const wake of this.#waiting) wake();
      this.#waiting.clear();
    }
    return results;
  }

  #check(operation: WriteOperation["operation"]): void {
    const key = keyOf(operation);
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
  | "backup";

/** One node of a fake cluster. */
export class FakeNode {
  role: "master" | "replica";
  readonly nodeId: string;
  /** What this node has applied, when it lags. */
  appliedSeq: bigint | undefined;
  /** The record log that this node shows, when it is not the cluster's: one that lags, or another history. */
  ownRecords: FakeRecordLog | undefined;
  /** Called before each method (set, delete and write are all `write`): it may throw, or wait. */
  before: (method: FakeMethod, signal: AbortSignal) => void | Promise<void> = () => {};
  /** What a backup sends. */
  backupChunks: Uint8Array[] = [];
  /** Called before each chunk of a backup, with its number: it may throw, or wait. */
  beforeChunk: (index: number) => void | Promise<void> = () => {};
  /** The address given in NotMaster, when it is not the master's. */
  masterHint: string | undefined;
  /** Requests that were taken, in order, with the HTTP method. */
  readonly requests: { readonly method: FakeMethod; readonly http: string }[] = [];
  /** What the reads that were taken asked for, in order. */
  readonly consistencies: (Consistency | undefined)[] = [];
  /** When the writes that were taken were to be answered, in order. */
  readonly acknowledges: Acknowledge[] = [];
  readonly #cluster: FakeCluster;
  #server: http.Server | undefined;
  #port = 0;

  constructor(cluster: FakeCluster, role: "master" | "replica", index: number) {
    this.#cluster = cluster;
    this.role = role;
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
    router.service(KVStore, {
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
        const from = request.pageToken.length > 0 ? new TextDecoder().decode(request.pageToken) : request.start;
        const found = [...cluster.stateAt(this.#applied)]
          .filter(([key]) => key.startsWith(request.prefix) && (request.end === "" || key < request.end) && key >= from)
          .sort(([a], [b]) => (a < b ? -1 : 1));
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
      set: async (request: SetRequest, context) => {
        await enter("write", context);
        this.acknowledges.push(request.acknowledge);
        this.#write([{ operation: { case: "set", value: request } }]);
        return receipt();
      },
      delete: async (request, context) => {
        await enter("write", context);
        this.acknowledges.push(request.acknowledge);
        const [result] = this.#write([{ operation: { case: "delete", value: request } }]);
        return { ...receipt(), ...result };
      },
      write: async ({ operations, acknowledge }, context) => {
        await enter("write", context);
        this.acknowledges.push(acknowledge);
        return { results: this.#write(operations), ...receipt() };
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
        return this.#updates(after, request.limit || 1000);
      },
    });
    const records = (): FakeRecordLog => this.ownRecords ?? cluster.records;
    router.service(Log, {
      produce: async (request, context) => {
        await enter("produce", context);
        this.acknowledges.push(request.acknowledge);
        this.#refuseUnlessMaster();
        for (const record of [request.record, ...request.records]) {
          refuseAbove("limits.max_value_bytes", cluster.limits.valueBytesMax, record.byteLength);
        }
        const offset = cluster.records.add(...(request.records.length > 0 ? request.records : [request.record]));
        return { offset: BigInt(offset), ...receipt() };
      },
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
      backup: (_, context) => this.#backup(() => enter("backup", context)),
    });
  };

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

  #write(operations: readonly Pick<WriteOperation, "operation">[]): { existed: boolean }[] {
    this.#refuseUnlessMaster();
    return this.#cluster.write(operations);
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
  ): {
    events: FakeEvent[];
    next: bigint;
    nextToken: Uint8Array;
    position: { epoch: bigint; seq: bigint };
  } {
    const events: FakeEvent[] = [];
    let next = this.#applied;
    for (const event of this.#cluster.events) {
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

const keyOf = (operation: WriteOperation["operation"]): string => operation.value?.key ?? "";
const placeOf = (token: Uint8Array): { epoch: bigint; seq: bigint } => {
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
