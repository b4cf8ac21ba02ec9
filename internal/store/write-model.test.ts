/**
 * Writes of all kinds by chance, many in flight at once, committed late, some lost to a full disk, while time goes on: what the
 * log holds, what callers were told, and what a replay of the log leaves have to be what a plain map says.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { decodeRecords } from "../wal/record.js";
import type {
  Compare,
  Condition,
  KeyCommand,
  Store,
  StoreError,
  TxnOperation,
  TxnReceipt,
  WriteCommand,
  WriteReceipt,
} from "./store.js";
import { beginMastership, bytes, openStore, seq } from "./testing/stores.js";
import { changesOf, judge, type OracleState, plain, type Wish } from "./testing/write-oracle.js";

const RUNS = Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 150);
/** Against hanging only. */
const TIMEOUT_MS = Math.max(60_000, RUNS * 200);

const key = fc.constantFrom("a", "ab", "b", "ba", "c").map(bytes);
const value = fc.constantFrom("", "0", "7", "-3", "007", "x", "9223372036854775807").map(bytes);
const ttlMs = fc.constantFrom(0, 0, 10, 40);
/** A token is the number of one that was seen before; it is put in when the write is made. */
const condition: fc.Arbitrary<Condition> = fc.oneof(
  fc.constant({ ifAbsent: true } as const),
  fc.record({ ifSeq: fc.nat(25).map(seq) }),
  fc.record({ ifToken: fc.nat(20).map((n) => Uint8Array.of(n)) }),
);
const maybe = <T extends object>(part: fc.Arbitrary<T>): fc.Arbitrary<T | object> =>
  fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, part);
const merged = (...parts: fc.Arbitrary<object>[]): fc.Arbitrary<object> =>
  fc.tuple(...parts).map((all) => Object.assign({}, ...all) as object);
const conditional = maybe(fc.record({ condition }));
const previous = maybe(fc.constant({ wantPrevious: true } as const));

const keyCommand = fc.oneof(
  {
    weight: 3,
    arbitrary: merged(
      fc.record({ kind: fc.constant("set"), key, value }),
      fc.oneof(fc.record({ ttlMs }), fc.constant({ keepTtl: true })),
      conditional,
      previous,
    ),
  },
  { weight: 2, arbitrary: merged(fc.record({ kind: fc.constant("delete"), key }), conditional, previous) },
  merged(fc.record({ kind: fc.constant("touch"), key, ttlMs }), conditional),
  fc.record({
    kind: fc.constant("increment"),
    key,
    delta: fc.bigInt(-2n, 2n),
    initial: fc.bigInt(-1n, 10n),
    min: fc.constantFrom(-(2n ** 63n), 0n),
    max: fc.constantFrom(2n ** 63n - 1n, 8n),
    ttlMs,
  }),
) as fc.Arbitrary<KeyCommand>;

const compare = fc.record({
  key,
  comparison: fc.constantFrom("equal", "not-equal", "less", "greater"),
  target: fc.oneof(
    fc.record({ kind: fc.constantFrom("mod-seq", "create-seq"), seq: fc.nat(25).map(seq) }),
    fc.record({ kind: fc.constant("value"), value }),
  ),
}) as fc.Arbitrary<Compare>;
const existence: fc.Arbitrary<Compare> = fc.record({
  key,
  comparison: fc.constantFrom("equal", "not-equal"),
  target: fc.record({ kind: fc.constant("exists"), exists: fc.boolean() }),
});
const txnOperation: fc.Arbitrary<TxnOperation> = fc.oneof(
  { weight: 2, arbitrary: keyCommand },
  fc.record({ kind: fc.constant("get"), key }),
);

const wish: fc.Arbitrary<Wish> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ commands: fc.array(keyCommand, { minLength: 1, maxLength: 4 }) }),
  },
  fc
    .tuple(fc.constantFrom("", "a", "ab", "b"), fc.constantFrom(undefined, "", "ab", "b", "c"))
    .map(([start, end]) => (end === undefined ? { start: bytes(start) } : { start: bytes(start), end: bytes(end) }))
    .map((range): Wish => ({ commands: [{ kind: "delete-range", range }] })),
  {
    weight: 3,
    arbitrary: fc.record({
      txn: fc.record({
        compares: fc.array(fc.oneof(compare, existence), { maxLength: 2 }),
        then: fc.array(txnOperation, { maxLength: 4 }),
        else: fc.array(txnOperation, { maxLength: 3 }),
      }),
    }),
  },
);

interface Step {
  readonly advanceMs: number;
  /** Made on one tick. */
  readonly wishes: readonly Wish[];
  readonly isDiskFull: boolean;
  /** Whether the log is written before the next step, or what comes with it joins these. */
  readonly isWritten: boolean;
  /** How much of what could be is committed then. */
  readonly commits: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  advanceMs: fc.constantFrom(0, 0, 1, 9, 10, 31),
  wishes: fc.array(wish, { maxLength: 5 }),
  isDiskFull: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
  isWritten: fc.boolean(),
  commits: fc.constantFrom(0, 0, 0.4, 1),
});

