/**
 * What is true of a whole model, and what no node of it can know: which records are committed, who was master when. Held
 * against every node, it shows what would be lost.
 */
import { assert } from "../../base/assert.js";
import type { EpochId } from "../../base/ids.js";
import type { Won } from "../core/candidacy.js";
import { stalenessMs } from "../core/view.js";
import type { ModelDisk, ModelProcess } from "./model-node.js";

/** How often things have come about, so that a test can tell that it has tested them. */
export class ModelCounts {
  masterships = 0;
  /** Of them, those that were won although nobody can tell what is lost. */
  unclean = 0;
  commits = 0;
  reads = 0;
  crashes = 0;
  stale = 0;
  healed = 0;
}

export class ModelTruth {
  readonly counts: ModelCounts;
  /** The numbers of the committed records. */
  #committed: number[] = [];
  /** By which mastership each was; they rise. */
  #committedIn: number[] = [];
  /** How many were committed as of when. */
  #times: { readonly atMs: number; readonly count: number }[] = [{ atMs: 0, count: 0 }];
  readonly #masters = new Map<number, EpochId>();
  readonly #clusters = new Set<string | undefined>();
  readonly #reads = new Map<ModelProcess, Map<number, number>>();
  #isForked = false;
  /** The newest mastership that was forced; what older ones commit from then on is of a history that was given up. */
  #forcedEpoch = 0;
  /** Of that mastership: its first record. */
  #forcedRecord = 0;
  /** Two were forced apart from each other, or have one number: nothing tells which of them is right. */
  #isTorn = false;

  constructor(counts: ModelCounts) {
    this.counts = counts;
  }

  get isForked(): boolean {
    return this.#isForked;
  }

  /** An operator forces a mastership: there may be two histories from here on. */
  fork(): void {
    this.#isForked = true;
  }

  get committedSeq(): number {
    return this.#committed.length;
  }

  committed({ state, disk }: ModelProcess, nowMs: number): void {
    const { log } = disk;
    const { commitSeq, role } = state;
    const epoch =
      role.kind === "master" ? role.epoch : role.kind === "replica" ? (role.current?.master?.epoch ?? 0) : 0;
    if (this.#isTorn || epoch < this.#forcedEpoch) return;
    const before = this.#committed.length;
    const common = Math.min(before, commitSeq);
    assert(
      log.length >= common && log.numberAt(common) === (this.#committed[common - 1] ?? 0),
      `node ${disk.name} commits another record at seq ${common} than was committed before`,
    );
    assert(role.kind === "master" || commitSeq <= before, `replica ${disk.name} commits ${commitSeq} before a master`);
    if (commitSeq <= before) return;
    for (let seq = before + 1; seq <= commitSeq; seq++) {
      this.#committed.push(log.numberAt(seq));
      this.#committedIn.push(epoch);
    }
    this.#times.push({ atMs: nowMs, count: this.#committed.length });
    this.counts.commits++;
  }

  begun({ state, disk }: ModelProcess, { promise, forced }: Won): void {
    this.counts.masterships++;
    this.#clusters.add(state.clusterId);
    assert(this.#clusters.size === 1, "two clusters were founded");
    const other = this.#masters.get(promise.epoch);
    // Where voters were left out, there may be two majorities, and numbers that both give out.
    const isTwin = other !== undefined && this.#isForked;
    assert(isTwin || !other, `epoch ${promise.epoch} begins as ${promise.epochId}, and has begun as ${other}`);
    if (isTwin) this.#isTorn = true;
    this.#masters.set(promise.epoch, promise.epochId);
    if (forced) {
      const isApart = this.#forcedRecord > 0 && !disk.log.has(this.#forcedRecord);
      if (isApart) this.#isTorn = true;
      else if (promise.epoch > this.#forcedEpoch) {
        this.#forcedEpoch = promise.epoch;
        this.#forcedRecord = disk.log.numberAt(disk.log.length);
      }
    }
    if (this.#isTorn || promise.epoch < this.#forcedEpoch) return;
    const common = this.#commonWith(disk);
    // A mastership that was won long ago, and overtaken since, need not have what the newer ones have committed.
    if ((this.#committedIn[common] ?? Infinity) < promise.epoch) {
      assert(forced, `node ${disk.name} begins epoch ${promise.epoch} without the committed record ${common + 1}`);
      this.counts.unclean++;
      this.#committed.length = this.#committedIn.length = common;
      this.#times = [];
    }
    if (forced) this.#adopt(state.commitSeq, disk, promise.epoch);
  }

  /** What the node that was made master by force holds for committed is committed. */
  #adopt(commitSeq: number, { log }: ModelDisk, epoch: number): void {
    for (let seq = this.#committed.length + 1; seq <= commitSeq; seq++) {
      this.#committed.push(log.numberAt(seq));
      this.#committedIn.push(epoch);
    }
  }

  #commonWith({ log }: ModelDisk): number {
    let common = Math.min(log.length, this.#committed.length);
    while (common > 0 && log.numberAt(common) !== this.#committed[common - 1]) common--;
    return common;
  }

  /** Where there is one vote, no two nodes have it. */
  onlyOneHolds(disks: readonly ModelDisk[]): void {
    if (this.#isForked) return;
    const holders = disks.filter(({ promised, nodeId }) => promised.candidate === nodeId);
    assert(holders.length <= 1, `${holders.map(({ name }) => name).join(" and ")} both have the one vote`);
  }

  asked(process: ModelProcess, read: number): void {
    const reads = this.#reads.get(process) ?? new Map<number, number>();
    this.#reads.set(process, reads.set(read, this.#committed.length));
  }

  confirmed(process: ModelProcess, upTo: number, seq: number): void {
    const reads = this.#reads.get(process) ?? new Map<number, number>();
    for (const [read, least] of reads) {
      if (read > upTo) continue;
      reads.delete(read);
      this.counts.reads++;
      assert(
        this.#isForked || seq >= Math.min(least, this.#committed.length),
        `read ${read} of ${process.disk.name} sees ${seq}, when ${least} were committed`,
      );
    }
  }

  /** What the node says of the age of its state. */
  shownAge({ state, disk }: ModelProcess, nowMs: number): void {
    const ageMs = stalenessMs(state, nowMs);
    if (ageMs === undefined || this.#isForked) return;
    assert(ageMs >= 0, "nothing is newer than now");
    const atMs = nowMs - ageMs;
    const then = this.#times.findLast((time) => time.atMs < atMs)?.count ?? 0;
    this.counts.stale++;
    assert(
      disk.log.applied >= Math.min(then, this.#committed.length),
      `node ${disk.name} shows seq ${disk.log.applied} as ${ageMs} ms old, when ${then} were committed`,
    );
  }
}
