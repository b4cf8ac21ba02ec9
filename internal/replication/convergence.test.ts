import fc from "fast-check";
import { expect, test } from "vitest";
import { must } from "../base/assert.js";
import { type Seq, seq as toSeq } from "../base/position.js";
import { Cluster } from "./testing/cluster.js";

const MASTER = "m:1";
const REPLICAS = ["r:1", "r:2"];
const EVERYBODY = [MASTER, ...REPLICAS];

/** Something that happens to the cluster; `n` chooses what exactly. */
type Mishap =
  | { readonly kind: "write" | "deliver" | "pass" | "tear" | "outrun"; readonly n: number }
  | {
      readonly kind: "written" | "kept" | "crash" | "silence" | "sever" | "forget" | "drop" | "compact" | "rot";
      readonly at: string;
      readonly n: number;
    };

const anyMishap: fc.Arbitrary<Mishap> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), n: fc.nat(5) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("deliver" as const), n: fc.nat(1000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("pass" as const), n: fc.nat(3000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("tear" as const, "outrun" as const), n: fc.nat(5) }) },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constantFrom("written" as const, "kept" as const),
      at: fc.constantFrom(...EVERYBODY),
      n: fc.nat(5),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        "crash" as const,
        "silence" as const,
        "sever" as const,
        "forget" as const,
        "drop" as const,
        "compact" as const,
        "rot" as const,
      ),
      at: fc.constantFrom(...EVERYBODY),
      n: fc.nat(5),
    }),
  },
);

/** A cluster that is watched: what any node has ever applied is what all apply, for ever. */
class Watched {
  readonly cluster = new Cluster();
  /** Of each record ever applied by anybody. */
  readonly #applied = new Map<Seq, number>();
  #writes = 0;

  async start(): Promise<void> {
    for (const address of REPLICAS) await this.cluster.start("replica", address, { masterAddress: MASTER });
    await this.cluster.start("master", MASTER, {
      listedReplicas: REPLICAS.slice(0, 1),
      batchBytes: 300,
      windowBytes: 900,
    });
    await this.cluster.pass(1000);
    for (const address of EVERYBODY) this.cluster.node(address).store.pace = "told";
    this.check();
  }

  async suffer(mishap: Mishap): Promise<void> {
    const { cluster } = this;
    switch (mishap.kind) {
      case "write": {
        const { store } = cluster.node(MASTER);
        if (store.isMaster) for (let i = 0; i <= mishap.n; i++) store.write(`write ${this.#writes++}`);
        break;
      }
      case "deliver":
        for (let i = 0; i <= mishap.n % 10; i++) {
          cluster.network.deliver((count) => (mishap.n * 31 + i * 17) % count);
          await turn();
        }
        break;
      case "tear": {
        // Records that were pushed, and that the master forgets: its next epoch gives their seqs to others.
        const { store } = cluster.node(MASTER);
        for (let i = 0; i <= mishap.n && store.isMaster; i++) store.write(`write ${this.#writes++}`);
        store.tellWritten();
        await cluster.settle();
        await cluster.relaunch(MASTER, { surviving: mishap.n >> 1, pace: "told" });
        break;
      }
      case "outrun": {
        // A replica is away for so long that the master's log no longer has what it lacks.
        const address = must(REPLICAS[mishap.n % 2], "one of both");
        const disk = await cluster.crash(address, mishap.n);
        const { store } = cluster.node(MASTER);
        for (let i = 0; i <= mishap.n && store.isMaster; i++) store.write(`write ${this.#writes++}`);
        store.tellWritten();
        store.tellKept();
        await turn();
        store.compact(0);
        cluster.launch("replica", address, { masterAddress: MASTER, disk }).store.pace = "told";
        break;
      }
      case "pass":
        cluster.clock.advance(mishap.n);
        break;
      case "written":
        cluster.node(mishap.at).store.tellWritten();
        break;
      case "kept":
        cluster.node(mishap.at).store.tellWritten();
        cluster.node(mishap.at).store.tellKept();
        break;
      case "drop":
        cluster.node(mishap.at).store.drop();
        break;
      case "sever":
        cluster.network.sever(mishap.at);
        break;
      case "silence":
        if (mishap.n < 3) cluster.network.silent.add(mishap.at);
        else cluster.network.silent.clear();
        break;
      case "forget": {
        const { store } = cluster.node(mishap.at);
        store.forgottenSeq = toSeq(Math.max(0, store.writtenSeq - mishap.n));
        break;
      }
      case "compact":
        cluster.node(mishap.at).store.compact(mishap.n >> 1);
        break;
      case "rot": {
        const { incoming } = cluster.node(mishap.at).store.disk;
        if (incoming && incoming.bytes.length > 0) incoming.bytes = Buffer.from(incoming.bytes).fill(0, 0, 1);
        break;
      }
      case "crash":
        await cluster.relaunch(mishap.at, { surviving: mishap.n, pace: "told" });
        break;
    }
    await turn();
    await this.cluster.renew();
    this.check();
  }