interface Call {
  readonly wish: Wish;
  readonly appliedBefore: number;
  /** When it was made, and when it may have been judged anew. */
  readonly times: number[];
  receipt?: WriteReceipt & Partial<TxnReceipt>;
  error?: StoreError;
  appliedAfter?: number;
}

test(
  "every answer is one that some committed state explains, and the log leaves what the answers say",
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), (steps) => new Trial().run(steps)),
      { numRuns: RUNS },
    );
  },
  TIMEOUT_MS,
);

class Trial {
  readonly #clock = new FakeClock(1_000_000);
  readonly #fileSystem = new MemoryFileSystem();
  readonly #calls: Call[] = [];
  readonly #seqs = new Map<string, number>();
  readonly #tokens: Uint8Array[] = [];
  /** Of the disk, that are still to come. */
  #failuresLeft = 0;
  #lastSeqMax = 0;
  #store!: Store;

  async run(steps: readonly Step[]): Promise<void> {
    this.#store = await openStore({ fileSystem: this.#fileSystem, clock: this.#clock });
    const store = this.#store;
    await beginMastership(store, { commits: false });
    store.listen({
      dropped: () => {
        this.#failuresLeft--;
        for (const call of this.#calls) if (call.appliedAfter === undefined) call.times.push(store.masterTimeMs());
      },
    });
    for (const { advanceMs, wishes, isDiskFull, isWritten, commits } of steps) {
      this.#clock.advance(advanceMs);
      if (isDiskFull && this.#failuresLeft === 0) {
        this.#fileSystem.failNext("write", "ENOSPC", { path: /^wal/ });
        this.#failuresLeft++;
      }
      for (const each of wishes) this.#call(each);
      if (isWritten) await turn();
      store.commit(seq(store.appliedSeq + Math.floor((store.keptSeq - store.appliedSeq) * commits)));
      if (isWritten) await turn();
    }
    do {
      if (this.#failuresLeft > 0) this.#call({ commands: [{ kind: "set", key: bytes("c"), value: bytes("x") }] });
      await turn();
      store.commit(store.keptSeq);
      await turn();
    } while (store.appliedSeq < store.last.seq || this.#calls.some(({ appliedAfter }) => appliedAfter === undefined));
    const states = await this.#explain();
    const end = states.at(-1)!;
    const check = store.stateCheck();
    await store.close();
    // Records alone, from the first on, over an empty engine.
    const engine = new MapEngine();
    const again = await openStore({ fileSystem: this.#fileSystem, clock: this.#clock, engine });
    expect(again.stateCheck()).toEqual(check);
    const held = [...entriesOf(engine)];
    expect(held).toEqual([...end].sort(([a], [b]) => (a < b ? -1 : 1)));
    await again.close();
  }

  #call(given: Wish): void {
    const store = this.#store;
    const made = this.#withTokens(given);
    const call: Call = { wish: made, appliedBefore: store.appliedSeq, times: [store.masterTimeMs()] };
    this.#calls.push(call);
    const answered: Promise<WriteReceipt & Partial<TxnReceipt>> =
      "txn" in made ? store.transact(made.txn) : store.write(made.commands);
    this.#lastSeqMax = Math.max(this.#lastSeqMax, store.last.seq);
    answered.then(
      (receipt) => {
        call.receipt = receipt;
        call.appliedAfter = store.appliedSeq;
        this.#tokens.push(receipt.token);
        this.#seqs.set(plainToken(receipt.token), receipt.position.seq);
      },
      (error: unknown) => {
        call.error = error as StoreError;
        call.appliedAfter = store.appliedSeq;
      },
    );
  }

  /** Holds the whole log against the answers; gives the states after each of its records. */
  async #explain(): Promise<readonly OracleState[]> {
    const records: Buffer[] = [];
    for (let after = 0; after < this.#store.last.seq; after += [...decodeRecords(records.at(-1)!)].length) {
      records.push(Buffer.from(await this.#store.readRecords(seq(after), 1 << 24)));
    }
    const states: OracleState[] = [new Map()];
    const unexplained = new Set(this.#calls);
    for (const { seq: at, payload, timestampMs } of decodeRecords(Buffer.concat(records))) {
      const before = states.at(-1)!;
      const changes = changesOf(payload);
      if (changes[0]!["kind"] === "epoch") {
        states.push(before);
        continue;
      }
      if (changes[0]!["kind"] === "expire") {
        states.push(withoutExpired(before, changes, timestampMs));
        continue;
      }
      const writer = [...unexplained].find((call) => {
        if (call.receipt?.position.seq !== at) return false;
        const judged = this.#judge(call.wish, before, timestampMs, at);
        return judged.changes.length > 0 && agrees(judged.changes, changes) && this.#isAnswer(call, judged);
      });
      expect(writer, `record ${at}: ${JSON.stringify(changes)}`).toBeDefined();
      unexplained.delete(writer!);
      states.push(this.#judge(writer!.wish, before, timestampMs, at).state);
    }
    for (const call of unexplained) this.#explainUnwritten(call, states);
    return states;
  }

  /** A call that made no record: some state that was committed when it was answered has to say the same. */
  #explainUnwritten(call: Call, states: readonly OracleState[]): void {
    const { error, receipt, times, wish: made, appliedBefore, appliedAfter } = call;
    if (error?.code === "disk_full") return;
    const [from, to] = receipt ? [receipt.position.seq, receipt.position.seq] : [appliedBefore, appliedAfter!];
    expect(from).toBeGreaterThanOrEqual(appliedBefore);
    expect(to).toBeLessThanOrEqual(appliedAfter!);
    // The record that it would have been, had it not been refused at a key that it writes itself.
    const ownSeqs = Array.from({ length: this.#lastSeqMax + 1 - appliedBefore }, (_, i) => appliedBefore + 1 + i);
    const isExplained = states.slice(from, to + 1).some((state) =>
      times.some((nowMs) =>
        ownSeqs.some((ownSeq) => {
          const judged = this.#judge(made, state, nowMs, ownSeq);
          return judged.changes.length === 0 && this.#isAnswer(call, judged);
        }),
      ),
    );
    if (isExplained) return;
    const seen = JSON.stringify(plain({ made, error, receipt, from, to, times }), jsonOf);
    const tried = states.slice(from, to + 1).map((state) => JSON.stringify(Object.fromEntries(state)));
    throw new Error(`${seen} is explained by none of ${tried.join(" ")}`);
  }

  #judge(made: Wish, before: OracleState, nowMs: number, ownSeq: number): ReturnType<typeof judge> {
    return judge(made, { before, nowMs, ownSeq, seqOfToken: (token) => this.#seqs.get(plainToken(token))! });
  }

  #isAnswer({ receipt, error }: Call, judged: ReturnType<typeof judge>): boolean {
    if (error) return agrees(refusalOf(error), judged.refusal);
    const { results, failedCompares, succeeded } = receipt!;
    if (succeeded !== undefined && succeeded !== (failedCompares!.length === 0)) return false;
    return agrees({ results, failedCompares }, { results: judged.results, failedCompares: judged.failedCompares });
  }

  #withTokens(given: Wish): Wish {
    const put = <T extends WriteCommand | TxnOperation>(command: T): T => {
      if (!("condition" in command) || !command.condition?.ifToken) return command;
      const token = this.#tokens[command.condition.ifToken[0]! % Math.max(1, this.#tokens.length)];
      return { ...command, condition: token ? { ifToken: token } : { ifAbsent: true } };
    };
    if ("commands" in given) return { commands: given.commands.map(put) };
    const { compares, then, else: otherwise } = given.txn;
    return { txn: { compares, then: then.map(put), else: otherwise.map(put) } };
  }
}

function withoutExpired(before: OracleState, changes: ReturnType<typeof changesOf>, timestampMs: number): OracleState {
  const state = new Map(before);
  for (const change of changes) {
    const name = change["key"] as string;
    const entry = state.get(name);
    expect(change["kind"]).toBe("expire");
    expect(entry?.modSeq).toBe(change["modSeq"]);
    expect(entry!.expiresAtMs).toBeLessThanOrEqual(timestampMs);
    state.delete(name);
  }
  return state;
}

function refusalOf({ code, failedCondition, counter }: StoreError): unknown {
  return plain({ code, ...failedCondition, ...counter });
}

/** Equal, what is undefined left aside. */
function agrees(one: unknown, other: unknown): boolean {
  return JSON.stringify(sorted(plain(one)), jsonOf) === JSON.stringify(sorted(plain(other)), jsonOf);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner)]),
  );
}

const jsonOf = (_: string, inner: unknown): unknown => (typeof inner === "bigint" ? `${inner}n` : inner);

function plainToken(token: Uint8Array): string {
  return Buffer.from(token).toString("hex");
}

function* entriesOf(engine: MapEngine): Generator<[string, unknown]> {
  const scan = engine.scan({ start: new Uint8Array() }, 0 as never);
  for (let found = scan.next(); !found.done; found = scan.next()) {
    const { key: name, value: held, createSeq, modSeq, expiresAtMs } = found.value;
    yield [plain(name) as string, { value: plain(held), createSeq, modSeq, expiresAtMs }];
  }
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
