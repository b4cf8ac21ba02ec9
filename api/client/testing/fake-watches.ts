/** The watches of a fake node: the contract of Watch and WatchMany over the cluster's log. */
import { setMaxListeners } from "node:events";
import { type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type AddWatchRequest,
  EventType,
  type NamedWatch,
  type RemoveWatchRequest,
  WatchEndedSchema,
  type WatchManyRequest,
  type WatchManyResponseSchema,
  type WatchRequest,
  type WatchResponseSchema,
} from "../../gen/cambium/v1/kvstore_pb.js";
import { LineageLostSchema, LogRangeSchema } from "../../gen/cambium/v1/types_pb.js";
import { type FakeCluster, type FakeEvent, placeOf } from "./fake-cluster.js";
import { rangeOf } from "./fake-commands.js";

export interface FakeFilter {
  readonly key: string;
  readonly prefix: string;
  readonly start: string;
  readonly end: string;
  readonly wantPrevious: boolean;
  readonly keysOnly?: boolean;
}

type Response = MessageInitShape<typeof WatchResponseSchema>;
type ManyResponse = MessageInitShape<typeof WatchManyResponseSchema>;

interface Stream {
  /** What is to be sent, by whoever has it. */
  readonly send: (message: ManyResponse) => void;
  readonly watches: Map<bigint, AbortController>;
  readonly signal: AbortSignal;
}

export class FakeWatches {
  /** The requests that were taken, on streams of their own and on shared ones, in order. */
  readonly requests: WatchRequest[] = [];
  /** Called before a message of a watch is sent; what it throws ends the watch, and it may wait. */
  beforeMessage: (message: Response, signal: AbortSignal) => void | Promise<void> = () => {};
  /** Records with more events than this come in several messages. */
  eventsMax = 1000;
  readonly #cluster: FakeCluster;
  readonly #applied: () => bigint;
  readonly #streams = new Map<string, Stream>();
  #streamCount = 0;
  #ending = new AbortController();

  constructor(cluster: FakeCluster, applied: () => bigint) {
    this.#cluster = cluster;
    this.#applied = applied;
  }

  /** How many are open. */
  get count(): number {
    return [...this.#streams.values()].reduce((sum, { watches }) => sum + watches.size, this.alone);
  }

  /** How many are open on streams of their own. */
  alone = 0;

  get streams(): number {
    return this.#streams.size;
  }

  /** Ends all watches, as a node that shuts down or installs a state does. */
  endAll(): void {
    const ending = this.#ending;
    this.#ending = new AbortController();
    ending.abort();
  }

  async *follow(request: WatchRequest, signal: AbortSignal): AsyncGenerator<Response> {
    this.alone++;
    try {
      yield* this.#messages(request, signal);
    } finally {
      this.alone--;
    }
  }

  async *followMany({ watches }: WatchManyRequest, signal: AbortSignal): AsyncGenerator<ManyResponse> {
    const name = `stream ${++this.#streamCount} of ${Math.random()}`;
    const queue: ManyResponse[] = [{ streamId: new TextEncoder().encode(name) }];
    let wake = (): void => {};
    const send = (message: ManyResponse): void => {
      queue.push(message);
      wake();
    };
    const stream: Stream = { send, watches: new Map(), signal };
    this.#streams.set(name, stream);
    const ending = this.#ending.signal;
    const end = (): void => wake();
    signal.addEventListener("abort", end);
    ending.addEventListener("abort", end);
    try {
      for (const watch of watches) this.#start(stream, watch);
      while (!signal.aborted) {
        if (ending.aborted) throw new ConnectError("this node shuts down", Code.Unavailable);
        const message = queue.shift();
        if (message) yield message;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      this.#streams.delete(name);
      for (const watch of stream.watches.values()) watch.abort();
    }
  }

  add({ streamId, watch }: AddWatchRequest): object {
    const stream = this.#stream(streamId);
    if (stream.watches.has(watch!.watchId)) throw new ConnectError("there is such a watch", Code.AlreadyExists);
    this.#start(stream, watch!);
    return {};
  }

  remove({ streamId, watchId }: RemoveWatchRequest): object {
    this.#stream(streamId).watches.get(watchId)?.abort();
    return {};
  }

  #stream(streamId: Uint8Array): Stream {
    const stream = this.#streams.get(new TextDecoder().decode(streamId));
    if (!stream) throw new ConnectError("no such stream", Code.NotFound);
    return stream;
  }

  #start(stream: Stream, { watchId, watch }: NamedWatch): void {
    const ended = new AbortController();
    stream.watches.set(watchId, ended);
    const run = async (): Promise<void> => {
      try {
        for await (const response of this.#messages(watch!, ended.signal)) {
          stream.send({ watchId, message: { case: "response", value: response } });
        }
      } catch (error) {
        if (!ended.signal.aborted) stream.send({ watchId, message: { case: "ended", value: statusOf(error) } });
      } finally {
        stream.watches.delete(watchId);
      }
    };
    void run();
  }

