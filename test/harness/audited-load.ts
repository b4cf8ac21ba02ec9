/**
 * Load on a node, and a journal of what it acknowledged: writers that set, delete and write batches, each on keys of its own,
 * and producers. After whatever befell the node, the audit compares every key and every record with the journal, byte for byte.
 */
import { createHash } from "node:crypto";
import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import type { JsonAnswer } from "./rpc.js";

/** Keys and values that go together: all of them, or none. */
type Wish = ReadonlyMap<string, string | undefined>;

export interface LoadOptions {
  readonly writers?: number;
  /** 0: the record log is somebody else's, and is not looked at. */
  readonly producers?: number;
  /** A large value has this many bytes at most. */
  readonly valueBytesMax?: number;
}

/** How the calls of a load were answered, over all its runs. */
export interface LoadCounts {
  acknowledged: number;
  /** For lack of room: not executed. */
  refused: number;
  /** Without an answer, or with one that says that the outcome is unknown. */
  unknown: number;
}

export class AuditFailure extends Error {
  override readonly name = "AuditFailure";
}

const KEYS = 20;
/** Of the record log, at least so many records stay. */
const RECORDS_KEPT = 150;

export class AuditedLoad {
  readonly counts: LoadCounts = { acknowledged: 0, refused: 0, unknown: 0 };
  /** Answers other than success, by code, with the message of the last. */
  readonly answers = new Map<string, string>();
  readonly #options: Required<LoadOptions>;
  readonly #writers: Writer[];
  readonly #producers: Producer[];
  /** What is known of the record log: what was acknowledged at which offset. */
  readonly #records = new Map<number, string>();
  #agent: http.Agent | undefined;
  #address = "";
  #running: Promise<unknown> | undefined;
  #stopped = true;
  #serial = 0;
  /** Truncated below, for sure, and perhaps. */
  #start = { known: 0, possible: 0 };

  constructor(options: LoadOptions = {}) {
    this.#options = { writers: 6, producers: 2, valueBytesMax: 4096, ...options };
    this.#writers = Array.from({ length: this.#options.writers }, (_, i) => new Writer(i));
    this.#producers = Array.from({ length: this.#options.producers }, () => ({ unknown: undefined }));
  }

