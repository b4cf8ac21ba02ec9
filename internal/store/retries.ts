/**
 * What the cluster remembers of writes, so that one that is sent again is not executed again: for each client the answers of its newest
 * writes, by the client's own numbers. It is replicated state: changed by committed records only, the same on every node, in every snapshot.
 *
 * What is forgotten of a client that goes on raises its floor, below which nothing is executed any more: a write that is remembered nowhere is new for certain.
 * Only a whole client is forgotten without a trace, by a record that says so.
 */
import { assert } from "../base/assert.js";
import { crc32, crc32Range } from "../base/crc32.js";
import { type EpochMs, epochMs, type Seq, seq as toSeq } from "../base/position.js";
import type { RetriesChange } from "./change.js";

/** Of one client; the answers with the lowest numbers go first. */
export const ANSWERS_A_CLIENT_MAX = 128;
/** Of one client, unless its last answer alone is larger. */
export const ANSWER_BYTES_A_CLIENT_MAX = 256 * 1024;
/** What a client and an answer take of the memory beside their bytes, about; measured, and rounded up. */
export const CLIENT_OVERHEAD_BYTES = 400;
export const ANSWER_OVERHEAD_BYTES = 96;

type Remember = Extract<RetriesChange, { kind: "remember" }>;

/** What is known of a write that somebody sends. */
export type Found =
  | { readonly kind: "remembered"; readonly answer: Uint8Array; readonly seq: Seq }
  /** Below `floor` nothing is remembered, nor executed. */
  | { readonly kind: "too-old"; readonly floor: number };

/** A client as snapshots carry it. */
export interface RememberedClient {
  readonly id: string;
  readonly floor: number;
  /** The last record that concerned it, and that record's time. */
  readonly lastSeq: Seq;
  readonly lastMs: EpochMs;
  /** By rising client seqs. */
  readonly answers: readonly { readonly clientSeq: number; readonly seq: Seq; readonly answer: Uint8Array }[];
}

/** A client, as one record has left it. */
export interface ClientVersion {
  readonly id: string;
  readonly lastSeq: Seq;
}

/** A client, to choose who is forgotten. */
export interface ClientUse extends ClientVersion {
  readonly lastMs: EpochMs;
  /** Of the table's. */
  readonly bytes: number;
  readonly answerCount: number;
}

interface Answer {
  readonly clientSeq: number;
  readonly seq: Seq;
  /** One character a byte: a string takes a tenth of what an array of a few bytes does. */
  readonly text: string;
  /** Its part of the checksum. */
  readonly sum: number;
}

interface Client extends ClientUse {
  readonly idSum: number;
  /** Rises with each client that comes. */
  readonly birth: number;
  floor: number;
  lastSeq: Seq;
  lastMs: EpochMs;
  /** By rising client seqs. */
  answers: Answer[];
  answerBytes: number;
  bytes: number;
  answerCount: number;
  /** In the order of their last records. */
  older: Client | undefined;
  newer: Client | undefined;
}

export class RetryTable {
  readonly #clients = new Map<string, Client>();
  #oldest: Client | undefined;
  #newest: Client | undefined;
  /** Whether the list is: a walk hands out clients in another order. */
  #isInOrder = true;
  #births = 0;
  #bytes = 0;
  #checksum = 0;

  /** What all of it takes, about. */
  get bytes(): number {
    return this.#bytes;
  }

  get clientCount(): number {
    return this.#clients.size;
  }

  /** The same for the same content, however it came about. Unsigned 32 bits. */
  get checksum(): number {
    return this.#checksum >>> 0;
  }

  /** What is known of a write; undefined: it is new. */
  find(clientId: string, clientSeq: number): Found | undefined {
    const client = this.#clients.get(clientId);
    if (!client) return undefined;
    const answer = client.answers[placeOf(client.answers, clientSeq)];
    if (answer?.clientSeq === clientSeq)
      return { kind: "remembered", answer: Buffer.from(answer.text, "latin1"), seq: answer.seq };
    return clientSeq < client.floor ? { kind: "too-old", floor: client.floor } : undefined;
  }

