/** Many watches of one key by gRPC, on few connections, and the sets that they hear of: every event is timed where it arrives. */
import { create, toBinary } from "@bufbuild/protobuf";
import { WatchRequestSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Socket } from "node:net";
import type { Caller, Connection } from "./caller.js";
import { flag, frame, frameType, grpcFrame, headerBlock, Http2Session, setStream } from "./http2-frames.js";
import { grpcHeaders } from "./http2-wire.js";
import type { LoadResult, TellJob, WatchJob } from "./job.js";
import { protocols } from "./protocols.js";
import { openSocket } from "./socket.js";
import { percentile } from "./statistics.js";

const PATH = "/cambium.v1.KVStore/Watch";
/** The field `events`, in a WatchResponse that begins with one; and bytes of a varint that go on. */
const EVENTS = 0x0a;
const MORE = 0x80;
/** Sets in flight. */
const SETTERS = 16;

interface Listener {
  /** The first message of a watch has come: it sees every event from now on. */
  readonly began: () => void;
  /** The n-th event has come to a watch, from 0 on. */
  readonly told: (n: number) => void;
  readonly failed: (error: Error) => void;
}

/** What has come on a stream. */
interface Stream {
  begun: boolean;
  events: number;
  /** Of a message that is not complete. */
  partial: Buffer | undefined;
}

class WatchConnection extends Http2Session {
  readonly #address: string;
  readonly #listener: Listener;
  readonly #streams = new Map<number, Stream>();

  constructor(socket: Socket, options: { address: string; key: string; watches: number }, listener: Listener) {
    super(socket);
    this.#address = options.address;
    this.#listener = listener;
    const request = toBinary(WatchRequestSchema, create(WatchRequestSchema, { key: options.key }));
    const headers = frame(frameType.headers, flag.endHeaders, headerBlock(PATH, options.address, grpcHeaders));
    const data = frame(frameType.data, flag.endStream, grpcFrame(request));
    const frames: Buffer[] = [];
    for (let n = 0; n < options.watches; n++) {
      const stream = 2 * n + 1;
      this.#streams.set(stream, { begun: false, events: 0, partial: undefined });
      const call = Buffer.concat([headers, data]);
      setStream(call, stream, 0);
      setStream(call, stream, headers.length);
      frames.push(call);
    }
    socket.write(Buffer.concat(frames));
  }

  protected override take(type: number, flags: number, id: number, payload: Buffer): void {
    const stream = this.#streams.get(id)!;
    if (flags & flag.endStream) return this.fail("the server ended a watch");
    if (type !== frameType.data) return;
    let bytes = stream.partial ? Buffer.concat([stream.partial, payload]) : payload;
    while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
      const end = 5 + bytes.readUInt32BE(1);
      if (!stream.begun) {
        stream.begun = true;
        this.#listener.began();
      }
      for (let left = eventsIn(bytes.subarray(5, end)); left > 0; left--) this.#listener.told(stream.events++);
      bytes = bytes.subarray(end);
    }
    stream.partial = bytes.length > 0 ? Buffer.from(bytes) : undefined;
  }

  protected override failed(why: string): void {
    this.#listener.failed(new Error(`${this.#address}: ${why}`));
  }
}

/** How many events a WatchResponse has: they are its first fields. */
export function eventsIn(message: Uint8Array): number {
  let events = 0;
  for (let at = 0; message[at] === EVENTS; events++) {
    let length = 0;
    let shift = 0;
    for (at++; message[at]! & MORE; at++, shift += 7) length |= (message[at]! & ~MORE) << shift;
    at += 1 + (length | (message[at]! << shift));
  }
  return events;
}

/** Watches that stand, until they are closed. */
export class WatchLoad {
  readonly #job: WatchJob;
  readonly #connections: (WatchConnection | Connection)[] = [];
  #set: () => void = () => undefined;
  #told: (n: number) => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;
  /** Events that every watch has had before the present measurement. */
  #events = 0;

  constructor(job: WatchJob) {
    this.#job = job;
  }

  /** Resolves once every watch has begun. */
  async open(): Promise<void> {
    const { address, key, watches, watchesAConnection } = this.#job;
    const failed = (error: Error): void => this.#fail(error);
    this.#connections.push(await this.#openSetter(failed));
    for (let left = watches; left > 0; left -= watchesAConnection) {
      const socket = await openSocket(address);
      const count = Math.min(left, watchesAConnection);
      await new Promise<void>((resolve, reject) => {
        let begun = 0;
        this.#fail = reject;
        const listener = {
          began: () => {
            if (++begun === count) resolve();
          },
          told: (n: number) => this.#told(n),
          failed,
        };
        this.#connections.push(new WatchConnection(socket, { address, key, watches: count }, listener));
      });
    }
  }

  async #openSetter(failed: (error: Error) => void): Promise<Connection> {
    const { address, key } = this.#job;
    const { wire, path, message } = protocols.grpc;
    const request = wire.encode(message.set(key), { address, path: path.set });
    const free: Caller[] = [];
    // An event may be everywhere before its set is answered.
    let waiting = 0;
    const setter = await wire.open({
      address,
      streams: SETTERS,
      expected: Buffer.alloc(0),
      answered: (caller) => {
        if (waiting === 0) return void free.push(caller);
        waiting--;
        caller.call(request);
      },
      failed,
    });
    free.push(...setter.callers);
    this.#set = () => {
      const caller = free.pop();
      if (caller) caller.call(request);
      else waiting++;
    };
    return setter;
  }

  /** Sets the key again and again, `window` times before the first of them is everywhere, and times every event at every watch. */
  async tell({ measureMs, window }: TellJob, measuring: () => void): Promise<LoadResult> {
    const { watches } = this.#job;
    const first = this.#events;
    const setMs: number[] = [];
    const latencies: number[] = [];
    const startMs = performance.now();
    const startCpu = process.cpuUsage();
    measuring();
    await new Promise<void>((resolve, reject) => {
      this.#fail = reject;
      const set = (): void => {
        setMs.push(performance.now());
        this.#set();
      };
      this.#told = (n) => {
        const nowMs = performance.now();
        latencies.push((nowMs - setMs[n - first]!) * 1000);
        const complete = Math.floor(latencies.length / watches);
        if (latencies.length % watches !== 0) return;
        if (nowMs - startMs < measureMs) {
          while (setMs.length < complete + window) set();
        } else if (complete === setMs.length) {
          resolve();
        }
      };
      set();
    });
    this.#events += setMs.length;
    const elapsedMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(startCpu);
    const sorted = Float64Array.from(latencies).sort();
    return {
      operations: sorted.length,
      elapsedMs,
      p50Us: percentile(sorted, 0.5),
      p99Us: percentile(sorted, 0.99),
      loaderCpuUs: user + system,
    };
  }

  close(): void {
    this.#fail = () => undefined;
    for (const connection of this.#connections) connection.close();
  }
}