  async heal(): Promise<void> {
    const { cluster } = this;
    cluster.network.silent.clear();
    for (const address of EVERYBODY) {
      const { store } = cluster.node(address);
      store.pace = "prompt";
      store.tellWritten();
      store.tellKept();
    }
    await cluster.pass(16_000, 400);
    this.check();
  }

  check(): void {
    for (const address of EVERYBODY) {
      const { store, replicator } = this.cluster.node(address);
      for (let seq = 1; seq <= store.appliedSeq; seq++) {
        const { chain } = must(store.records[seq - 1], "what is applied is in the log");
        expect(this.#applied.get(toSeq(seq)) ?? chain, `record ${seq} as ${address} applied it`).toBe(chain);
        this.#applied.set(toSeq(seq), chain);
      }
      expect(store.appliedSeq).toBeLessThanOrEqual(store.keptSeq);
      expect(replicator.matchSeq).toBeLessThanOrEqual(store.keptSeq);
      expect(store.commits, `commits of ${address}`).toEqual([...store.commits].sort((a, b) => a - b));
    }
    for (const { address, state, matchSeq } of this.cluster.node(MASTER).replicator.members()) {
      if (state !== "streaming") continue;
      expect(matchSeq, `what ${address} acknowledged`).toBeLessThanOrEqual(this.cluster.node(address).store.keptSeq);
    }
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("whatever happens, what was applied stays applied, and once it is over all logs are the master's", async () => {
  const seen = { cuts: 0, records: 0, installs: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(anyMishap, { minLength: 10, maxLength: 80 }), async (mishaps) => {
      const watched = new Watched();
      const { cluster } = watched;
      try {
        await watched.start();
        for (const mishap of mishaps) await watched.suffer(mishap);
        await watched.heal();
        const master = cluster.node(MASTER);
        expect(master.store.appliedSeq).toBe(master.store.last.seq);
        for (const address of REPLICAS) {
          const { store, replicator } = cluster.node(address);
          expect(store.records).toEqual(master.store.records);
          expect(store.appliedSeq).toBe(master.store.appliedSeq);
          expect(replicator.matchSeq).toBe(master.store.last.seq);
          expect(replicator.stalenessMs()).toBeLessThanOrEqual(2000);
          seen.cuts += store.disk.diverged.length;
        }
        seen.installs += cluster.renewals;
        seen.records += master.store.records.length;
        expect(
          master.replicator
            .members()
            .map(({ state }) => state)
            .sort(),
        ).toEqual(["self", "streaming", "streaming"]);
      } finally {
        await cluster.close();
      }
    }),
    { numRuns: 100 },
  );
  // Else the mishaps were too mild to show anything.
  expect(seen.cuts).toBeGreaterThan(10);
  expect(seen.installs).toBeGreaterThan(10);
}, 60_000);
