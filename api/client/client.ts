/**
 * The typed client of Cambium: reads from any node, writes through the master, for Node and for browsers.
 *
 * Every method takes a signal and a timeout, and fails with a `CambiumError` only. A read moves on to another endpoint by
 * itself. So does a write: it carries a number under which the cluster remembers its answer, and is done once however often it
 * is sent. Only where no answer comes in its time it fails with `outcomeUnknown`. An absent key is a value (`undefined`), not
 * an error.
 */
import { type LogLevel, type SlowLog, toLogLevel, toSlowLog } from "./node-log.js";
import { type Backup, type SnapshotReceipt, toBackup, toSnapshotReceipt } from "./backup.js";
import { CambiumError } from "./cambium-error.js";
import {
  type ClusterStatus,
  type EvictionPolicy,
  type MemberStatus,
  type StorageLimits,
  toClusterStatus,
  toMemberStatus,
  toStorageLimits,
  toWirePolicy,
} from "./cluster-status.js";
import { acknowledgeOf, consistencyOf, SessionToken, type TokenedAnswer } from "./consistency.js";
import { tokenInterceptor } from "./credential.js";
import { type Call, EndpointPool, type PoolCallOptions } from "./endpoint-pool.js";
import { checkKey, encodeKey, type Entry, toEntry, toUpdateEvent, type UpdatesPage } from "./message.js";
import { type PromoteReceipt, toPromoteReceipt, toTransferReceipt, type TransferReceipt } from "./mastership.js";
import {
  type BatchReceipt,
  type DeletedRange,
  deleteRangeRequest,
  type DeleteRangeReceipt,
  type DeleteReceipt,
  deleteRequest,
  type IncrementReceipt,
  incrementRequest,
  type SetReceipt,
  setRequest,
  toPrevious,
  toReceipt,
  toResult,
  type TouchReceipt,
  touchRequest,
  toWireOperation,
  type WireReceipt,
  type WriteOperation,
} from "./operation.js";
import {
  encodeRecord,
  type OffsetRange,
  type ProducedRecord,
  type ProduceReceipt,
  toProduceReceipt,
} from "./record.js";
import { recordBatches, type Records } from "./record-batches.js";
import { RecordReader } from "./record-reader.js";
import type {
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
import { type KeyRange, type ScanPage, scanRequest, type ScannedEntry, toScanPage } from "./scan.js";
import { fetchTransport } from "./transport.js";
import { changeFilter } from "./change-filter.js";
import { toTxnReceipt, Txn, txnRequest } from "./txn.js";
import { fromWire, type Position, toPosition, toWire } from "./wire.js";
import { SharedWatches } from "./shared-watches.js";
import { SingleWatches, Watch, WatchCursor, type WatchOptions, type WatchSource } from "./watch.js";
import { type RetryIdentity, type WriteNumber, WriteNumbers } from "./write-numbers.js";
import { keepByteOrderMarks } from "./text-encoding.js";

/** Makes a client. It connects with its first call. Throws `CambiumError` `invalid_argument` for bad options. */
export function createClient(options: ClientOptions): CambiumClient {
  return new CambiumClient(options);
}

interface SharedParts {
  readonly pool: EndpointPool;
  readonly token: SessionToken;
  readonly numbers: WriteNumbers | undefined;
  readonly watches: WatchSource;
}

export class CambiumClient {
  readonly #options: ClientOptions;
  readonly #pool: EndpointPool;
  readonly #timeoutMs: number;
  readonly #readMaxBytes: number;
  readonly #session: SessionToken | undefined;
  /** Made by `session()`: it shares the connections, and is not begun anew by itself. */
  readonly #isOwnSession: boolean;
  /** Absent where writes are not to be repeated. */
  readonly #numbers: WriteNumbers | undefined;
  readonly #watches: WatchSource;

  /** `shared` is for `session()`, which shares the connections of another client. */
  constructor(options: ClientOptions, shared?: SharedParts) {
    keepByteOrderMarks();
    this.#options = options;
    this.#isOwnSession = shared !== undefined;
    this.#session = shared?.token ?? (options.session === false ? undefined : new SessionToken());
    const { retries = true } = options;
    this.#numbers = shared ? shared.numbers : retryNumbers(retries);
    this.#timeoutMs = positive(options.timeoutMs ?? 10_000, "timeoutMs");
    this.#readMaxBytes = positive(options.readMaxBytes ?? 8 * 1024 * 1024, "readMaxBytes");
    this.#pool =
      shared?.pool ??
      new EndpointPool({
        endpoints: options.endpoints,
        transport: options.transport ?? fetchTransport,
        ...(options.token !== undefined && { interceptors: [tokenInterceptor(options.token)] }),
        readMaxBytes: this.#readMaxBytes,
        batch: options.batch ?? true,
        readRounds: positive(options.readRounds ?? 4, "readRounds"),
        writeRounds: positive(options.writeRounds ?? 5, "writeRounds"),
        retryDelayMs: positive(options.retryDelayMs ?? 100, "retryDelayMs"),
        avoidMs: options.avoidMs ?? 5_000,
      });
    const retryDelayMs = options.retryDelayMs ?? 100;
    this.#watches =
      shared?.watches ??
      ((options.sharedWatches ?? true)
        ? new SharedWatches({ pool: this.#pool, timeoutMs: this.#timeoutMs, retryDelayMs })
        : new SingleWatches(this.#pool));
  }

  /**
   * A client over the same connections with a session of its own, such as that of one user of many: its reads see what it has
   * written and read before, at whichever node, and wait for nothing else. Each answer's token goes with the reads after it.
   * Once a failover has lost any of that, every read of the session fails with `lineage_lost`, also after it has written
   * again: look at what there is, and begin a new session. `token` goes on with a
   * session from elsewhere (`sessionToken`), such as that of a user between two requests. `updates` and `consume`
   * keep their own place, and take no part.
   */
  session({ token }: { readonly token?: Uint8Array | undefined } = {}): CambiumClient {
    return new CambiumClient(this.#options, {
      pool: this.#pool,
      token: new SessionToken(token),
      numbers: this.#numbers,
      watches: this.#watches,
    });
  }

  /**
   * What this session has seen, for `session` elsewhere: opaque, and mostly the newest token of its answers. Undefined before
   * the first, and of a client with `session: false`.
   */
  get sessionToken(): Uint8Array | undefined {
    return this.#session?.encoded;
  }

  /** The endpoints' URLs, in order of preference. */
  get endpoints(): readonly string[] {
    return this.#pool.urls;
  }

  /** Reads one key; undefined when it is absent. */
  async get(key: string, options: ReadOptions = {}): Promise<Entry | undefined> {
    checkKey(key);
    const answer = await this.#read(options, (consistency) => (endpoint, call) => {
      return endpoint.keys.get({ key, ...consistency }, call);
    });
    return toEntry(answer, answer);
  }

  /** Reads one key as UTF-8 text; undefined when it is absent. Bytes that are no UTF-8 come as U+FFFD. */
  async getText(key: string, options: ReadOptions = {}): Promise<string | undefined> {
    const entry = await this.get(key, options);
    return entry && new TextDecoder("utf-8", { ignoreBOM: true }).decode(entry.value);
  }

  /** Reads up to 1024 keys at one position. The map has those that exist. */
  async batchGet(keys: readonly string[], options: ReadOptions = {}): Promise<Map<string, Entry>> {
    for (const key of keys) encodeKey(key);
    const answer = await this.#read(options, (consistency) => {
      const request = { keys: [...keys], ...consistency };
      return (endpoint, call) => endpoint.store.batchGet(request, call);
    });
    if (answer.entries.length !== keys.length) {
      throw new CambiumError("internal", `asked for ${keys.length} keys, the node answered ${answer.entries.length}`);
    }
    const found = new Map<string, Entry>();
    for (const [index, key] of keys.entries()) {
      const entry = toEntry(answer.entries[index]!, answer);
      if (entry) found.set(key, entry);
    }
    return found;
  }

  /**
   * Goes through keys by the order of their bytes. What it gives is read page by page while writes go on, each page at one
   * position. When a node fails, another one continues with the next page, without a session perhaps at an earlier position.
   * Leaving the loop ends the reading. `timeoutMs` is for a page.
   */
  async *scan({ pageSize, limit, ...options }: ScanOptions = {}): AsyncGenerator<ScannedEntry, void, undefined> {
    let pageToken: Uint8Array | undefined;
    let left = limit ?? Number.POSITIVE_INFINITY;
    if (limit !== undefined && toWire(limit, "limit") === 0n) return;
    do {
      const page = await this.scanPage({ ...options, limit: pageLimit(pageSize, left), pageToken });
      yield* page.entries;
      left -= page.entries.length;
      pageToken = page.nextPageToken;
    } while (pageToken && left > 0);
  }

  /** Counts the keys of a prefix or a range, or all. One that comes or goes meanwhile may count. */
  async count({ prefix, start, end, ...options }: ReadOptions & KeyRange = {}): Promise<number> {
    let count = 0;
    let pageToken: Uint8Array | undefined;
    do {
      const answer = await this.#read(options, (consistency) => {
        const request = scanRequest({ prefix, start, end, pageToken }, this.#readMaxBytes, consistency);
        return (endpoint, call) => endpoint.store.scan({ ...request, countOnly: true }, call);
      });
      if (answer.count === undefined) throw new CambiumError("internal", "the node answered without the count");
      count += fromWire(answer.count, "count");
      pageToken = answer.nextPageToken.byteLength > 0 ? answer.nextPageToken : undefined;
    } while (pageToken);
    return count;
  }

  /** Reads one page of keys, for those who keep their place themselves. */
  async scanPage(options: ScanPageOptions = {}): Promise<ScanPage> {
    const answer = await this.#read(options, (consistency) => {
      const request = scanRequest(options, this.#readMaxBytes, consistency);
      return (endpoint, call) => endpoint.store.scan(request, call);
    });
    return toScanPage(answer);
  }

  /**
   * Writes one key. The write is committed when this resolves, unless `acknowledge` says otherwise. With a condition that
   * does not hold it fails with `condition_failed`.
   */
  async set(key: string, value: Uint8Array | string, options: SetOptions = {}): Promise<SetReceipt> {
    const request = setRequest({ ...options, key, value });
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.keys.set({ ...request, ...common }, call);
    });
    return { ...toReceipt(answer), ...toPrevious(answer.previous) };
  }

  /** Removes one key. The removal is committed when this resolves, unless `acknowledge` says otherwise. */
  async delete(key: string, options: DeleteOptions = {}): Promise<DeleteReceipt> {
    const request = deleteRequest({ ...options, key });
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.keys.delete({ ...request, ...common }, call);
    });
    return { ...toReceipt(answer), existed: answer.existed, ...toPrevious(answer.previous) };
  }

  /**
   * Removes all keys of a prefix or a range at once, however many there are: no reader sees some of them gone and others not.
   * Committed when this resolves.
   */
  async deleteRange(range: DeletedRange, options: WriteOptions = {}): Promise<DeleteRangeReceipt> {
    const request = deleteRangeRequest(range);
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.store.deleteRange({ ...request, ...common }, call);
    });
    const { deleted } = answer;
    return { ...toReceipt(answer), ...(deleted !== undefined && { deleted: fromWire(deleted, "deleted") }) };
  }

  /**
   * Lets a key expire `ttlMs` milliseconds from now; 0: never. Its value stays, and its `modSeq` is another one. Committed when
   * this resolves.
   */
  async touch(key: string, ttlMs: number, options: TouchOptions = {}): Promise<TouchReceipt> {
    const request = touchRequest({ ...options, key, ttlMs });
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.keys.touch({ ...request, ...common }, call);
    });
    return { ...toReceipt(answer), existed: answer.existed };
  }

  /**
   * Adds to a number, which the key holds as decimal text: 64 bits, signed. An absent key counts as `initial`. Committed when
   * this resolves to the sum. Fails with `not_an_integer` or `out_of_bounds`, and changes nothing then.
   */
  async increment(key: string, delta: bigint | number = 1n, options: IncrementOptions = {}): Promise<IncrementReceipt> {
    const request = incrementRequest({ ...options, key, delta });
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.keys.increment({ ...request, ...common }, call);
    });
    return { ...toReceipt(answer), value: answer.value };
  }

  /**
   * Begins a transaction: what `when` compares decides between the operations of `do` and those of `otherwise`, which are
   * carried out as one record by `commit`. Up to 128 comparisons and operations together.
   */
  txn(): Txn {
    return new Txn({ compares: [], operations: [], otherwise: [] }, async (plan, options) => {
      const request = txnRequest(plan);
      const answer = await this.#write(options, (common) => (endpoint, call) => {
        return endpoint.store.txn({ ...request, ...common }, call);
      });
      return toTxnReceipt(answer, plan);
    });
  }

  /** Applies 1 to 1024 operations as one record: all of them happen, or none. Committed when this resolves. */
  async write(operations: readonly WriteOperation[], options: WriteOptions = {}): Promise<BatchReceipt> {
    const request = { operations: operations.map(toWireOperation) };
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.store.write({ ...request, ...common }, call);
    });
    return { ...toReceipt(answer), results: answer.results.map(toResult) };
  }

  /**
   * Reads the committed changes after a place in the log, oldest first, page by page. Between pages it keeps to the
   * lineage of the page before: it ends with `lineage_lost` rather than to go on in another history. It ends with
   * `out_of_range` where the log begins later. The same events as `watch`, by calls that end: for whoever cannot stream.
   */
  async *updates(options: UpdatesOptions = {}): AsyncGenerator<UpdatesPage, void, undefined> {
    const { follow = true, limit = 0, wantPrevious = false } = options;
    const filter = changeFilter(options);
    const waitMs = follow ? (options.waitMs ?? 30_000) : 0;
    let after = toWire(options.after ?? 0, "after");
    let afterToken = options.afterToken;
    let isFirst = true;
    for (;;) {
      const request = {
        after,
        ...(afterToken && { afterToken }),
        ...filter,
        wantPrevious,
        limit: Number(toWire(limit, "limit")),
        waitMs: Number(toWire(waitMs, "waitMs")),
      };
      // After the first page, a node that has not compacted the place away is one that lags behind the node before: it does
      // not reach the place yet, or has another record there, of a mastership that is over.
      const isBehind = ({ range }: CambiumError): boolean =>
        !isFirst && range !== undefined && BigInt(range.compactSeq) <= after;
      const answer = await this.#pool.read((endpoint, call) => endpoint.store.getUpdates(request, call), {
        ...this.#call(options),
        waitMs,
        retry: isBehind,
      });
      const page = {
        events: answer.events.map(toUpdateEvent),
        next: fromWire(answer.next, "next"),
        nextToken: answer.nextToken,
        position: toPosition(answer.position),
      };
      const isEnd = !follow && page.next >= page.position.seq;
      if (!follow && !isEnd && answer.next <= after && page.events.length === 0) {
        throw new CambiumError("internal", `the node answered updates after ${after} without moving on`);
      }
      isFirst = false;
      after = answer.next;
      afterToken = answer.nextToken.byteLength > 0 ? answer.nextToken : undefined;
      if (page.events.length > 0 || isEnd) yield page;
      if (isEnd) return;
    }
  }

  /**
   * Follows the committed changes of a key, a prefix or a range, or all: `for await (const event of kv.watch({ prefix }))`.
   * It begins when it is iterated, and goes on by itself when a connection or a node is lost, without a hole or a repetition,
   * until the loop is left or the signal fires. Without `after`, what is written once it has begun is certain to come; to
   * miss nothing since a read, give the read's `token`. Reads after an event see at least that event.
   */
  watch(options: WatchOptions = {}): Watch {
    const observe = (answer: TokenedAnswer): void => this.#session?.observeRead(answer, undefined);
    return new Watch(new WatchCursor(options, this.#call(options).timeoutMs, observe), this.#watches);
  }

  /** Appends a record to the record log. It is committed when this resolves. A string is produced as UTF-8. */
  async produce(record: Uint8Array | string, options: WriteOptions = {}): Promise<ProduceReceipt> {
    const request = { record: encodeRecord(record) };
    const answer = await this.#write(options, (common) => (endpoint, call) => {
      return endpoint.records.produce({ ...request, ...common }, call);
    });
    return toProduceReceipt(answer, 1);
  }

  /**
   * Appends records in their order, in batches of what is there at once, and gives a receipt for each batch, which is
   * committed then; all of a batch or none of it. One batch is under way at a time, and `timeoutMs` is for each. When it
   * fails, the batches before have been appended; of the one that failed the error tells.
   */
  async *produceMany(records: Records, options: WriteOptions = {}): AsyncGenerator<ProduceReceipt, void, undefined> {
    for await (const batch of recordBatches(records)) {
      const answer = await this.#write({ ...options, clientSeq: undefined }, (common) => (endpoint, call) => {
        return endpoint.records.produce({ records: batch, ...common }, call);
      });
      yield toProduceReceipt(answer, batch.length);
    }
  }

  /**
   * Reads the record log from an offset on, and follows its end. Where the connection or the node is lost, it goes on
   * at another, without a hole or a repetition; `timeoutMs` is for finding one. It ends with `out_of_range` when the next
   * record has been truncated, and with `lineage_lost` rather than to go on in another history. Each reader takes a
   * connection of its own over HTTP/1.1, of which browsers open six to a node.
   */
  consume(options: ConsumeOptions = {}): AsyncGenerator<ProducedRecord, void, undefined> {
    const { offset, limit = 0, follow = true } = options;
    if (offset !== undefined) toWire(offset, "offset");
    toWire(limit, "limit");
    return new RecordReader({ pool: this.#pool, offset, limit, follow, call: this.#call(options) }).records();
  }

  /** Removes all records below an offset. Committed when this resolves; `start` is the lowest offset that is left. */
  async truncateRecords(
    belowOffset: number,
    options: CallOptions = {},
  ): Promise<{ readonly position: Position; readonly start: number }> {
    const request = { belowOffset: toWire(belowOffset, "belowOffset") };
    const answer = await this.#pool.write(
      (endpoint, call) => endpoint.records.truncate(request, call),
      this.#call(options),
    );
    return { position: toPosition(answer.position), start: fromWire(answer.start, "start") };
  }

  /** Tells which offsets a node has. */
  async recordRange(options: CallOptions = {}): Promise<OffsetRange> {
    const { start, end } = await this.#pool.read(
      (endpoint, call) => endpoint.records.getRange({}, call),
      this.#call(options),
    );
    return { start: fromWire(start, "start"), end: fromWire(end, "end") };
  }

  /** Describes a node, and the members as that node knows them. */
  async status(options: StatusOptions = {}): Promise<ClusterStatus> {
    const { endpoint } = options;
    const call = this.#call(options);
    return toClusterStatus(
      endpoint === undefined
        ? await this.#pool.read((node, nodeCall) => node.cluster.status({}, nodeCall), call)
        : await this.#pool.at(endpoint, (node, nodeCall) => node.cluster.status({}, nodeCall), call),
    );
  }

  /** Makes the node at an address (`host:port`) a follower of the master. Committed when this resolves. */
  async addReplica(address: string, options: CallOptions = {}): Promise<MemberStatus> {
    const answer = await this.#pool.command(
      (endpoint, call) => endpoint.cluster.addReplica({ address }, call),
      this.#call(options),
    );
    if (!answer.member) throw new CambiumError("internal", "the node answered without the member that it added");
    return toMemberStatus(answer.member);
  }

  /** Ends the membership of a replica, named by its id, its address, or both. Committed when this resolves. */
  async removeReplica(
    which: { readonly nodeId?: string; readonly address?: string },
    options: CallOptions = {},
  ): Promise<void> {
    await this.#pool.command((endpoint, call) => endpoint.cluster.removeReplica(which, call), this.#call(options));
  }

  /**
   * Makes a node the master; it takes writes when this resolves. For a master that still runs, `transfer` is the better way.
   * Give it the time: a node waits up to seven seconds for the others.
   */
  async promote({ endpoint, force = false, ...options }: PromoteOptions = {}): Promise<PromoteReceipt> {
    const [only, ...others] = this.#pool.urls;
    const target = endpoint ?? (others.length === 0 ? only : undefined);
    if (target === undefined) {
      throw new CambiumError("invalid_argument", "there are several endpoints; say by endpoint which node to promote");
    }
    return toPromoteReceipt(
      await this.#pool.at(target, (node, call) => node.cluster.promote({ force }, call), {
        ...this.#call(options),
        write: true,
      }),
    );
  }

  /** Lets the master hand over to another node, which takes writes when this resolves. Nothing is lost. */
  async transfer({ nodeId = "", address = "", ...options }: TransferOptions = {}): Promise<TransferReceipt> {
    return toTransferReceipt(
      await this.#pool.command(
        (endpoint, call) => endpoint.cluster.transfer({ nodeId, address }, call),
        this.#call(options),
      ),
    );
  }

  /** Changes how much may be stored; what is absent stays. Resolves to the limits as they are, once they are committed. */
  async setStorageLimits(
    {
      maxEntries,
      maxBytes,
      evictionPolicy,
    }: { readonly maxEntries?: number; readonly maxBytes?: number; readonly evictionPolicy?: EvictionPolicy },
    options: CallOptions = {},
  ): Promise<StorageLimits> {
    const request = {
      ...(maxEntries !== undefined && { maxEntries: BigInt(maxEntries) }),
      ...(maxBytes !== undefined && { maxBytes: BigInt(maxBytes) }),
      evictionPolicy: toWirePolicy(evictionPolicy),
    };
    const answer = await this.#pool.command(
      (endpoint, call) => endpoint.cluster.setStorageLimits(request, call),
      this.#call(options),
    );
    return toStorageLimits(answer.limits);
  }

  /**
   * Lets the first node that answers write a snapshot to its disk; on the disk when this resolves. It takes as long as the
   * node's state is large: give it the time.
   */
  async createSnapshot(options: CallOptions = {}): Promise<SnapshotReceipt> {
    return this.#pool.read(
      async (endpoint, call) => toSnapshotReceipt(endpoint.url, await endpoint.cluster.createSnapshot({}, call)),
      this.#call(options),
    );
  }

  /** Changes which lines the first node that answers writes to its log, until it ends. Resolves to the level before. */
  async setLogLevel(
    level: LogLevel,
    options: CallOptions = {},
  ): Promise<{ readonly endpoint: string; readonly levelBefore: LogLevel }> {
    return this.#pool.read(async (endpoint, call) => {
      const { levelBefore } = await endpoint.cluster.setLogLevel({ level }, call);
      return { endpoint: endpoint.url, levelBefore: toLogLevel(levelBefore, endpoint.url) };
    }, this.#call(options));
  }

  /** The calls that took long on the first node that answers. */
  async slowLog(options: CallOptions = {}): Promise<SlowLog> {
    return this.#pool.read(
      async (endpoint, call) => toSlowLog(endpoint.url, await endpoint.cluster.slowLog({}, call)),
      this.#call(options),
    );
  }

  /**
   * Begins a backup at the first node that answers, within the call's time; the bytes then take what they take, and come from
   * that node alone. Over `fetch` all of it together counts as one answer, see `readMaxBytes`: use Node's transport.
   */
  async backup(options: CallOptions = {}): Promise<Backup> {
    let from = "";
    const messages = this.#pool.stream(
      (endpoint, call) => {
        from = endpoint.url;
        return endpoint.cluster.backup({}, call);
      },
      {
        ...this.#call(options),
        retry: () => false,
        // Another node's bytes are those of another file.
        broke: (error) => {
          throw error;
        },
      },
    );
    const first = await messages.next();
    return toBackup(from, first.done === true ? undefined : first.value.header, messages);
  }

  /** Gives back all connections; calls in flight fail, later ones too. Of a session nothing: its connections are shared. */
  close(): void {
    if (!this.#isOwnSession) this.#pool.close();
  }

  /** A read as fresh as it is to be. `prepare` makes the call, or throws where its arguments make no sense. */
  async #read<T extends TokenedAnswer>(
    options: ReadOptions,
    prepare: (consistency: ReturnType<typeof consistencyOf>) => Call<T>,
  ): Promise<T> {
    // One that names a token of its own is not the session's.
    const session = options.atLeast === undefined ? this.#session : undefined;
    const read = session?.beginRead();
    const ask = prepare(consistencyOf(options, read));
    try {
      const answer = await this.#pool.read(async (endpoint, call) => {
        const answer = await ask(endpoint, call);
        // This node knows the newest mastership that the session has seen, and so what came of those before.
        for (const atLeast of read?.unproven ?? []) {
          await endpoint.store.scan({ limit: 1, keysOnly: true, consistency: { atLeast } }, call);
        }
        return answer;
      }, this.#call(options));
      if (read) session?.proven(read);
      this.#session?.observeRead(answer, read);
      return answer;
    } catch (error) {
      // The caller has been told; for good would be too long for a client that lives as long as its process.
      if (read && !this.#isOwnSession && error instanceof CambiumError && error.code === "lineage_lost") {
        session?.forget(read);
      }
      throw error;
    }
  }

  /** A write, under the next number. `prepare` makes the call with what all writes carry. */
  async #write<T extends WireReceipt>(
    options: WriteOptions,
    prepare: (common: WriteNumber & ReturnType<typeof acknowledgeOf>) => Call<T>,
  ): Promise<T> {
    const call = this.#call(options);
    const acknowledge = acknowledgeOf(options.acknowledge);
    const { clientSeq } = options;
    if (!this.#numbers && clientSeq !== undefined) {
      throw new CambiumError("invalid_argument", "a clientSeq makes no sense where retries are switched off");
    }
    const answer = this.#numbers
      ? await this.#numbers.run({ ...call, clientSeq }, (number, timeoutMs) =>
          this.#pool.write(prepare({ ...acknowledge, ...number }), { ...call, timeoutMs, isRepeatable: true }),
        )
      : await this.#pool.write(prepare(acknowledge), call);
    this.#session?.observeWrite(answer);
    return answer;
  }

  #call({ signal, timeoutMs }: CallOptions): PoolCallOptions {
    return { signal, timeoutMs: timeoutMs === undefined ? this.#timeoutMs : positive(timeoutMs, "timeoutMs") };
  }
}

function retryNumbers(retries: boolean | RetryIdentity): WriteNumbers | undefined {
  if (retries === false) return undefined;
  return retries === true ? new WriteNumbers() : new WriteNumbers(retries);
}

/** What to ask a node for, when so many entries are still wanted. */
function pageLimit(pageSize: number | undefined, left: number): number | undefined {
  if (pageSize === undefined) return Number.isFinite(left) ? Math.min(left, PAGE_ENTRIES) : undefined;
  return Math.min(pageSize, left);
}

/** Entries of a page, where a node is not to choose. */
const PAGE_ENTRIES = 1000;

function positive(value: number, name: string): number {
  if (value > 0) return value;
  throw new CambiumError("invalid_argument", `${name} must be more than 0, not ${value}`);
}
