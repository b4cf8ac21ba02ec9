/**
 * The typed client of Cambium: reads from any node, writes through the master, for Node and for browsers.
 *
 * Every method takes a signal and a timeout, and fails with a `CambiumError` only. A read moves on to another endpoint by
 * itself; a write is sent a second time only when it is certain that it was not done, so a write that fails with
 * `outcomeUnknown` is the caller's to look into. An absent key is a value (`undefined`), not an error.
 */
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
import {
  type Acknowledge,
  acknowledgeOf,
  consistencyOf,
  type ReadConsistency,
  SessionToken,
  type TokenedAnswer,
} from "./consistency.js";
import { type TokenSource, tokenInterceptor } from "./credential.js";
import { type Call, EndpointPool, type PoolCallOptions } from "./endpoint-pool.js";
import {
  type BatchReceipt,
  type DeleteReceipt,
  encodeKey,
  type Entry,
  setRequest,
  toEntry,
  toReceipt,
  toUpdateEvent,
  toWireOperation,
  type UpdatesPage,
  type WriteOperation,
  type WriteReceipt,
} from "./message.js";
import { type PromoteReceipt, toPromoteReceipt, toTransferReceipt, type TransferReceipt } from "./mastership.js";
import {
  encodeRecord,
  type OffsetRange,
  type ProducedRecord,
  type ProduceReceipt,
  toProduceReceipt,
} from "./record.js";
import { recordBatches, type Records } from "./record-batches.js";
import { RecordReader } from "./record-reader.js";
import { type KeyRange, type ScanPage, scanRequest, type ScannedEntry, toScanPage } from "./scan.js";
import { fetchTransport, type TransportFactory } from "./transport.js";
import { fromWire, type Position, toPosition, toWire } from "./wire.js";
import { keepByteOrderMarks } from "./text-encoding.js";

export interface ClientOptions {
  /** Nodes of one cluster, as `host:port` or URLs, in order of preference for reads. Any node will do: the master is found. */
  readonly endpoints: readonly string[];
  /** For a call with all its tries, unless the call says otherwise. Default 10,000. */
  readonly timeoutMs?: number;
  /**
   * Who this client is to the nodes, where they ask: a token, or what gives one for each call, so that it can be replaced. It
   * goes to every node of the cluster that is called; over plain `http` whoever can read the network reads it too.
   */
  readonly token?: TokenSource | undefined;
  /** How a node is reached. Default: Connect over `fetch`. */
  readonly transport?: TransportFactory;
  /** Bytes that an answer may have, decompressed. Default 8 MiB, twice what a node sends by default. */
  readonly readMaxBytes?: number;
  /** Rounds over all endpoints that a read makes at most while none answers. Default 4. */
  readonly readRounds?: number;
  /**
   * The same for a write, while none takes it: a mastership that changes hands is waited out. Default 5. A write that a node
   * may have taken is never sent again.
   */
  readonly writeRounds?: number;
  /** The first pause between two rounds; it doubles up to 2 s, and is jittered. Default 100. */
  readonly retryDelayMs?: number;
  /** How long an endpoint that did not answer is asked last. Default 5,000. */
  readonly avoidMs?: number;
}

export interface CallOptions {
  /** Ends the call with `canceled`. */
  readonly signal?: AbortSignal | undefined;
  /** For the call with all its tries, instead of the client's. */
  readonly timeoutMs?: number | undefined;
}

export interface ReadOptions extends CallOptions, ReadConsistency {}

export interface WriteOptions extends CallOptions {
  /** When the write is answered. Default: once it is committed. */
  readonly acknowledge?: Acknowledge | undefined;
}

export interface SetOptions extends WriteOptions {
  /** Milliseconds from now after which the key expires; absent: it does not. */
  readonly ttlMs?: number | undefined;
}

export interface UpdatesOptions extends CallOptions {
  /** Changes of records after this seq; 0, the default: from the beginning of the log. */
  readonly after?: number;
  /** Instead of `after`: a token of an earlier answer. */
  readonly afterToken?: Uint8Array | undefined;
  /** Events a page, at least, where there are as many. Default: the node's. */
  readonly limit?: number;
  /** Whether to wait for what is yet to come. Default true; when false it ends where the node is up to date. */
  readonly follow?: boolean;
  /** How long the node keeps one call waiting while nothing changes. Default 30,000; at most 60,000. */
  readonly waitMs?: number;
}

export interface ScanOptions extends ReadOptions, KeyRange {
  /** Whether values are left out. Default false. */
  readonly keysOnly?: boolean | undefined;
  /** Entries that a node is asked for at a time, at most 10,000. Default: the node's. */
  readonly pageSize?: number | undefined;
}

