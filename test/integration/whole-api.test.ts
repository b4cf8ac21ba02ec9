/**
 * The whole key-value API over real processes: writes of all kinds by chance at a cluster of three, with a master that is killed
 * under them and replicas that are promoted, held against a plain map; replicas read and watched all the time.
 */
import { setMaxListeners } from "node:events";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import {
  type CambiumClient,
  type CambiumError,
  createClient,
  type UpdateEvent,
  type Watch,
} from "../../api/client/node.js";
import { type Call, KvOracle } from "../harness/kv-oracle.js";
import { type Answer, isWithin, type Request, requests, send, textRange, withTokens } from "../harness/kv-requests.js";
import type { TestNode } from "../harness/node.js";
import { until } from "../harness/until.js";
import { Voters } from "../harness/voters.js";

const HOUR_MS = 3_600_000;
const COUNTER = "counter";
/** For one call, while masters come and go. */
const TIMEOUT_MS = 60_000;
const TOGETHER = 40;

const bursts = fc.array(fc.array(requests({ ttlsMs: [HOUR_MS], seqMax: 60 }), { minLength: 1, maxLength: 4 }), {
  minLength: 8,
  maxLength: 8,
});

const increment: Request = { kind: "one", operation: { kind: "increment", key: COUNTER } };

test("writes under kills and promotions are done once, replicas show them, and watches get exactly the log", async () => {
  const seed = Number(process.env["CAMBIUM_SEED"] ?? Date.now() % 2 ** 31);
  // With it a failure can be looked at again, as far as processes are the same twice.
  console.log(`seed ${seed}`);
  const voters = await Voters.start();
  onTestFinished(() => voters.close());
  const trial = new Trial(voters);
  onTestFinished(() => trial.close());
  const [first, second] = voters.nodes as [TestNode, TestNode, TestNode];
  const parts = fc.sample(bursts, { numRuns: 3, seed });
  trial.watchEverywhere();

  await trial.write(parts[0]!);
  await trial.expectReplicas();
  const answer = await trial.writeOnce(increment);

  // Killed in the midst of writes, and back: they wait, are sent again, and are done once.
  await trial.increments(async () => {
    await first.kill();
    await first.start();
  });
  await trial.expectRepeat(increment, answer);
  await trial.write(parts[1]!);
  await trial.expectReplicas();

  // Killed for good, and another one in its place.
  await trial.increments(async () => {
    await first.kill();
    await trial.promoteOneOf(voters.running);
  });
  await trial.expectRepeat(increment, answer);
  await first.start();
  await trial.write(parts[2]!);
  await trial.expectReplicas();
  await trial.expectWatches();
  expect(second.running).toBe(true);
});

interface Follower {
  readonly node: TestNode;
  readonly filter: { readonly prefix?: string; readonly key?: string };
  readonly events: UpdateEvent[];
  readonly watch: Watch;
  upTo: number;
  error?: unknown;
}

class Trial {
  readonly #voters: Voters;
  readonly #oracle = new KvOracle({ exactTimes: false });
  readonly #client: CambiumClient;
  readonly #ofNode: ReadonlyMap<TestNode, CambiumClient>;
  readonly #followers: Follower[] = [];
  readonly #tokens: Uint8Array[] = [];
  readonly #stopped = new AbortController();
  #master: TestNode;

  constructor(voters: Voters) {
    this.#voters = voters;
    // Every watch listens to it.
    setMaxListeners(0, this.#stopped.signal);
    this.#master = voters.nodes[0]!;
    this.#client = this.#newClient("this process");
    this.#ofNode = new Map(
      voters.nodes.map((node) => [node, createClient({ endpoints: [node.address], timeoutMs: TIMEOUT_MS })]),
    );
  }