  async *#messages(request: WatchRequest, signal: AbortSignal): AsyncGenerator<Response> {
    this.requests.push(request);
    const cluster = this.#cluster;
    const ending = this.#ending.signal;
    const isTokened = request.afterToken.byteLength > 0;
    let after = isTokened ? placeOf(request.afterToken).seq : (request.after ?? this.#applied());
    let { epoch } = isTokened ? placeOf(request.afterToken) : cluster.positionAt(after);
    setMaxListeners(0, ending);
    const stopped = new Promise<void>((resolve) => {
      for (const each of [signal, ending]) each.addEventListener("abort", () => resolve(), { once: true });
    });
    let isFirst = true;
    while (!signal.aborted) {
      if (ending.aborted) {
        throw new ConnectError("this node shuts down", Code.Unavailable, undefined, [
          { desc: WatchEndedSchema, value: { token: cluster.tokenAt(after), seq: after } },
        ]);
      }
      const applied = this.#applied();
      const { compactSeq } = cluster;
      if (after < compactSeq || (isFirst && after > applied)) {
        throw new ConnectError(`the log holds ${compactSeq + 1n} to ${applied}`, Code.OutOfRange, undefined, [
          { desc: LogRangeSchema, value: { compactSeq, appliedSeq: applied } },
        ]);
      }
      if (after > 0n && cluster.positionAt(after).epoch !== epoch) {
        throw new ConnectError("a failover lost it", Code.Aborted, undefined, [{ desc: LineageLostSchema, value: {} }]);
      }
      const changed = cluster.changed();
      const records = new Map<bigint, FakeEvent[]>();
      for (const event of filtered(cluster.events, request)) {
        const { seq } = event.position;
        if (seq > after && seq <= applied) records.set(seq, [...(records.get(seq) ?? []), event]);
      }
      const messages: Response[] = isFirst ? [this.#progress(after)] : [];
      for (const [seq, events] of records) {
        for (let at = 0; at < events.length; at += this.eventsMax) {
          const part = events.slice(at, at + this.eventsMax);
          const more = at + part.length < events.length;
          messages.push(more ? { events: part, more } : { ...this.#progress(seq), events: part });
        }
      }
      if (records.size === 0 && applied > after) messages.push(this.#progress(applied));
      for (const message of messages) {
        await this.beforeMessage(message, signal);
        yield message;
      }
      isFirst = false;
      after = applied > after ? applied : after;
      epoch = cluster.positionAt(after).epoch;
      await Promise.race([changed, stopped]);
    }
  }

  #progress(seq: bigint): { position: { epoch: bigint; seq: bigint }; token: Uint8Array } {
    return { position: this.#cluster.positionAt(seq), token: this.#cluster.tokenAt(seq) };
  }
}

function statusOf(error: unknown): NonNullable<Extract<ManyResponse["message"], { case?: "ended" }>>["value"] {
  const refused = ConnectError.from(error);
  const code = Code[refused.code].replaceAll(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
  const [range] = refused.findDetails(LogRangeSchema);
  const [lost] = refused.findDetails(LineageLostSchema);
  const [ended] = refused.findDetails(WatchEndedSchema);
  return {
    code,
    message: refused.rawMessage,
    ...(range && { detail: { case: "logRange", value: range } }),
    ...(lost && { detail: { case: "lineageLost", value: lost } }),
    ...(ended && { detail: { case: "watchEnded", value: ended } }),
  };
}

/** The events that a filter lets through, as it wants them. */
export function filtered(events: readonly FakeEvent[], filter: FakeFilter): FakeEvent[] {
  const { key } = filter;
  const { start, end } = rangeOf(filter);
  const values = new Map<string, Uint8Array>();
  const found: FakeEvent[] = [];
  for (const event of events) {
    const { key: eventKey } = event;
    const previous = values.get(eventKey);
    if (event.type === EventType.PUT) values.set(eventKey, event.value!);
    else values.delete(eventKey);
    const before = filter.wantPrevious && previous ? { previous } : {};
    const shown = filter.keysOnly ? { ...event, value: new Uint8Array() } : event;
    if (event.type === EventType.DELETE_RANGE) {
      const isInside = key >= eventKey && (!event.rangeEnd || key < event.rangeEnd);
      if (key !== "" && isInside) found.push({ ...event, key, type: EventType.DELETE, rangeEnd: "" });
      else if (key === "") {
        const from = eventKey > start ? eventKey : start;
        const rangeEnd = [event.rangeEnd ?? "", end].filter((bound) => bound !== "").sort()[0] ?? "";
        if (rangeEnd === "" || from < rangeEnd) found.push({ ...event, key: from, rangeEnd });
      }
    } else if (key === "" ? eventKey >= start && (end === "" || eventKey < end) : eventKey === key) {
      found.push({ ...shown, ...before });
    }
  }
  return found;
}