export interface ScanPageOptions extends ReadOptions, KeyRange {
  /** Whether values are left out. Default false. */
  readonly keysOnly?: boolean | undefined;
  /** Entries at most, 10,000 or less. Default: the node's. */
  readonly limit?: number | undefined;
  /** `nextPageToken` of the page before, which had the same prefix or range. Absent: the first page. */
  readonly pageToken?: Uint8Array | undefined;
}

export interface ConsumeOptions extends CallOptions {
  /** The first record to read. Absent: the lowest that the node has. */
  readonly offset?: number | undefined;
  /** Records to read at most. Default: no end by number. */
  readonly limit?: number | undefined;
  /** Whether to wait for what is yet to come. Default true; when false it ends where the node's log ends. */
  readonly follow?: boolean;
}

export interface StatusOptions extends CallOptions {
  /** The node to ask, and no other. Default: whichever endpoint answers. */
  readonly endpoint?: string;
}

export interface PromoteOptions extends CallOptions {
  /** The node to make master. Default: the endpoint, where there is one only. */
  readonly endpoint?: string | undefined;
  /** Become master without a majority. What only unreachable nodes have is lost then; see `Cluster.Promote`. */
  readonly force?: boolean | undefined;
}

export interface TransferOptions extends CallOptions {
  /** The node to hand over to, named by either, or by both. Default: the connected member that has the most. */
  readonly nodeId?: string | undefined;
  readonly address?: string | undefined;
}

/** Makes a client. It connects with its first call. Throws `CambiumError` `invalid_argument` for bad options. */
export function createClient(options: ClientOptions): CambiumClient {
  return new CambiumClient(options);
}

/** A request larger than this goes by POST: URLs are limited, by nodes and by what stands between. */
const GET_KEY_BYTES_MAX = 1024;

export class CambiumClient {
  readonly #options: ClientOptions;
  readonly #pool: EndpointPool;
  readonly #timeoutMs: number;
  readonly #readMaxBytes: number;
  /** Of a session only. */
  readonly #session: SessionToken | undefined;

  /** `session` is for `session()`, which shares the connections of another client. */
  constructor(options: ClientOptions, session?: { readonly pool: EndpointPool; readonly token: SessionToken }) {
    keepByteOrderMarks();
    this.#options = options;
    this.#session = session?.token;
    this.#timeoutMs = positive(options.timeoutMs ?? 10_000, "timeoutMs");
    this.#readMaxBytes = positive(options.readMaxBytes ?? 8 * 1024 * 1024, "readMaxBytes");
    this.#pool =
      session?.pool ??
      new EndpointPool({
        endpoints: options.endpoints,
        transport: options.transport ?? fetchTransport,
        ...(options.token !== undefined && { interceptors: [tokenInterceptor(options.token)] }),
        readMaxBytes: this.#readMaxBytes,
        readRounds: positive(options.readRounds ?? 4, "readRounds"),
        writeRounds: positive(options.writeRounds ?? 5, "writeRounds"),
        retryDelayMs: positive(options.retryDelayMs ?? 100, "retryDelayMs"),
        avoidMs: options.avoidMs ?? 5_000,
      });
  }

