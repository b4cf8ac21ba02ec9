import fc from "fast-check";
import { expect, test } from "vitest";
import { must } from "../base/assert.js";
import { type Seq, seq as toSeq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import { ReplicationError } from "./replication-error.js";
import type { ReplicatorOptions } from "./replicator.js";
import type { CommitMode } from "./store-port.js";
import { Cluster, type TestNode } from "./testing/cluster.js";

const FIRST = "m:1";
const OTHERS = ["r:1", "r:2"];
const EVERYBODY = [FIRST, ...OTHERS];

/** Something that happens to the cluster; `n` chooses what exactly. */
type Mishap =
  | { readonly kind: "write" | "deliver" | "pass" | "tear" | "outrun" | "usurp" | "transfer"; readonly n: number }
  | { readonly kind: (typeof LOCAL)[number]; readonly at: string; readonly n: number };

const LOCAL = [
  "written",
  "kept",
  "crash",
  "silence",
  "sever",
  "forget",
  "drop",
  "compact",
  "spoil",
  "promote",
  "read",
  "stall",
  "losePower",
  "rot",
  "wipe",
  "add",
  "remove",
  "force",
] as const;

/** A cluster as it is set up, and what may happen to it. */
interface Kind {
  readonly name: string;
  readonly isListed: boolean;
  readonly commit: CommitMode;
  /** Operators force masterships: what was acknowledged may be lost, and only the end is judged. */
  readonly isForced: boolean;
  /** What one node kept may be lost. */
  readonly losesPower: boolean;
}

function anyMishap({ isForced, losesPower }: Kind): fc.Arbitrary<Mishap> {
  const at = fc.constantFrom(...EVERYBODY);
  const local = (weight: number, ...kinds: (typeof LOCAL)[number][]): fc.WeightedArbitrary<Mishap> => ({
    weight,
    arbitrary: fc.record({ kind: fc.constantFrom(...kinds), at, n: fc.nat(5) }),
  });
  const general = (
    weight: number,
    most: number,
    ...kinds: ("write" | "deliver" | "pass" | "tear" | "outrun" | "usurp" | "transfer")[]
  ): fc.WeightedArbitrary<Mishap> => ({
    weight,
    arbitrary: fc.record({ kind: fc.constantFrom(...kinds), n: fc.nat(most) }),
  });
  return fc.oneof(
    general(6, 5, "write"),
    general(10, 1000, "deliver"),
    general(4, 3000, "pass"),
    general(2, 5, "tear", "outrun"),
    general(2, 5, "transfer", "usurp"),
    local(10, "written", "kept"),
    local(4, "crash", "silence", "sever", "forget", "drop", "compact", "spoil", "stall"),
    local(3, "promote", "read"),
    local(1, "rot", "add", "remove"),
    ...(isForced ? [local(1, "force")] : []),
    ...(losesPower ? [local(1, "losePower", "wipe")] : []),
  );
}

/** A cluster that is watched: what any node has ever applied is what all apply, for ever. */
class Watched {
  readonly cluster = new Cluster();
  readonly #kind: Kind;
  /** Of each record ever applied by anybody. */
  readonly #applied = new Map<Seq, number>();
  readonly #acknowledged = new Map<Seq, string>();
  #newestAcknowledged = toSeq(0);
  readonly #asked: Promise<void>[] = [];
  #writes = 0;
  /** Where a disk was lost: its vote went with it. */
  readonly #wiped = new Set<string>();
  readonly seen = { acknowledged: 0, reads: 0, promotions: 0, transfers: 0 };

  constructor(kind: Kind) {
    this.#kind = kind;
  }

  async start(): Promise<void> {
    const { isListed, commit } = this.#kind;
    const options: Partial<ReplicatorOptions> = { batchBytes: 300, windowBytes: 900 };
    const listed = { ...options, nodes: EVERYBODY, commit };
    const alone = { ...options, masterAddress: FIRST };
    for (const address of OTHERS) this.cluster.launch("replica", address, isListed ? listed : alone);
    await this.cluster.start("master", FIRST, isListed ? listed : { ...options, listedReplicas: OTHERS.slice(0, 1) });
    await this.cluster.pass(1000);
    for (const address of EVERYBODY) this.cluster.node(address).store.pace = "told";
    this.check();
  }

  async suffer(mishap: Mishap): Promise<void> {
    const { cluster } = this;
    switch (mishap.kind) {
      case "write":
        this.#write(mishap.n);
        break;
      case "deliver":
        for (let i = 0; i <= mishap.n % 10; i++) {
          cluster.network.deliver((count) => (mishap.n * 31 + i * 17) % count);
          await turn();
        }
        break;
      case "tear": {
        // Records that were pushed, and that the master forgets: its next epoch gives their seqs to others.
        this.#write(mishap.n);
        const [master] = this.#masters();
        if (!master) break;
        master.store.tellWritten();
        await cluster.settle();
        await cluster.relaunch(master.address, { surviving: mishap.n >> 1, pace: "told" });
        break;
      }
      case "outrun": {
        // A replica is away for so long that the master's log no longer has what it lacks.
        const [master] = this.#masters();
        const address = must(EVERYBODY.filter((other) => other !== master?.address)[mishap.n % 2], "one of both");
        const again = await cluster.stop(address, mishap.n);
        this.#write(mishap.n);
        await this.#work(2);
        master?.store.compact(0);
        again("told");
        break;
      }
      case "usurp": {
        // A master is cut off, and another node takes its place without its knowing.
        const [master] = this.#masters();
        if (!master) break;
        const { address, store } = master;
        cluster.network.silent.add(address);
        this.#write(mishap.n);
        store.tellWritten();
        store.tellKept();
        const other = must(EVERYBODY.filter((another) => another !== address)[mishap.n % 2], "one of both");
        this.#ask(() => cluster.node(other).replicator.promote({ force: this.#kind.isForced && mishap.n > 3 }));
        await this.#work(40);
        if (mishap.n > 1) cluster.network.silent.clear();
        break;
      }
      case "transfer":
        for (const { replicator } of this.#masters()) {
          this.#ask(async () => {
            await replicator.transfer({}, never());
            this.seen.transfers++;
          });
        }
        if (mishap.n > 1) await this.#work(20);
        break;
      case "pass":
        cluster.clock.advance(mishap.n);
        break;
      default:
        await this.#sufferAt(mishap.kind, cluster.node(mishap.at), mishap.n);
    }
    await turn();
    await this.cluster.renew();
    this.check();
  }

  async #sufferAt(kind: (typeof LOCAL)[number], { address, store, replicator }: TestNode, n: number): Promise<void> {
    const { cluster } = this;
    switch (kind) {
      case "written":
        return store.tellWritten();
      case "kept":
        store.tellWritten();
        return store.tellKept();
      case "drop":
        return store.drop();
      case "sever":
        return cluster.network.sever(address);
      case "silence":
        if (n < 3) cluster.network.silent.add(address);
        else cluster.network.silent.clear();
        return;
      case "forget":
        store.forgottenSeq = toSeq(Math.max(0, store.writtenSeq - n));
        return;
      case "compact":
        return store.compact(n >> 1);
      case "spoil": {
        const { incoming } = store.disk;
        if (incoming && incoming.bytes.length > 0) incoming.bytes = Buffer.from(incoming.bytes).fill(0, 0, 1);
        return;
      }
      case "stall":
        store.refusals = n;
        return;
      case "crash":
        return void (await cluster.relaunch(address, { surviving: n, pace: "told" }));
      case "losePower":
        return void (this.#areWell(address) && (await cluster.relaunch(address, { surviving: -n, pace: "told" })));
      case "wipe":
        if (!this.#areAllVotersBut(address)) return;
        await cluster.wipe(address, "told");
        this.#wiped.add(address);
        seen.wipes++;
        return;
      case "add":
      case "remove":
        for (const { replicator: master } of this.#masters()) {
          this.#ask(() => (kind === "add" ? master.addReplica(address) : master.removeReplica({ address })));
          if (n > 2) await this.#work(10);
        }
        return;
      case "rot":
        if (this.#areWell(address) && !store.isMaster) store.disk.rotten = true;
        return;
      case "read": {
        const seq = this.#newestAcknowledged;
        return this.#ask(async () => {
          const seen = await replicator.linearizableSeq(never());
          this.seen.reads++;
          if (!this.#kind.isForced) expect(seen, `a read at ${address}`).toBeGreaterThanOrEqual(seq);
        });
      }
      case "promote":
      case "force":
        return this.#ask(async () => {
          await replicator.promote({ force: kind === "force" });
          this.seen.promotions++;
        });
    }
  }

  /** Everybody is well again, and an operator sees to it that there is a master. */
  async heal(): Promise<TestNode> {
    const { cluster } = this;
    cluster.network.silent.clear();
    for (const address of EVERYBODY) {
      const { store } = cluster.node(address);
      store.refusals = 0;
      store.pace = "prompt";
      store.tellWritten();
      store.tellKept();
    }
    for (let tries = 0; tries < 8; tries++) {
      await cluster.pass(16_000, 400);
      const [master, second] = EVERYBODY.map((address) => cluster.node(address)).filter(
        ({ replicator, store }) => replicator.survey({ nodeId: store.nodeId }).isMaster,
      );
      if (master && !second) {
        // Whose state is wrong has had the time to find out. A master does not, nor who found out within the hour.
        for (const address of EVERYBODY) cluster.node(address).store.disk.rotten = false;
        // A mastership that was asked for before may begin only now.
        if (!(await this.#readmit(master))) continue;
        await cluster.pass(10_000, 400);
        this.check();
        await this.#settleAsked();
        return master;
      }
      const force = this.#kind.isForced && tries > 1;
      // By force anybody wins, and were all asked, each would depose the one before.
      for (const address of force ? [must(EVERYBODY[tries % EVERYBODY.length], "one of them")] : EVERYBODY) {
        this.#ask(() => cluster.node(address).replicator.promote({ force }));
        await cluster.pass(8000, 400);
      }
    }
    throw new Error(
      `there is no master: ${EVERYBODY.map((address) => cluster.node(address).replicator.notServing()).join("; ")}`,
    );
  }

  check(): void {
    for (const address of EVERYBODY) {
      const { store, replicator } = this.cluster.node(address);
      expect(store.appliedSeq).toBeLessThanOrEqual(store.keptSeq);
      expect(replicator.matchSeq).toBeLessThanOrEqual(store.keptSeq);
      for (const member of replicator.members()) {
        if (member.state !== "streaming") continue;
        const { keptSeq } = this.cluster.node(member.address).store;
        expect(member.matchSeq, `what ${member.address} acknowledged`).toBeLessThanOrEqual(keptSeq);
      }
      if (this.#kind.isForced) continue;
      for (let seq = 1; seq <= store.appliedSeq; seq++) {
        const { chain } = must(store.records[seq - 1], "what is applied is in the log");
        expect(this.#applied.get(toSeq(seq)) ?? chain, `record ${seq} as ${address} applied it`).toBe(chain);
        this.#applied.set(toSeq(seq), chain);
      }
      expect(store.commits, `commits of ${address}`).toEqual([...store.commits].sort((a, b) => a - b));
    }
  }

  /** Whatever was acknowledged is in the log. */
  checkAcknowledged({ store }: TestNode): void {
    if (this.#kind.isForced) return;
    for (const [seq, text] of this.#acknowledged) {
      expect(store.records[seq - 1]?.text, `what was acknowledged at ${seq}`).toBe(text);
    }
  }

  /** All others have what they had: what fewer than a majority remembers is lost for good. */
  #areWell(address: string): boolean {
    return [...this.cluster.nodes.values()].every(
      ({ address: other, store }) =>
        other === address ||
        (!store.mustCatchUp && !store.disk.rotten && (!this.#wiped.has(other) || this.#isAdmitted(other))),
    );
  }

  /** All others know the node that is there now, with its vote where it is to have one. */
  #isAdmitted(address: string): boolean {
    const { nodeId } = this.cluster.node(address).store;
    return EVERYBODY.every(
      (other) =>
        other === address ||
        this.cluster
          .node(other)
          .store.members.some(
            (member) => member.nodeId === nodeId && !member.removed && (member.voter || !this.#kind.isListed),
          ),
    );
  }

  /** All others know that the three nodes that there are have the votes: then one of them can be lost. */
  #areAllVotersBut(address: string): boolean {
    const ids = EVERYBODY.map((other) => this.cluster.node(other).store.nodeId).toSorted();
    return (
      this.#areWell(address) &&
      EVERYBODY.every((other) => {
        const { members } = this.cluster.node(other).store;
        const voters = members.filter(({ voter, removed }) => voter && !removed).map(({ nodeId }) => nodeId);
        return other === address || voters.toSorted().join() === ids.join();
      })
    );
  }

  /** An operator brings back whoever was wiped, removed, or left out; whether the master was there for it. */
  async #readmit({ address: own, replicator, store }: TestNode): Promise<boolean> {
    for (const address of EVERYBODY) {
      const { nodeId } = this.cluster.node(address).store;
      const member = store.members.find((other) => other.nodeId === nodeId && !other.removed);
      if (address === own || (member && (member.voter || !this.#kind.isListed))) continue;
      try {
        await this.cluster.outcome(replicator.addReplica(address));
      } catch (error) {
        if (error instanceof ReplicationError && error.code === "not_master") return false;
        throw error;
      }
      await this.cluster.pass(4000, 400);
    }
    return true;
  }

  /** All disks that are to be reached work, and time passes. */
  async #work(turns: number): Promise<void> {
    const { cluster } = this;
    for (let i = 0; i < turns; i++) {
      for (const { address, store } of cluster.nodes.values()) {
        if (cluster.network.silent.has(address)) continue;
        store.tellWritten();
        store.tellKept();
      }
      cluster.clock.advance(100);
      await cluster.settle();
    }
  }

  #masters(): TestNode[] {
    return [...this.cluster.nodes.values()].filter(({ store }) => store.isMaster);
  }

  #write(n: number): void {
    for (const { store } of this.#masters()) {
      for (let i = 0; i <= n; i++) {
        const text = `write ${this.#writes++}`;
        store.propose(text).then(
          ({ seq }) => {
            this.seen.acknowledged++;
            this.#acknowledged.set(seq, text);
            this.#newestAcknowledged = toSeq(Math.max(this.#newestAcknowledged, seq));
          },
          () => undefined,
        );
      }
    }
  }

  /** Somebody asks a node for something; that it cannot is an answer. */
  #ask(ask: () => Promise<unknown>): void {
    const asked = ask().then(
      () => undefined,
      (error: unknown) => {
        if (!(error instanceof ReplicationError) && !(error instanceof StoreError)) throw error;
      },
    );
    asked.catch(() => undefined);
    this.#asked.push(asked);
  }

  async #settleAsked(): Promise<void> {
    await Promise.all(this.#asked);
  }
}

const never = (): AbortSignal => new AbortController().signal;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const RUNS = Number(process.env["CAMBIUM_MODEL_RUNS"] ?? 30);

/** Over all kinds of clusters. */
const seen = {
  cuts: 0,
  records: 0,
  installs: 0,
  acknowledged: 0,
  reads: 0,
  promotions: 0,
  transfers: 0,
  setAside: 0,
  wipes: 0,
};

test.each<Kind>([
  { name: "one vote", isListed: false, commit: "master", isForced: false, losesPower: false },
  { name: "one vote that is forced", isListed: false, commit: "master", isForced: true, losesPower: false },
  { name: "three votes and a majority", isListed: true, commit: "majority", isForced: false, losesPower: true },
  { name: "three votes and one copy", isListed: true, commit: "master", isForced: true, losesPower: true },
  { name: "three votes that are forced", isListed: true, commit: "majority", isForced: true, losesPower: true },
])(
  "whatever happens with $name, what was acknowledged stays, and once it is over all logs are the same",
  async (kind) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyMishap(kind), { minLength: 10, maxLength: 80 }), async (mishaps) => {
        const watched = new Watched(kind);
        const { cluster } = watched;
        try {
          await watched.start();
          for (const mishap of mishaps) await watched.suffer(mishap);
          const master = await watched.heal();
          watched.checkAcknowledged(master);
          expect(master.store.appliedSeq).toBe(master.store.last.seq);
          for (const address of EVERYBODY) {
            const { store, replicator } = cluster.node(address);
            expect(store.records).toEqual(master.store.records);
            expect(store.appliedSeq).toBe(master.store.appliedSeq);
            expect(replicator.matchSeq).toBe(master.store.last.seq);
            expect(replicator.stalenessMs()).toBeLessThanOrEqual(2000);
            expect(store.mustCatchUp).toBe(false);
            seen.cuts += store.disk.diverged.length;
            seen.setAside += store.disk.setAside.length;
          }
          if (kind.isListed) expect(master.store.members.filter(({ voter }) => voter)).toHaveLength(3);
          const states = master.replicator.members().map(({ state }) => state);
          expect(states.sort()).toEqual(["self", "streaming", "streaming"]);
          seen.installs += cluster.renewals;
          seen.records += master.store.records.length;
          for (const what of ["acknowledged", "reads", "promotions", "transfers"] as const)
            seen[what] += watched.seen[what];
        } finally {
          await cluster.close();
        }
      }),
      { numRuns: RUNS },
    );
  },
  600_000,
);

test("what happened was bad enough to show something", () => {
  for (const [what, count] of Object.entries(seen)) expect(count, what).toBeGreaterThan(0);
});
