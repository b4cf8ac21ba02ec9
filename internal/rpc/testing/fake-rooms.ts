/** A store and a replicator as simple as they can be, for tests of what stands before them. */
import { EpochHistory } from "../../base/epoch-history.js";
import { clusterId, epochId, type NodeId, nodeId } from "../../base/ids.js";
import { epoch, type EpochMs, epochMs, type Position, type Seq, seq } from "../../base/position.js";
import type { Asker, PromiseReply, PromiseRequest, SurveyReply } from "../../replication/peer.js";
import type {
  MasterMessage,
  MemberView,
  PromoteResult,
  PushSession,
  ReplicaMessage,
  TransferResult,
} from "../../replication/replicator.js";
import {
  type ScanRequest,
  type StorageLimits,
  StoreError,
  type Txn,
  type TxnReceipt,
  type UpdateEvent,
  type UpdatesPage,
  type UpdatesRequest,
  type WriteCommand,
  type WriteOptions,
} from "../../store/store.js";
import type { KeyRange } from "../key-range.js";
import type { RpcReplicator, RpcStore } from "../ports.js";
import { Waits } from "./waits.js";

export const CLUSTER = clusterId("c1".repeat(16));
export const NODE = nodeId("a1".repeat(16));
export const OTHER_NODE = nodeId("b2".repeat(16));
export const EPOCH_ID = epochId("00000000000000e1");

type Entry = NonNullable<ReturnType<RpcStore["get"]>>;

const TOKEN = new Uint8Array([1, 2, 3]);

export class FakeStore implements RpcStore {
  readonly history = new EpochHistory([{ epoch: epoch(1), epochId: EPOCH_ID, firstSeq: seq(1) }]);
  readonly entries = new Map<string, Entry>();
  readonly events: UpdateEvent[] = [];
  notReadyReason = "";
  /** Thrown by the next calls instead of doing anything. */
  failure: Error | undefined;
  /** Each write waits for it. */
  gate: Promise<void> = Promise.resolve();
  /** Writes that wait for the gate. */
  writing = 0;
  /** Calls of `updates` that wait. */
  waiting = 0;
  /** What was to be written, a call each. */
  readonly writes: (readonly WriteCommand[])[] = [];
  readonly txns: Txn[] = [];
  /** What the next writes answer instead of what they did: sets and deletes are carried out, the others are not. */
  readonly answers: Partial<TxnReceipt>[] = [];
  /** With what each page of updates was asked for. */
  readonly updatesRequests: UpdatesRequest[] = [];
  /** With what each write was called. */
  readonly writeOptions: (WriteOptions | undefined)[] = [];
  readonly promised = { epoch: epoch(3) };
  limits: StorageLimits | undefined;
  divergedRecords = 0;
  setAside = "";
  diskFreeBytes: number | undefined = 5e9;
  /** Tokens of one byte, a seq; any other is `TOKEN`, which every node has reached. */
  lost: StoreError | undefined;
  /** Reads that wait until something is applied. */
  readonly reads = new Waits<void>();
  nowMs = epochMs(1_700_000_000_000);
  #seq = 1;
  #wake: (() => void)[] = [];

  /** Called by `endTurn`. */
  onEndTurn: () => void = () => undefined;

  endTurn(): boolean {
    this.onEndTurn();
    return true;
  }