  /** What the table would grow by, were an answer remembered now. */
  growthBy({ clientId, clientSeq, answer }: Remember): number {
    const client = this.#clients.get(clientId);
    const size = ANSWER_OVERHEAD_BYTES + answer.length;
    if (!client) return CLIENT_OVERHEAD_BYTES + Buffer.byteLength(clientId) + size;
    if (clientSeq < client.floor) return 0;
    const { answers } = client;
    let growth = size;
    let answerBytes = client.answerBytes + answer.length;
    // It is mostly the highest itself; where it is not, it may go at once instead, and this is too much by a little.
    for (let i = 0; i < answers.length; i++) {
      const isWithin = answers.length + 1 - i <= ANSWERS_A_CLIENT_MAX && answerBytes <= ANSWER_BYTES_A_CLIENT_MAX;
      if (isWithin) break;
      growth -= ANSWER_OVERHEAD_BYTES + answers[i]!.text.length;
      answerBytes -= answers[i]!.text.length;
    }
    return growth;
  }

  /** Carries out a change of the record `seq`. A client that has it already, since a snapshot saw it so, stays as it is. */
  apply(change: RetriesChange, seq: Seq, timestampMs: EpochMs): void {
    if (change.kind === "remember") this.#remember(change, seq, timestampMs);
    else for (const id of change.clientIds) this.#forget(id, seq);
  }

  /** From the client that has written nothing for longest. Valid until the table changes. */
  *byLastUse(): Generator<ClientUse, undefined> {
    this.putInOrder();
    for (let client = this.#oldest; client; client = client.newer) yield client;
    return undefined;
  }

  /** The last record of a client; undefined: nothing is remembered of it. */
  lastSeqOf(clientId: string): Seq | undefined {
    return this.#clients.get(clientId)?.lastSeq;
  }

  /** Of the client that has written nothing for longest; undefined when there is none. */
  get oldestMs(): EpochMs | undefined {
    this.putInOrder();
    return this.#oldest?.lastMs;
  }

  /**
   * All clients that are there now, each as it is when it is handed out, while the table changes. With what came since the walk began applied over
   * it, that is the table again.
   */
  *walk(): Generator<RememberedClient, undefined> {
    const end = this.#births;
    // In the order in which they came; those that come meanwhile are at its end.
    for (const client of this.#clients.values()) {
      if (client.birth > end) break;
      yield shown(client);
    }
    return undefined;
  }

  /** Adds a client of a walk. */
  restore({ id, floor, lastSeq, lastMs, answers }: RememberedClient): void {
    assert(!this.#clients.has(id), "a walk hands out each client once");
    const client = this.#add(id);
    client.floor = floor;
    client.lastSeq = lastSeq;
    client.lastMs = lastMs;
    for (const { clientSeq, seq, answer } of answers) this.#insert(client, clientSeq, seq, answer);
    this.#count(client, 1);
    this.#isInOrder = false;
  }

  /** What takes a while after many were restored: done here, it is not done later, when somebody waits. */
  putInOrder(): void {
    if (this.#isInOrder) return;
    this.#isInOrder = true;
    this.#oldest = undefined;
    this.#newest = undefined;
    for (const client of [...this.#clients.values()].sort((a, b) => a.lastSeq - b.lastSeq)) this.#append(client);
  }

  clear(): void {
    this.#clients.clear();
    this.#isInOrder = true;
    this.#oldest = undefined;
    this.#newest = undefined;
    this.#bytes = 0;
    this.#checksum = 0;
  }

  #remember({ clientId, clientSeq, answer }: Remember, seq: Seq, timestampMs: EpochMs): void {
    const known = this.#clients.get(clientId);
    const client = known ?? this.#add(clientId);
    if (known) {
      // A snapshot saw the record already.
      if (client.lastSeq >= seq) return;
      this.#unlink(client);
      this.#append(client);
      this.#count(client, -1);
    }
    client.lastSeq = seq;
    client.lastMs = timestampMs;
    if (clientSeq >= client.floor) this.#insert(client, clientSeq, seq, answer);
    while (
      client.answers.length > 1 &&
      (client.answers.length > ANSWERS_A_CLIENT_MAX || client.answerBytes > ANSWER_BYTES_A_CLIENT_MAX)
    )
      this.#dropLowest(client);
    this.#count(client, 1);
  }

  #forget(id: string, seq: Seq): void {
    const client = this.#clients.get(id);
    if (!client || client.lastSeq >= seq) return;
    this.#count(client, -1);
    for (const { sum } of client.answers) this.#checksum = (this.#checksum - sum) | 0;
    this.#clients.delete(id);
    this.#unlink(client);
  }

  #add(id: string): Client {
    const idBytes = Buffer.from(id);
    const client: Client = {
      id,
      idSum: crc32(idBytes) | 0,
      birth: ++this.#births,
      floor: 0,
      lastSeq: toSeq(0),
      lastMs: epochMs(0),
      answers: [],
      answerBytes: 0,
      bytes: CLIENT_OVERHEAD_BYTES + idBytes.length,
      answerCount: 0,
      older: undefined,
      newer: undefined,
    };
    this.#clients.set(id, client);
    this.#append(client);
    return client;
  }

  #insert(client: Client, clientSeq: number, seq: Seq, answer: Uint8Array): void {
    const { answers, idSum } = client;
    const place = placeOf(answers, clientSeq);
    // The first answer is the answer.
    if (answers[place]?.clientSeq === clientSeq) return;
    const text = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength).toString("latin1");
    const sum = mix(mix(mix(idSum, clientSeq), seq), crc32Range(answer, 0, answer.length));
    const added = { clientSeq, seq, text, sum };
    if (place === answers.length) answers.push(added);
    else answers.splice(place, 0, added);
    client.answerBytes += text.length;
    client.bytes += ANSWER_OVERHEAD_BYTES + text.length;
    client.answerCount++;
    this.#checksum = (this.#checksum + sum) | 0;
  }