  /** Begins to write to `host:port`. Every writer goes on until `stop`, or until a call of its has no known outcome. */
  start(address: string): void {
    this.#address = address;
    this.#stopped = false;
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
    this.#running = Promise.all([
      ...this.#writers.map((writer) => this.#write(writer)),
      ...this.#producers.map((producer) => this.#produce(producer)),
    ]);
  }

  /** Resolves once no writer waits for an answer any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
    this.#agent?.destroy();
  }

  /** Resolves once every writer has ended by itself, because the node has gone. */
  async ended(): Promise<void> {
    await this.#running;
    await this.stop();
  }

  /**
   * Compares what the node at `host:port` has with the journal; no load may run. Rejects with `AuditFailure`. What had no
   * answer is known from then on.
   */
  async audit(address: string): Promise<void> {
    this.#address = address;
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
    try {
      for (const writer of this.#writers) await this.#auditKeys(writer);
      if (this.#producers.length > 0) await this.#auditRecords();
    } finally {
      this.#agent.destroy();
    }
  }

  // ---- load ----------------------------------------------------------------------------------------------------------

  async #write(writer: Writer): Promise<void> {
    while (!this.#stopped && !writer.unknown) {
      const wish = this.#wish(writer);
      const outcome = await this.#send(...messageOf(wish));
      if (outcome === "unknown") writer.unknown = wish;
      else if (outcome === "refused") await pause(10);
      else for (const [key, value] of wish) writer.values.set(key, value);
    }
  }

  #wish(writer: Writer): Wish {
    const chance = Math.random();
    const count = chance < 0.25 ? 2 + Math.floor(Math.random() * 4) : 1;
    const wish = new Map<string, string | undefined>();
    const isDelete = chance > 0.85;
    while (wish.size < count) {
      const key = `writer-${writer.index}-key-${Math.floor(Math.random() * KEYS)}`;
      wish.set(key, isDelete || (count > 2 && wish.size === 1) ? undefined : this.#value());
    }
    return wish;
  }

  async #produce(producer: Producer): Promise<void> {
    for (let turn = 1; !this.#stopped && !producer.unknown; turn++) {
      if (turn % 50 === 0 && (await this.#truncate()) === "unknown") return;
      const records = Array.from({ length: turn % 5 === 0 ? 3 : 1 }, () => this.#value());
      let offset = 0;
      const outcome = await this.#send("Log/Produce", { records }, (body) => (offset = Number(body["offset"] ?? 0)));
      if (outcome === "unknown") producer.unknown = records;
      else if (outcome === "refused") await pause(10);
      else records.forEach((record, i) => this.#records.set(offset + i, record));
    }
  }

  async #truncate(): Promise<"acknowledged" | "refused" | "unknown"> {
    const below = Math.max(0, ...this.#records.keys()) - RECORDS_KEPT;
    if (below <= 0) return "refused";
    this.#start.possible = Math.max(this.#start.possible, below);
    const outcome = await this.#send("Log/Truncate", { belowOffset: below });
    if (outcome === "acknowledged") this.#start.known = Math.max(this.#start.known, below);
    return outcome;
  }

  /** In base64. Every one is another, and tells by itself whether it is whole. */
  #value(): string {
    const { valueBytesMax } = this.#options;
    const length = Math.random() < 0.1 ? Math.floor(Math.random() * valueBytesMax) : Math.floor(Math.random() * 200);
    const head = createHash("sha256").update(`value ${++this.#serial}`).digest();
    return Buffer.concat(Array.from({ length: Math.ceil((length + 8) / head.length) }, () => head))
      .subarray(0, length + 8)
      .toString("base64");
  }

  async #send(
    method: string,
    message: unknown,
    accept: (body: JsonAnswer["body"]) => void = () => undefined,
  ): Promise<"acknowledged" | "refused" | "unknown"> {
    let answer: JsonAnswer;
    try {
      answer = await this.#call(method, message);
    } catch {
      // The connection broke or was refused: the node is going, and nobody knows how far this call came.
      this.counts.unknown++;
      return "unknown";
    }
    if (answer.status === 200) {
      accept(answer.body);
      this.counts.acknowledged++;
      return "acknowledged";
    }
    const code = String(answer.body["code"]);
    this.answers.set(code, String(answer.body["message"]));
    if (code === "resource_exhausted") {
      this.counts.refused++;
      return "refused";
    }
    this.counts.unknown++;
    return "unknown";
  }

  /** Rejects when there is no whole answer. */
  async #call(method: string, message: unknown): Promise<JsonAnswer> {
    const { status, text } = await this.#post(method, JSON.stringify(message));
    return { status, body: JSON.parse(text) as JsonAnswer["body"] };
  }

  #post(method: string, body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const agent = this.#agent;
      const outgoing = http.request(
        `http://${this.#address}/cambium.v1.${method}`,
        { method: "POST", headers: { "content-type": "application/json" }, ...(agent && { agent }) },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("error", reject);
          incoming.on("aborted", () => reject(new Error("the answer broke off")));
          incoming.on("end", () =>
            resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
          );
        },
      );
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  // ---- audit ---------------------------------------------------------------------------------------------------------

  async #ask(method: string, message: unknown): Promise<JsonAnswer["body"]> {
    const { status, body } = await this.#call(method, message);
    if (status !== 200) throw new AuditFailure(`${method} answered ${status}: ${JSON.stringify(body)}`);
    return body;
  }

  async #auditKeys(writer: Writer): Promise<void> {
    const keys = Array.from({ length: KEYS }, (_, i) => `writer-${writer.index}-key-${i}`);
    const { entries = [] } = (await this.#ask("KVStore/BatchGet", { keys })) as {
      entries?: { exists?: boolean; value?: string }[];
    };
    if (entries.length !== KEYS) throw new AuditFailure(`${KEYS} keys were asked for, ${entries.length} answered`);
    const found = new Map(keys.map((key, i) => [key, entries[i]!.exists ? (entries[i]!.value ?? "") : undefined]));
    const { unknown } = writer;
    const isThere = unknown !== undefined && [...unknown].every(([key, value]) => found.get(key) === value);
    if (unknown && isThere) for (const [key, value] of unknown) writer.values.set(key, value);
    for (const key of keys) {
      const expected = writer.values.get(key);
      if (found.get(key) === expected) continue;
      const half = unknown?.has(key) ? `; a batch of ${unknown.size} without an answer is there in part` : "";
      throw new AuditFailure(`${key} has ${show(found.get(key))}; ${show(expected)} was acknowledged${half}`);
    }
    writer.unknown = undefined;
  }

  async #auditRecords(): Promise<void> {
    const range = await this.#ask("Log/GetRange", {});
    const [start, end] = [Number(range["start"] ?? 0), Number(range["end"] ?? 0)];
    if (start < this.#start.known || start > Math.max(this.#start.possible, this.#start.known)) {
      throw new AuditFailure(`the record log begins at ${start}; it was truncated below ${this.#start.known}`);
    }
    this.#start = { known: start, possible: start };
    for (const offset of this.#records.keys()) {
      if (offset < start) this.#records.delete(offset);
      else if (offset >= end)
        throw new AuditFailure(`record ${offset} was acknowledged; the record log ends at ${end}`);
    }
    const offsets = Array.from({ length: end - start }, (_, i) => start + i);
    const found = new Map<number, string>();
    const queue = offsets.values();
    const reader = async (): Promise<void> => {
      for (const offset of queue) {
        const { record = "" } = (await this.#ask("Log/Consume", { offset })) as { record?: string };
        found.set(offset, record);
      }
    };
    await Promise.all(Array.from({ length: 8 }, reader));
    const unknown = this.#producers.flatMap((producer) => (producer.unknown ? [producer.unknown] : []));
    for (let at = start; at < end; at++) {
      const record = found.get(at);
      const acknowledged = this.#records.get(at);
      if (acknowledged !== undefined) {
        if (record !== acknowledged) {
          throw new AuditFailure(`record ${at} is ${show(record)}; ${show(acknowledged)} was acknowledged`);
        }
        continue;
      }
      const whole = unknown.find(([first]) => first === record);
      whole?.forEach((expected, i) => {
        if (found.get(at + i) !== expected)
          throw new AuditFailure(`of the records that were produced at ${at}, a part is there`);
        this.#records.set(at + i, expected);
      });
      if (!whole) throw new AuditFailure(`record ${at} is ${show(record)}, which nobody produced there`);
    }
    for (const producer of this.#producers) producer.unknown = undefined;
  }
}

/** A writer's keys as the node acknowledged them, and the wish that it has given no answer to. */
class Writer {
  readonly index: number;
  readonly values = new Map<string, string | undefined>();
  unknown: Wish | undefined;

  constructor(index: number) {
    this.index = index;
  }
}

interface Producer {
  unknown: readonly string[] | undefined;
}

function messageOf(wish: Wish): [string, unknown] {
  const operations = [...wish].map(([key, value]) =>
    value === undefined ? { delete: { key } } : { set: { key, value } },
  );
  const [first] = operations;
  if (operations.length === 1 && first) {
    return first.delete ? ["KVStore/Delete", first.delete] : ["KVStore/Set", first.set];
  }
  return ["KVStore/Write", { operations }];
}

function show(value: string | undefined): string {
  return value === undefined ? "nothing" : `${value.slice(0, 24)}… (${value.length} characters of base64)`;
}
