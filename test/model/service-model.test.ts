/**
 * The whole API in memory, by chance, against a plain oracle on the same clock: the real store, replication, handlers and client,
 * and every message encoded and decoded as on a socket, without one. Writes of all kinds, made together and one by one, and sent
 * again; reads of all kinds; watches that begin anywhere; time that passes; snapshots, after which the log is gone; restarts and
 * crashes.
 */
import { setMaxListeners } from "node:events";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type CambiumClient,
  type CambiumError,
  createClient,
  type UpdateEvent,
  type Watch,
} from "../../api/client/node.js";
import { FakeClock } from "../../internal/base/clock.js";
import { type Call, KvOracle, type OracleEvent } from "../harness/kv-oracle.js";
import {
  type Answer,
  isWithin,
  KEYS,
  ranges,
  type Request,
  requests,
  send,
  textRange,
  withTokens,
} from "../harness/kv-requests.js";
import { Service } from "../harness/service.js";

const RUNS = Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 40);
/** Against hanging only. */
const TIMEOUT_MS = Math.max(120_000, RUNS * 1000);

const RETENTION_MS = 60 * 60 * 1000;
const PROGRESS_MS = 5000;
/** Answers of a client. */
const REMEMBERED = 128;
const FLOOD: Request = { kind: "one", operation: { kind: "set", key: "c", value: "0" } };

const filters = fc.oneof(
  fc.constantFrom(...KEYS).map((key) => ({ key })),
  ranges,
);
const place = fc.oneof(fc.constant("now" as const), fc.record({ of: fc.constantFrom("seq", "token"), at: fc.nat(30) }));

const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      requests: fc.array(requests({ ttlsMs: [10, 40, 10_000], seqMax: 25 }), { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("again" as const),
      which: fc.nat(40),
      isAnother: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("flood" as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      range: ranges,
      reverse: fc.boolean(),
      keysOnly: fc.boolean(),
      pageSize: fc.integer({ min: 1, max: 4 }),
      limit: fc.option(fc.nat(5), { nil: undefined }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("watch" as const),
      filter: fc.oneof(fc.constant({}), filters),
      place,
      flags: fc.constantFrom({}, { wantPrevious: true }, { keysOnly: true }),
      isShared: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(1, 9, 10, 40, PROGRESS_MS) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.constant(2 * RETENTION_MS) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restart" as const), isCrash: fc.boolean() }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
type Of<K extends Step["kind"]> = Extract<Step, { readonly kind: K }>;

test(
  "whatever is asked of the API, its answers, its log and its watches are those of a plain map",
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), (steps) => new Trial().run(steps)),
      { numRuns: RUNS },
    );
  },
  TIMEOUT_MS,
);

interface Follower {
  readonly step: Of<"watch">;
  readonly watch: Watch;
  readonly events: UpdateEvent[];
  /** Where it began, once it has. */
  from?: number;
  /** How far it has come. */
  upTo: number;
  error?: CambiumError;
  readonly ended: Promise<void>;
}