  /**
   * A client over the same connections whose reads see what it has written and read before, at whichever node: each answer's
   * token goes with the reads after it. Once a failover has lost any of that, every read of the session fails with
   * `lineage_lost`, also after it has written again: look at what there is, and begin a new session. `token` goes on with a
   * session from elsewhere (`sessionToken`), such as that of a user between two requests. `updates` and `consume` keep their
   * own place, and take no part.
   */
  session({ token }: { readonly token?: Uint8Array | undefined } = {}): CambiumClient {
    return new CambiumClient(this.#options, { pool: this.#pool, token: new SessionToken(token) });
  }

  /**
   * What this session has seen, for `session` elsewhere: opaque, and mostly the newest token of its answers. Undefined before
   * the first, and of a client that is no session.
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
    const bytes = encodeKey(key).byteLength;
    const answer = await this.#read(options, (consistency) => (endpoint, call) => {
      const store = bytes <= GET_KEY_BYTES_MAX ? endpoint.storeByGet : endpoint.store;
      return store.get({ key, ...consistency }, call);
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
   * position. When a node fails, another one continues with the next page, perhaps at an earlier position. `timeoutMs` is
   * for a page.
   */
  async *scan({ pageSize, ...options }: ScanOptions = {}): AsyncGenerator<ScannedEntry, void, undefined> {
    let pageToken: Uint8Array | undefined;
    do {
      const page = await this.scanPage({ ...options, limit: pageSize, pageToken });
      yield* page.entries;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /** Reads one page of keys, for those who keep their place themselves. */
  async scanPage(options: ScanPageOptions = {}): Promise<ScanPage> {
    const answer = await this.#read(options, (consistency) => {
      const request = scanRequest(options, this.#readMaxBytes, consistency);
      return (endpoint, call) => endpoint.store.scan(request, call);
    });
    return toScanPage(answer);
  }

  /** Writes one key. The write is committed when this resolves, unless `acknowledge` says otherwise. */
  async set(key: string, value: Uint8Array | string, options: SetOptions = {}): Promise<WriteReceipt> {
    const request = { ...setRequest({ key, value, ttlMs: options.ttlMs }), ...acknowledgeOf(options.acknowledge) };
    const answer = await this.#pool.write((endpoint, call) => endpoint.store.set(request, call), this.#call(options));
    this.#session?.observeWrite(answer);
    return toReceipt(answer);
  }

  /** Removes one key. The removal is committed when this resolves, unless `acknowledge` says otherwise. */
  async delete(key: string, options: WriteOptions = {}): Promise<DeleteReceipt> {
    encodeKey(key);
    const request = { key, ...acknowledgeOf(options.acknowledge) };
    const answer = await this.#pool.write(
      (endpoint, call) => endpoint.store.delete(request, call),
      this.#call(options),
    );
    this.#session?.observeWrite(answer);
    return { ...toReceipt(answer), existed: answer.existed };
  }

  /** Applies 1 to 1024 operations as one record: all of them happen, or none. Committed when this resolves. */
  async write(operations: readonly WriteOperation[], options: WriteOptions = {}): Promise<BatchReceipt> {
    const request = { operations: operations.map(toWireOperation), ...acknowledgeOf(options.acknowledge) };
    const answer = await this.#pool.write((endpoint, call) => endpoint.store.write(request, call), this.#call(options));
    this.#session?.observeWrite(answer);
    return { ...toReceipt(answer), results: answer.results.map(({ existed }) => ({ existed })) };
  }

  /**
   * Reads the committed changes after a place in the log, oldest first, page by page. Between pages it keeps to the
   * lineage of the page before: it ends with `lineage_lost` rather than to go on in another history. It ends with
   * `out_of_range` where the log begins later.
   */
  async *updates(options: UpdatesOptions = {}): AsyncGenerator<UpdatesPage, void, undefined> {
    const { follow = true, limit = 0 } = options;
    const waitMs = follow ? (options.waitMs ?? 30_000) : 0;
    let after = toWire(options.after ?? 0, "after");
    let afterToken = options.afterToken;
    let isFirst = true;
    for (;;) {
      const request = {
        after,
        ...(afterToken && { afterToken }),
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

  /** Appends a record to the record log. It is committed when this resolves. A string is produced as UTF-8. */
  async produce(record: Uint8Array | string, options: WriteOptions = {}): Promise<ProduceReceipt> {
    const request = { record: encodeRecord(record), ...acknowledgeOf(options.acknowledge) };
    const answer = await this.#pool.write(
      (endpoint, call) => endpoint.records.produce(request, call),
      this.#call(options),
    );
    this.#session?.observeWrite(answer);
    return toProduceReceipt(answer, 1);
  }

  /**
   * Appends records in their order, in batches of what is there at once, and gives a receipt for each batch, which is
   * committed then; all of a batch or none of it. One batch is under way at a time, and `timeoutMs` is for each. When it
   * fails, the batches before have been appended; of the one that failed the error tells.
   */
  async *produceMany(records: Records, options: WriteOptions = {}): AsyncGenerator<ProduceReceipt, void, undefined> {
    const acknowledge = acknowledgeOf(options.acknowledge);
    for await (const batch of recordBatches(records)) {
      const answer = await this.#pool.write(
        (endpoint, call) => endpoint.records.produce({ records: batch, ...acknowledge }, call),
        this.#call(options),
      );
      this.#session?.observeWrite(answer);
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
    if (!this.#session) this.#pool.close();
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
  }

  #call({ signal, timeoutMs }: CallOptions): PoolCallOptions {
    return { signal, timeoutMs: timeoutMs === undefined ? this.#timeoutMs : positive(timeoutMs, "timeoutMs") };
  }
}

function positive(value: number, name: string): number {
  if (value > 0) return value;
  throw new CambiumError("invalid_argument", `${name} must be more than 0, not ${value}`);
}