  #dropLowest(client: Client): void {
    const lowest = client.answers.shift();
    assert(lowest, "a client whose answers are too many has some");
    client.floor = lowest.clientSeq + 1;
    client.answerBytes -= lowest.text.length;
    client.bytes -= ANSWER_OVERHEAD_BYTES + lowest.text.length;
    client.answerCount--;
    this.#checksum = (this.#checksum - lowest.sum) | 0;
  }

  /** Counts the client in, or out. */
  #count({ bytes, idSum, floor, lastSeq, lastMs }: Client, sign: 1 | -1): void {
    this.#bytes += sign * bytes;
    this.#checksum = (this.#checksum + sign * mix(mix(mix(idSum, floor), lastSeq), lastMs)) | 0;
  }

  #append(client: Client): void {
    client.older = this.#newest;
    client.newer = undefined;
    if (this.#newest) this.#newest.newer = client;
    else this.#oldest = client;
    this.#newest = client;
  }

  #unlink(client: Client): void {
    if (client.older) client.older.newer = client.newer;
    else this.#oldest = client.newer;
    if (client.newer) client.newer.older = client.older;
    else this.#newest = client.older;
  }
}

/** The place of the first answer whose number is not lower: mostly behind the last one. */
function placeOf(answers: readonly Answer[], clientSeq: number): number {
  let low = 0;
  let high = answers.length;
  if (high > 0 && answers[high - 1]!.clientSeq < clientSeq) return high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (answers[middle]!.clientSeq < clientSeq) low = middle + 1;
    else high = middle;
  }
  return low;
}

function shown({ id, floor, lastSeq, lastMs, answers }: Client): RememberedClient {
  return {
    id,
    floor,
    lastSeq,
    lastMs,
    answers: answers.map(({ clientSeq, seq, text }) => ({ clientSeq, seq, answer: Buffer.from(text, "latin1") })),
  };
}

/** Two numbers into one of 32 bits, such that sums of many of these tell sets apart. */
function mix(before: number, value: number): number {
  let mixed = Math.imul(before ^ value, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ Math.floor(value / 2 ** 32), 0x85ebca77);
  return mixed ^ (mixed >>> 13);
}