  get appliedSeq(): Seq {
    return seq(this.#seq);
  }

  /** As when records come from a master. */
  apply(upTo: number): void {
    this.#seq = upTo;
    this.reads.release();
  }

  whenApplied(_seq: Seq, signal: AbortSignal): Promise<void> {
    return this.reads.add(signal);
  }

  reachToken(token: Uint8Array, signal: AbortSignal): Promise<void> | undefined {
    if (this.lost) throw this.lost;
    return token.length === 1 && token[0]! > this.#seq ? this.reads.add(signal) : undefined;
  }

  masterTimeMs(): EpochMs {
    return this.nowMs;
  }

  get position(): Position {
    return { epoch: epoch(1), seq: seq(this.#seq) };
  }

  readPoint(): ReturnType<RpcStore["readPoint"]> {
    if (this.failure) throw this.failure;
    if (this.notReadyReason) throw new StoreError("not_ready", this.notReadyReason);
    return { position: this.position, nowMs: this.nowMs, token: TOKEN };
  }

  get(key: Uint8Array): Entry | undefined {
    return this.entries.get(Buffer.from(key).toString("hex"));
  }

  /** Pages end by `limit` and by the bytes of keys and values. */
  scan({ start, end, limit, maxBytes, reverse }: ScanRequest): ReturnType<RpcStore["scan"]> {
    const point = this.readPoint();
    const found = [...this.entries]
      .map(([name, entry]) => Object.assign({ key: Buffer.from(name, "hex") }, entry))
      .filter(({ key }) => Buffer.compare(key, start) >= 0 && (!end || Buffer.compare(key, end) < 0))
      .sort((a, b) => Buffer.compare(a.key, b.key) * (reverse ? -1 : 1));
    let bytes = 0;
    const over = found.findIndex(({ key, value }) => (bytes += key.length + value.length) > maxBytes);
    const entries = found.slice(0, Math.min(limit, over < 0 ? limit : Math.max(1, over)));
    const next = reverse ? entries.at(-1)?.key : found[entries.length]?.key;
    return { entries, ...(next && entries.length < found.length && { next }), point };
  }

  async count({ start, end }: KeyRange): ReturnType<RpcStore["count"]> {
    const request = { start, ...(end && { end }), limit: 1e9, maxBytes: 1e9, keysOnly: true };
    const { entries, point } = this.scan(request);
    return { count: entries.length, point };
  }

  async transact(txn: Txn, options?: WriteOptions): ReturnType<RpcStore["transact"]> {
    this.txns.push(txn);
    this.writeOptions.push(options);
    if (this.failure) throw this.failure;
    await this.gate;
    this.#seq++;
    const { position } = this;
    return { position, token: TOKEN, succeeded: true, failedCompares: [], results: [], ...this.answers.shift() };
  }

  async write(commands: readonly WriteCommand[], options?: WriteOptions): ReturnType<RpcStore["write"]> {
    this.writes.push(commands);
    this.writeOptions.push(options);
    if (this.failure) throw this.failure;
    this.writing++;
    await this.gate;
    this.writing--;
    this.#seq++;
    const results = commands.map((command) => {
      if (command.kind === "delete-range") return { existed: false };
      const name = Buffer.from(command.key).toString("hex");
      const before = this.entries.get(name);
      const about = { position: this.position, timestampMs: this.nowMs };
      if (command.kind === "set") {
        const expiresAtMs = command.ttlMs === undefined ? undefined : epochMs(this.nowMs + command.ttlMs);
        this.entries.set(name, {
          value: command.value,
          createSeq: before?.createSeq ?? seq(this.#seq),
          modSeq: seq(this.#seq),
          ...(expiresAtMs !== undefined && { expiresAtMs }),
        });
        this.events.push({ type: "put", key: command.key, value: command.value, ...about });
      } else if (command.kind === "delete" && this.entries.delete(name)) {
        this.events.push({ type: "delete", key: command.key, value: new Uint8Array(0), ...about });
      }
      return { existed: before !== undefined };
    });
    for (const wake of this.#wake.splice(0)) wake();
    return { position: this.position, token: TOKEN, results, ...this.answers.shift() };
  }

  async updates(request: UpdatesRequest): Promise<UpdatesPage> {
    this.updatesRequests.push(request);
    if (this.failure) throw this.failure;
    let events = this.events.filter((event) => event.position.seq > request.after);
    if (events.length === 0 && request.waitMs > 0) {
      this.waiting++;
      try {
        await new Promise<void>((resolve, reject) => {
          this.#wake.push(resolve);
          request.signal.addEventListener("abort", () => reject(request.signal.reason as Error));
        });
      } finally {
        this.waiting--;
      }
      events = this.events.filter((event) => event.position.seq > request.after);
    }
    return { events: events.slice(0, request.limit), next: this.position, nextToken: TOKEN, position: this.position };
  }

  async changeLimits(changed: Partial<StorageLimits>): Promise<StorageLimits> {
    if (this.failure) throw this.failure;
    this.limits = { entriesMax: 0, bytesMax: 0, policy: "noeviction", ...this.limits, ...changed };
    return this.limits;
  }

  status(): ReturnType<RpcStore["status"]> {
    return {
      clusterId: CLUSTER,
      nodeId: NODE,
      role: "master",
      ready: this.notReadyReason === "",
      notReadyReason: this.notReadyReason,
      applied: this.position,
      last: this.position,
      keptSeq: seq(this.#seq),
      commitSeq: seq(this.#seq),
      compactSeq: seq(0),
      keys: this.entries.size,
      dataBytes: 0,
      accountedBytes: 0,
      walBytes: 0,
      durability: "always",
      divergedRecords: this.divergedRecords,
      setAside: this.setAside,
      diskFreeBytes: this.diskFreeBytes,
      settings: { commit: "majority", voters: "listed", ...(this.limits && { limits: this.limits }) },
      clockAheadMs: 0,
      retryClients: 3,
      retryBytes: 1234,
    };
  }
}

/** The replica's end of a push, in the hands of a test. */
export interface FakePush extends PushSession {
  readonly send: (message: ReplicaMessage) => void;
  readonly close: (reason: string) => void;
  readonly received: MasterMessage[];
  isClosed: boolean;
}

export class FakeReplicator implements RpcReplicator {
  masterAddress: string | undefined = "127.0.0.1:1";
  staleness: number | undefined = 0;
  matchSeq = seq(1);
  commitSeq = seq(1);
  failure: Error | undefined;
  readonly view: MemberView[] = [];
  readonly pushes: FakePush[] = [];
  readonly registered: Parameters<RpcReplicator["register"]>[0][] = [];
  /** Told of every message and of every push that ends. */
  onPush: (push: FakePush, message: MasterMessage | undefined) => void = () => undefined;

  acceptPush(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession {
    const push: FakePush = {
      send,
      close,
      received: [],
      isClosed: false,
      message: (message) => {
        push.received.push(message);
        this.onPush(push, message);
      },
      closed: () => {
        push.isClosed = true;
        this.onPush(push, undefined);
      },
    };
    this.pushes.push(push);
    return push;
  }

  lagRecords: number | undefined = 0;
  isCandidate = false;
  whyNotServing = "";
  /** What nodes asked this one. */
  readonly asked: unknown[] = [];
  surveyReply: SurveyReply = {
    clusterId: CLUSTER,
    nodeId: NODE,
    promised: { epoch: epoch(3), candidate: OTHER_NODE },
    last: { epoch: epoch(3), seq: seq(9) },
    isMaster: true,
    founds: false,
    masterAddress: "node-1.example:8080",
  };
  promiseReply: PromiseReply = {
    nodeId: NODE,
    detail: "",
    unclean: false,
    promisedEpoch: epoch(4),
    last: { epoch: epoch(3), seq: seq(9) },
  };
  /** How often `hasten` was called. */
  hastened = 0;
  /** `linearizableSeq`, `readIndex`, `whenReplicated` and `transfer` wait here. */
  readonly confirmations = new Waits<Seq>();
  readonly replications = new Waits<void>();
  readonly transfers = new Waits<TransferResult>();

  notServing(): string {
    return this.whyNotServing;
  }

  survey(asker: Asker): SurveyReply {
    this.asked.push(asker);
    if (this.failure) throw this.failure;
    return this.surveyReply;
  }

  async requestPromise(request: PromiseRequest): Promise<PromiseReply> {
    this.asked.push(request);
    if (this.failure) throw this.failure;
    return this.promiseReply;
  }

  async readIndex(asker: Asker, signal: AbortSignal): Promise<Position> {
    this.asked.push(asker);
    if (this.failure) throw this.failure;
    return { epoch: epoch(3), seq: await this.confirmations.add(signal) };
  }

  async linearizableSeq(signal: AbortSignal): Promise<Seq> {
    if (this.failure) throw this.failure;
    return this.confirmations.add(signal);
  }

  hasten(): void {
    this.hastened++;
  }

  async whenReplicated(upTo: Seq, signal: AbortSignal): Promise<void> {
    this.asked.push(upTo);
    if (this.failure) throw this.failure;
    await this.replications.add(signal);
  }

  async promote(options: { readonly force: boolean }): Promise<PromoteResult> {
    this.asked.push(options);
    if (this.failure) throw this.failure;
    return { epoch: epoch(8), firstSeq: seq(20), unreached: ["node-3:8080"], knownLostRecords: 2 };
  }

  async transfer(which: { nodeId?: NodeId; address?: string }, signal: AbortSignal): Promise<TransferResult> {
    this.asked.push(which);
    if (this.failure) throw this.failure;
    return this.transfers.add(signal);
  }

  async register(request: Parameters<RpcReplicator["register"]>[0]): ReturnType<RpcReplicator["register"]> {
    if (this.failure) throw this.failure;
    this.registered.push(request);
    return { clusterId: CLUSTER, masterNodeId: NODE, epoch: epoch(7) };
  }

  async addReplica(address: string): Promise<MemberView> {
    if (this.failure) throw this.failure;
    const view: MemberView = {
      nodeId: OTHER_NODE,
      address,
      voter: false,
      source: "added",
      state: "probing",
      matchSeq: seq(0),
      appliedSeq: seq(0),
      lagRecords: 3,
      lagMs: 1.5,
      detail: "",
    };
    this.view.push(view);
    return view;
  }

  async removeReplica(): Promise<void> {
    if (this.failure) throw this.failure;
    this.view.pop();
  }

  members(): readonly MemberView[] {
    return this.view;
  }

  stalenessMs(): number | undefined {
    return this.staleness;
  }
}