class Trial {
  readonly #clock = new FakeClock();
  readonly #service = new Service(this.#clock);
  readonly #oracle = new KvOracle();
  readonly #stopped = new AbortController();
  readonly #clients = [false, true].map((sharedWatches) =>
    createClient({
      endpoints: ["memory:1"],
      transport: this.#service.transport,
      retries: { clientId: "model", nextSeq: 1 },
      retryDelayMs: 1,
      sharedWatches,
    }),
  );
  readonly #client: CambiumClient = this.#clients[0]!;
  readonly #tokens: { readonly token: Uint8Array; readonly seq: number }[] = [];
  /** What was written, by its number. */
  readonly #written = new Map<number, { readonly request: Request; readonly answer: Answer }>();
  /** Those of them that are remembered. */
  readonly #remembered = new Set<number>();
  /** Below it nothing is executed. */
  #floor = 0;
  readonly #followers: Follower[] = [];
  #nextClientSeq = 1;
  #others = 0;
  #readUpTo = 0;

  async run(steps: readonly Step[]): Promise<void> {
    // Every watch listens to it.
    setMaxListeners(0, this.#stopped.signal);
    await this.#settled(this.#service.start());
    try {
      await this.#explain([]);
      for (const each of steps) await this.#do(each);
      // Whatever has a deadline goes, and whoever watches is told how far the log is.
      await this.#pass(20_000);
      expect(this.#oracle.visible(this.#nowMs).filter(({ expiresAtMs }) => expiresAtMs !== undefined)).toEqual([]);
      expect([...this.#oracle.state.values()].filter(({ expiresAtMs }) => expiresAtMs !== undefined)).toEqual([]);
      for (const follower of this.#followers) await this.#judgeFollower(follower);
    } finally {
      this.#stopped.abort();
      await this.#settled(Promise.all(this.#followers.map(({ ended }) => ended)));
      for (const client of this.#clients) client.close();
      await this.#settled(this.#service.stop());
    }
  }

  get #nowMs(): number {
    return this.#clock.wallMs();
  }

  async #do(each: Step): Promise<void> {
    switch (each.kind) {
      case "write":
        return this.#write(each.requests);
      case "again":
        return this.#again(each);
      case "flood":
        return this.#write(Array.from({ length: REMEMBERED }, () => FLOOD));
      case "read":
        return this.#read(each);
      case "watch":
        return this.#watch(each);
      case "pass":
        return this.#pass(each.ms);
      case "snapshot":
        await this.#settled(this.#service.store.createSnapshot());
        this.#oracle.mayBeCompacted = true;
        return undefined;
      case "restart":
        await this.#settled(each.isCrash ? this.#service.crash() : this.#service.stop());
        await this.#settled(this.#service.start());
        return this.#explain([]);
    }
  }

  async #write(given: readonly Request[]): Promise<void> {
    const calls = given.map(async (each): Promise<Call> => {
      const request = withTokens(
        each,
        this.#tokens.map(({ token }) => token),
      );
      const clientSeq = this.#nextClientSeq++;
      try {
        const answer = await send(this.#client, request, { clientSeq });
        this.#tokens.push({ token: answer.token, seq: answer.seq });
        this.#written.set(clientSeq, { request, answer });
        return { request, answer };
      } catch (error) {
        return { request, error: error as CambiumError };
      }
    });
    const made = await this.#settled(Promise.all(calls));
    await this.#explain(made);
    this.#expectInOrder(made);
    for (const [clientSeq, { answer }] of this.#written) {
      if (clientSeq >= this.#nextClientSeq - given.length && this.#oracle.isMaker(answer)) this.#remember(clientSeq);
    }
  }

  /** Writes of one key each that were made at once went together, and into the log in their order. */
  #expectInOrder(calls: readonly Call[]): void {
    const seqs = calls.flatMap(({ request, answer }) => {
      if (!answer || request.kind !== "one" || !this.#oracle.isMaker(answer)) return [];
      return "wantPrevious" in request.operation ? [] : [answer.seq];
    });
    expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
  }

  #remember(clientSeq: number): void {
    this.#remembered.add(clientSeq);
    if (this.#remembered.size <= REMEMBERED) return;
    const lowest = Math.min(...this.#remembered);
    this.#remembered.delete(lowest);
    this.#floor = lowest + 1;
  }

  async #again({ which, isAnother }: Of<"again">): Promise<void> {
    const numbers = [...this.#written.keys()];
    if (numbers.length === 0) return;
    const clientSeq = numbers[which % numbers.length]!;
    const { request, answer } = this.#written.get(clientSeq)!;
    const sent: Request = isAnother
      ? { kind: "one", operation: { kind: "set", key: "a", value: `another ${this.#others++}` } }
      : request;
    let repeat: Answer | undefined;
    let error: CambiumError | undefined;
    try {
      repeat = await this.#settled(send(this.#client, sent, { clientSeq }));
    } catch (reason) {
      error = reason as CambiumError;
    }
    if (clientSeq < this.#floor) {
      expect(error).toMatchObject({ code: "retry_too_old", oldestClientSeq: this.#floor });
      await this.#explain([]);
    } else if (this.#remembered.has(clientSeq)) {
      if (isAnother) expect(error).toMatchObject({ code: "invalid_argument" });
      else expect(untimed(repeat)).toEqual(untimed({ ...answer, repeated: true }));
      await this.#explain([]);
    } else {
      // It is judged anew.
      await this.#explain([{ request: sent, ...(repeat && { answer: repeat }), ...(error && { error }) }]);
      if (!repeat) return;
      this.#written.set(clientSeq, { request: sent, answer: repeat });
      if (this.#oracle.isMaker(repeat)) this.#remember(clientSeq);
    }
  }

  async #read({ range, reverse, keysOnly, pageSize, limit }: Of<"read">): Promise<void> {
    const visible = this.#oracle.visible(this.#nowMs);
    const shown = visible.map(({ key, value, createSeq, modSeq, expiresAtMs }) => {
      const ttlMs = expiresAtMs === undefined ? undefined : expiresAtMs - this.#nowMs;
      return { key, value, createSeq, modSeq, ttlMs };
    });
    const within = shown.filter(({ key }) => isWithin(key, textRange(range)));
    if (reverse) within.reverse();
    const client = this.#client;
    const text = (value: Uint8Array): string => Buffer.from(value).toString();
    const found = await this.#settled(
      (async () => {
        const entries = [];
        for await (const entry of client.scan({ ...range, reverse, keysOnly, pageSize, limit })) entries.push(entry);
        return entries;
      })(),
    );
    const wanted = within.slice(0, limit ?? Infinity);
    expect(
      found.map(({ key, value, createSeq, modSeq, ttlMs }) => ({ key, value: text(value), createSeq, modSeq, ttlMs })),
    ).toEqual(wanted.map((entry) => (keysOnly ? { ...entry, value: "" } : entry)));
    expect(found.map(({ valueBytes }) => valueBytes)).toEqual(wanted.map(({ value }) => Buffer.byteLength(value)));
    expect(await this.#settled(client.count(range))).toBe(within.length);
    const all = await this.#settled(client.batchGet([...KEYS]));
    expect(
      [...all].map(([key, { value, createSeq, modSeq, ttlMs }]) => ({
        key,
        value: text(value),
        createSeq,
        modSeq,
        ttlMs,
      })),
    ).toEqual(KEYS.flatMap((key) => shown.filter((entry) => entry.key === key)));
    const keys = KEYS.slice(0, pageSize);
    const entries = await this.#settled(Promise.all(keys.map((key) => client.get(key))));
    for (const [index, key] of keys.entries()) {
      const entry = entries[index];
      const expected = shown.find((each) => each.key === key);
      const got = entry && { ...entry, key, value: text(entry.value) };
      if (expected) expect(got).toMatchObject(JSON.parse(JSON.stringify(expected)) as object);
      else expect(got).toBeUndefined();
    }
  }

  async #watch(asked: Of<"watch">): Promise<void> {
    const { filter, place: from, flags, isShared } = asked;
    const token = this.#tokens[(from === "now" ? 0 : from.at) % Math.max(1, this.#tokens.length)];
    const after =
      from === "now" ? undefined : from.of === "token" && token ? token.token : Math.min(from.at, this.#readUpTo);
    const start = from === "now" ? undefined : from.of === "token" && token ? token.seq : (after as number);
    const client = this.#clients[isShared ? 1 : 0]!;
    const watch = client.watch({
      ...filter,
      ...flags,
      signal: this.#stopped.signal,
      ...(after !== undefined && { after }),
    });
    const follower: Follower = { step: asked, watch, events: [], upTo: 0, ended: Promise.resolve() };
    const { compactSeq } = this.#service.store;
    const hasBegun = new Promise<void>((resolve) => {
      const follow = async (): Promise<void> => {
        try {
          for await (const { events, position } of watch.batches()) {
            follower.from ??= start ?? position.seq;
            follower.upTo = position.seq;
            follower.events.push(...events);
            resolve();
          }
        } catch (error) {
          follower.error = error as CambiumError;
        }
        resolve();
      };
      Object.assign(follower, { ended: follow() });
    });
    await this.#settled(hasBegun);
    if (start !== undefined && start < compactSeq) {
      expect(follower.error, `from ${start}, compact ${compactSeq}`).toMatchObject({ code: "out_of_range" });
      return;
    }
    expect(follower.error).toBeUndefined();
    if (start === undefined) expect(follower.from).toBe(this.#service.store.appliedSeq);
    this.#followers.push(follower);
  }

  async #judgeFollower(follower: Follower): Promise<void> {
    const { step: asked, events } = follower;
    for (let turns = 0; follower.upTo < this.#readUpTo && !follower.error; turns++) {
      if (turns > 20) throw new Error(`a watch stands at ${follower.upTo}, the log at ${this.#readUpTo}`);
      await this.#pass(PROGRESS_MS);
    }
    if (follower.error) {
      // What it was to go on with was gone when it came back after a restart.
      expect(follower.error).toMatchObject({ code: "out_of_range" });
      expect(this.#service.store.compactSeq).toBeGreaterThan(follower.upTo);
    }
    const expected: readonly OracleEvent[] = this.#oracle.watched(asked.filter, follower.from!, follower.upTo);
    this.#oracle.expectWatched(events, expected, asked.flags);
  }

  async #pass(ms: number): Promise<void> {
    this.#clock.advance(ms);
    await this.#quiet();
    if (ms >= RETENTION_MS) {
      this.#remembered.clear();
      this.#floor = 0;
    }
    await this.#explain([]);
  }

  /** Reads what the log has got since, and lets the oracle explain it. */
  async #explain(calls: readonly Call[]): Promise<void> {
    const { events, upTo } = await this.#settled(this.#updates());
    this.#oracle.explain(calls, events, upTo, this.#nowMs);
    this.#readUpTo = upTo;
  }

  async #updates(): Promise<{ events: UpdateEvent[]; upTo: number }> {
    const events: UpdateEvent[] = [];
    let upTo = this.#readUpTo;
    for await (const page of this.#client.updates({ after: upTo, follow: false, limit: 3, wantPrevious: true })) {
      events.push(...page.events);
      upTo = page.next;
    }
    return { events, upTo };
  }

  /** Lets everything happen that can without time passing, until the promise is settled. */
  async #settled<T>(promise: Promise<T>): Promise<T> {
    let isSettled = false;
    const settle = (): void => void (isSettled = true);
    promise.then(settle, settle);
    while (!isSettled) await this.#turn();
    return promise;
  }

  async #quiet(): Promise<void> {
    for (let i = 0; i < 20; i++) await this.#turn();
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#clock.advance(0);
  }
}

/** An answer without what depends on when it is given. */
function untimed(answer: Answer | undefined): unknown {
  return JSON.parse(
    JSON.stringify(answer, (name, value: unknown) =>
      name === "ttlMs" ? undefined : typeof value === "bigint" ? `${value}n` : value,
    ),
  ) as unknown;
}