  close(): void {
    this.#stopped.abort();
    this.#client.close();
    for (const client of this.#ofNode.values()) client.close();
  }

  /** Of all keys, of a prefix and of one key, at every node, from the beginning of the log. */
  watchEverywhere(): void {
    for (const [node, client] of this.#ofNode) {
      for (const filter of [{}, { prefix: "a" }, { key: "b" }, { key: COUNTER }]) {
        const watch = client.watch({ ...filter, after: 0, wantPrevious: true, signal: this.#stopped.signal });
        const follower: Follower = { node, filter, events: [], watch, upTo: 0 };
        this.#followers.push(follower);
        void this.#follow(follower);
      }
    }
  }

  async write(bursts: readonly (readonly Request[])[]): Promise<void> {
    for (const burst of bursts) {
      const calls = burst.map((request) => this.#call(withTokens(request, this.#tokens)));
      await this.#explain(await Promise.all(calls));
    }
  }

  /** Increments that are under way while something happens; each is done once. */
  async increments(meanwhile: () => Promise<void>): Promise<void> {
    const answered: Call[] = [];
    // A range that is removed takes it along.
    const from = BigInt(this.#oracle.state.get(COUNTER)?.value ?? 0);
    let isOver = false;
    const one = async (): Promise<void> => {
      for (let left = 1; left > 0 || !isOver; left--) answered.push(await this.#call(increment));
    };
    const all = Promise.all(Array.from({ length: TOGETHER }, one));
    await until("the increments are under way", () => answered.length >= TOGETHER);
    await meanwhile();
    isOver = true;
    await all;
    expect(answered.filter(({ error }) => error)).toEqual([]);
    await this.#explain(answered);
    const sums = answered.map(({ answer }) => answer!.results[0]!["sum"] as bigint).toSorted((a, b) => Number(a - b));
    expect(sums).toEqual(sums.map((_, i) => from + BigInt(i + 1)));
    expect(await this.#client.getText(COUNTER)).toBe(String(from + BigInt(sums.length)));
  }

  /** A write by a process that is gone after it; it was the first under its name. */
  async writeOnce(request: Request): Promise<Answer> {
    const answer = await this.#sendFirst(request);
    await this.#explain([{ request, answer }]);
    return answer;
  }

  /** What another process of that name sends again is answered as it was then, and not done again. */
  async expectRepeat(request: Request, first: Answer): Promise<void> {
    expect(await this.#sendFirst(request)).toEqual({ ...first, repeated: true });
    await this.#explain([]);
  }

  async #sendFirst(request: Request): Promise<Answer> {
    const client = this.#newClient("another process");
    try {
      return await send(client, request, { clientSeq: 1 });
    } finally {
      client.close();
    }
  }

  async promoteOneOf(nodes: readonly TestNode[]): Promise<void> {
    for (const node of nodes) {
      const { code } = await this.#voters.cambium("promote", node.address);
      if (code !== 0) continue;
      this.#master = node;
      return;
    }
    throw new Error("neither of them could be promoted");
  }

  /** Reads with the newest token, at every node. */
  async expectReplicas(): Promise<void> {
    const visible = this.#oracle.visible(Date.now());
    const atLeast = this.#tokens.at(-1)!;
    for (const client of this.#ofNode.values()) {
      for (const range of [{}, { prefix: "a" }, { start: "ab", end: "c" }]) {
        const within = visible.filter(({ key }) => isWithin(key, textRange(range)));
        for (const reverse of [false, true]) {
          const found = [];
          for await (const entry of client.scan({ ...range, reverse, atLeast, pageSize: 3 })) found.push(entry);
          if (reverse) found.reverse();
          expect(
            found.map(({ key, value, createSeq, modSeq, ttlMs }) => {
              return { key, value: Buffer.from(value).toString(), createSeq, modSeq, hasTtl: ttlMs !== undefined };
            }),
          ).toEqual(
            within.map(({ key, value, createSeq, modSeq, expiresAtMs }) => {
              return { key, value, createSeq, modSeq, hasTtl: expiresAtMs !== undefined };
            }),
          );
        }
        expect(await client.count({ ...range, atLeast })).toBe(within.length);
      }
    }
  }

  async expectWatches(): Promise<void> {
    for (const follower of this.#followers) {
      const { filter, events, node } = follower;
      const expected = this.#oracle.watched(filter, 0);
      const name = `${JSON.stringify(filter)} at ${node.address}`;
      const last = expected.at(-1)?.seq ?? 0;
      await until(`the watch of ${name} comes to ${last}`, () => follower.upTo >= last || follower.error !== undefined);
      expect(follower.error, name).toBeUndefined();
      this.#oracle.expectWatched(events, expected, { wantPrevious: true });
    }
  }

  async #follow(follower: Follower): Promise<void> {
    try {
      for await (const { events, position } of follower.watch.batches()) {
        follower.events.push(...events);
        follower.upTo = position.seq;
      }
    } catch (error) {
      if (!this.#stopped.signal.aborted) follower.error = error;
    }
  }

  async #call(request: Request): Promise<Call> {
    try {
      const answer = await send(this.#client, request);
      this.#tokens.push(answer.token);
      return { request, answer };
    } catch (error) {
      return { request, error: error as CambiumError };
    }
  }

  async #explain(calls: readonly Call[]): Promise<void> {
    const events: UpdateEvent[] = [];
    let upTo = this.#oracle.seq;
    const client = this.#ofNode.get(this.#master)!;
    for await (const page of client.updates({ after: upTo, follow: false, wantPrevious: true })) {
      events.push(...page.events);
      upTo = page.next;
    }
    this.#oracle.explain(calls, events, upTo, Date.now());
  }

  #newClient(clientId: string): CambiumClient {
    const { addresses } = this.#voters;
    return createClient({ endpoints: addresses, timeoutMs: TIMEOUT_MS, retries: { clientId, nextSeq: 1 } });
  }
}
