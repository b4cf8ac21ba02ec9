/**
 * Looks into the nodes after every event, and holds what is found against the rules that must always hold. What a node
 * keeps is remembered here by node id beyond the life of its process, as far as a disk must remember it.
 */
import { must } from "../../internal/base/assert.js";
import type { NodeId } from "../../internal/base/ids.js";
import { type Position, seq as toSeq } from "../../internal/base/position.js";
import type { CoreState } from "../../internal/replication/core/state.js";
import type { Ack } from "../../internal/replication/core/message.js";
import type { PromiseReply, PromiseRequest } from "../../internal/replication/peer.js";
import { forkOf, isPartOf, isWithin, Ledger, type LedgerRecord, show, votersOf } from "./ledger.js";
import type { KeyOperation } from "./client.js";
import type { Counts } from "./counts.js";
import type { Rooms, SimNode } from "./sim-node.js";
import { REGISTERS } from "./wishes.js";
import type { World } from "./world.js";

/** What is known of one node id: of one data directory, from its birth to its wiping. */
export interface View {
  readonly nodeId: NodeId;
  readonly node: SimNode;
  /** The log as far as it is written, by seq; the root is at 0. */
  log: LedgerRecord[];
  keptSeq: number;
  appliedSeq: number;
  /** How far what its log has now was applied once, before something was cut. */
  appliedOnceSeq: number;
  commitSeq: number;
  /** Why less than was kept may be found when the node starts next; undefined: it must all be there. */
  mayLose: string | undefined;
  /** A bit on its disk has changed, which may come to light at any later start. */
  isRotten: boolean;
  /** What it kept once, and may have told a master, before it lost it. */
  lost: LedgerRecord | undefined;
  /** The committed record that was cut off last, until it is seen what the master of that epoch has in its place. */
  cutOff: { readonly record: LedgerRecord; readonly epoch: number } | undefined;
  /** By epoch: to whom it was promised, as others were told. */
  readonly granted: Map<number, string>;
  highestGranted: number;
  /** Its data is gone for good. */
  wiped: boolean;
}

/** When something was first known to be committed. */
interface CommittedAt {
  readonly atMs: number;
  readonly record: LedgerRecord;
}

const TIMERS_MAX = 200;
/** The longest record that a client of the simulation makes, with what stands around it. */
export const RECORD_BYTES_MAX = 2048;
const WAITING_MESSAGES_MAX = 64;

export class Watch {
  readonly ledger = new Ledger();
  readonly views = new Map<NodeId, View>();
  readonly #byNode = new Map<SimNode, View>();
  /** The core's state of each node id, as its last step left it. */
  readonly cores = new Map<string, CoreState>();
  readonly #world: World;
  readonly #counts: Counts;
  /** Acks that were sent in the present event. */
  #acks: { readonly view: View; readonly core: CoreState; readonly ack: Ack }[] = [];
  readonly #commits: CommittedAt[] = [];
  /** Epochs whose first record has been judged. */
  readonly #judged = new Set<LedgerRecord>();
  /** Epochs that were allowed to lose something. */
  readonly lossy = new Set<LedgerRecord>();
  /** When the first of them began. */
  firstLossyMs = Infinity;
  /** What happened to keys that nobody asked for then: those that went to make room, writes that were made again. */
  readonly unasked: KeyOperation[] = [];
  /** The records of each write that may be sent again, on all branches. */
  readonly #remembered = new Map<string, readonly LedgerRecord[]>();
  /** By epoch: the master that is known to have it. */
  readonly #masters = new Map<
    number,
    { readonly nodeId: string; readonly epochId: string; readonly forced: boolean }
  >();

  constructor(world: World, counts: Counts) {
    this.#world = world;
    this.#counts = counts;
  }

  /** A write is made once; again only where its client was forgotten meanwhile, which is as if somebody wrote the same later. */
  #noteRemembered(record: LedgerRecord): void {
    const { remembers } = record;
    if (record.forgets.length > 0) this.#counts.note("clients forgotten", record.forgets.length);
    if (remembers === undefined) return;
    const earlier = this.#remembered.get(remembers) ?? [];
    this.#remembered.set(remembers, [...earlier, record]);
    for (const other of earlier) {
      if (!isPartOf(other, record)) continue;
      const [clientId] = remembers.split(" ");
      let isForgotten = false;
      for (let at = record; at !== other && !isForgotten; at = must(at.prev, "a record after another has one before"))
        isForgotten = at.forgets.includes(must(clientId, "a name begins with the client's id"));
      if (!isForgotten) {
        this.#violate("a write is made once", `${show(record)} makes ${remembers}, which ${show(other)} has made`);
        return;
      }
      this.#counts.note("writes made again after their client was forgotten");
      // Its caller may have been told of either.
      for (const { type, key, value, rangeEnd: end } of [...other.events, ...record.events]) {
        if (type === "expire" || type === "evict") continue;
        const leaves = type === "put" ? (value ?? null) : null;
        const keys = type === "delete-range" ? REGISTERS.filter((each) => isWithin(each, { start: key, end })) : [key];
        for (const each of keys)
          this.unasked.push({ client: -1, key: each, what: "again", invokedMs: 0, returnedMs: Infinity, leaves });
      }
    }
  }

  #noteRemovals({ events }: LedgerRecord): void {
    for (const { type, key, value } of events) {
      if (type === "expire") this.#counts.note("keys expired");
      if (type === "delete-range") this.#counts.note("ranges removed");
      if (type !== "evict" || value === undefined) continue;
      this.#counts.note("keys evicted");
      const when = { invokedMs: this.#world.nowMs, returnedMs: Infinity };
      this.unasked.push({ client: -1, key, what: "evict", ...when, found: value, leaves: null });
    }
  }

  viewOf(node: SimNode): View | undefined {
    return this.#byNode.get(node);
  }

  /** The core of a running node. */
  coreOf(node: SimNode): CoreState | undefined {
    const view = this.#byNode.get(node);
    return view && node.rooms ? this.cores.get(view.nodeId) : undefined;
  }

  // ---- the life of a node ----------------------------------------------------------------------------------------------

  /** The store has opened what is on the disk. */
  opened(node: SimNode, { store }: Rooms): void {
    const { nodeId } = store;
    let view = this.views.get(nodeId);
    if (!view) {
      view = {
        nodeId,
        node,
        log: [this.ledger.root],
        keptSeq: 0,
        appliedSeq: 0,
        appliedOnceSeq: 0,
        commitSeq: 0,
        mayLose: undefined,
        isRotten: false,
        lost: undefined,
        cutOff: undefined,
        granted: new Map(),
        highestGranted: 0,
        wiped: false,
      };
      this.views.set(nodeId, view);
    }
    this.#byNode.set(node, view);
    this.cores.delete(nodeId);
    const { last } = store;
    const end = this.ledger.find(last.seq, last.chain);
    if (!end) {
      this.#violate(
        "a log holds only what was written to it",
        `${node.name} begins with a log that ends at ${last.seq}`,
      );
      return;
    }
    const kept = must(view.log[view.keptSeq], "what is kept is in the log");
    const had = isPartOf(kept, end);
    // The disk may have been quicker with a cut, or with another node's state, than the watch.
    const replaced = !had && store.promised.epoch > kept.epoch;
    if (!had) view.lost = kept;
    if (replaced) {
      const record = view.log.findLast((record) => record.committed && !isPartOf(record, end));
      if (record) view.cutOff = { record, epoch: store.promised.epoch };
    } else if (!had && view.mayLose === undefined && !view.isRotten) {
      this.#violate(
        "what is kept is there after a restart",
        `${node.name} kept ${show(kept)}, and begins with a log that ends at ${show(end)}`,
      );
    }
    if (!had && !replaced) this.#counts.note("starts that had lost kept records");
    view.mayLose = undefined;
    view.log = logUpTo(end);
    view.keptSeq = store.keptSeq;
    view.commitSeq = view.appliedSeq = view.appliedOnceSeq = store.appliedSeq;
    if (store.appliedSeq > 0) this.#expectCommitted(view, store.appliedSeq, "begins with");
    this.#world.check(
      store.promised.epoch >= view.highestGranted,
      "a promise outlives its process",
      () => `${node.name} promised epoch ${view.highestGranted}, and now knows of ${store.promised.epoch} only`,
    );
  }

  ended(node: SimNode): void {
    const view = this.#byNode.get(node);
    // A new process tells anew what it has applied and knows to be committed.
    if (view) view.commitSeq = view.appliedSeq = 0;
  }

  wiped(node: SimNode): void {
    const view = this.#byNode.get(node);
    if (!view) return;
    // What it had kept is remembered: somebody may have counted on it.
    view.wiped = true;
    this.#byNode.delete(node);
  }

  /** What the node keeps may be less at its next start. */
  excuse(node: SimNode, why: string): void {
    const view = this.#byNode.get(node);
    if (view) view.mayLose = why;
  }

  rotten(node: SimNode): void {
    const view = this.#byNode.get(node);
    if (view) view.isRotten = true;
  }

  // ---- what nodes say to each other ------------------------------------------------------------------------------------

  sent(core: CoreState, ack: Ack): void {
    const view = this.views.get(core.self);
    if (view) this.#acks.push({ view, core, ack });
  }

  promised(request: PromiseRequest, reply: PromiseReply): void {
    if (reply.refusal !== undefined) return;
    const view = this.views.get(reply.nodeId);
    if (!view) return;
    const to = `${request.candidate} ${request.epochId}`;
    const before = view.granted.get(request.epoch);
    if (before !== undefined && before !== to) {
      this.#violate(
        "a node promises an epoch once",
        `${view.node.name} promised epoch ${request.epoch} to ${before} and to ${to}`,
      );
    }
    view.granted.set(request.epoch, to);
    if (request.forced) this.#forced.add(request.candidate);
    view.highestGranted = Math.max(view.highestGranted, request.epoch);
    // A request that comes twice, or whose answer was lost, is answered as before, whatever has come since.
    if (before !== undefined) return;
    this.#counts.note("promises granted");
    // Once the epoch has begun, whoever has heard of its master has promised it.
    if (this.ledger.epochs.some(({ begins }) => begins?.epochId === request.epochId)) return;
    // What it has of the epoch itself came after the promise, whose answer was lost or late.
    const granter = must(
      view.log.findLast(({ epoch }) => epoch < request.epoch),
      "there is a root",
    );
    if (
      !request.forced &&
      (granter.epoch > request.last.epoch || (granter.epoch === request.last.epoch && granter.seq > request.last.seq))
    ) {
      this.#violate(
        "a promise is given only to a candidate that has everything",
        `${view.node.name}, whose log ends at ${show(granter)}, promised epoch ${request.epoch} to one that ends at (${request.last.epoch}, ${request.last.seq})`,
      );
    }
  }

  // ---- after every event -----------------------------------------------------------------------------------------------

  look(node: SimNode): void {
    const { watched: rooms, process } = node;
    if (!rooms || !process) return;
    const view = this.#byNode.get(node);
    if (!view) return;
    this.#lookAtLog(view, rooms);
    this.#lookAtCommit(view, rooms);
    if (this.#acks.length > 0) this.#lookAtAcks();
    if (process.timers > TIMERS_MAX) {
      this.#violate("buffers are bounded", `${node.name} has ${process.timers} timers`);
    }
    const core = this.cores.get(view.nodeId);
    if (core?.role.kind === "replica" && core.role.waiting.length > WAITING_MESSAGES_MAX) {
      this.#violate("buffers are bounded", `${node.name} lets ${core.role.waiting.length} messages wait`);
    }
    this.#mix(view);
  }

  #lookAtLog(view: View, { store }: Rooms): void {
    const { writtenSeq } = store;
    const { log } = view;
    const known = log.length - 1;
    if (writtenSeq < known) this.#cut(view, writtenSeq);
    else if (writtenSeq > known) this.#grow(view, store, writtenSeq);
    const { last } = store;
    if (last.seq === writtenSeq && last.seq > 0) {
      const end = must(view.log[last.seq], "the log is known up to what is written");
      if (end.chain !== last.chain) {
        this.#violate(
          "a log changes only by appending and cutting",
          `${view.node.name} has another record ${last.seq}`,
        );
      }
    }
    if (view.keptSeq !== store.keptSeq) view.keptSeq = store.keptSeq;
  }

  #cut(view: View, writtenSeq: number): void {
    const { log } = view;
    this.#counts.note("cuts");
    const cutOff = log.slice(writtenSeq + 1).findLast(({ committed }) => committed);
    if (cutOff) {
      this.#counts.note("cuts of committed records");
      view.cutOff = { record: cutOff, epoch: this.cores.get(view.nodeId)?.promised.epoch ?? 0 };
    }
    log.length = writtenSeq + 1;
    view.keptSeq = Math.min(view.keptSeq, writtenSeq);
    // What was applied of it is applied anew, from a snapshot on.
    if (view.appliedSeq > writtenSeq) {
      view.appliedOnceSeq = writtenSeq;
      view.appliedSeq = 0;
    }
    view.commitSeq = Math.min(view.commitSeq, writtenSeq);
    this.#world.trace(() => `${view.node.name} cuts its log after ${writtenSeq}`);
  }

  #grow(view: View, store: Rooms["store"], writtenSeq: number): void {
    while (view.log.length - 1 < writtenSeq) {
      const before = must(view.log.at(-1), "there is a root");
      const bytes = store.readTail(toSeq(before.seq), 1 << 20);
      if (!bytes || bytes.length === 0) {
        this.#violate("what is written can be read", `${view.node.name} has nothing after seq ${before.seq}`);
        return;
      }
      this.#learn(view, before, bytes);
    }
    const end = must(view.log.at(-1), "there is a root");
    if (view.cutOff && end.epoch >= view.cutOff.epoch) this.#judgeCut(view, view.cutOff.record, end);
  }

  #learn(view: View, before: LedgerRecord, bytes: Uint8Array): void {
    const each = (record: LedgerRecord, isNew: boolean): void => {
      if (isNew) {
        this.#noteRemovals(record);
        this.#noteRemembered(record);
      }
      if (record.prev !== view.log[record.seq - 1]) {
        this.#violate(
          "logs match",
          `${view.node.name} has record ${show(record)} after ${show(must(view.log[record.seq - 1], "a record has one before"))}`,
        );
      }
      view.log[record.seq] = record;
      if (record.begins) this.#begun(view, record);
    };
    this.ledger.learn(
      before,
      bytes,
      each,
      (one, other) => this.#violate("logs match", `${show(one)} and ${show(other)} have one epoch and seq`),
      (detail) => this.#violate("a record does what its master saw", `${view.node.name}: ${detail}`),
    );
  }

  /** Committed records went; what took their place must have been allowed to. */
  #judgeCut(view: View, cutOff: LedgerRecord, end: LedgerRecord): void {
    // The same records are on their way back, as after a loss of the whole directory.
    if (end !== cutOff && isPartOf(end, cutOff)) return;
    view.cutOff = undefined;
    if (isPartOf(cutOff, end)) return;
    const fork = forkOf(cutOff, end);
    if (!this.mayHaveLost(fork, end)) {
      this.#violate(
        "the committed prefix stays",
        `${view.node.name} cut committed records after ${show(fork)} for those up to ${show(end)}`,
      );
    }
  }

  /** Whether a mastership after the fork was allowed to lose what was committed before. */
  mayHaveLost(fork: LedgerRecord, end: LedgerRecord): boolean {
    for (let at = end.start; at && at.seq > fork.seq; at = at.prev?.start) if (this.lossy.has(at)) return true;
    return false;
  }

  /** A mastership's first record is in some log. */
  #begun(view: View, start: LedgerRecord): void {
    if (this.#judged.has(start)) return;
    this.#judged.add(start);
    const begins = must(start.begins, "the record begins an epoch");
    const before = this.#masters.get(begins.epoch);
    if (before && (before.epochId !== begins.epochId || before.nodeId !== begins.master)) {
      const forced = before.forced && begins.forced;
      if (!forced) {
        this.#violate(
          "an epoch has one master",
          `epoch ${begins.epoch} is ${before.epochId} of ${before.nodeId} and ${begins.epochId} of ${begins.master}`,
        );
      } else this.#counts.note("epoch conflicts");
    }
    this.#masters.set(begins.epoch, { nodeId: begins.master, epochId: begins.epochId, forced: begins.forced });
    this.#counts.note("masterships");
    if (begins.forced) this.#counts.note("forced masterships");
    const earlier = must(start.prev, "a record has one before").start?.begins;
    if (earlier && earlier.master !== begins.master) this.#counts.note("masterships that moved");
    if (this.#isLossy(start)) {
      this.lossy.add(start);
      this.firstLossyMs = Math.min(this.firstLossyMs, this.#world.nowMs);
    }
    const { top } = this.ledger;
    if (top.epoch < begins.epoch && !isPartOf(top, start) && !this.mayHaveLost(forkOf(top, start), start)) {
      this.#violate(
        "the committed prefix is in every later master",
        `${view.node.name} begins ${show(start)} without ${show(top)}, which was committed`,
      );
    }
    this.#world.trace(
      () => `${view.node.name} begins epoch ${begins.epoch}${begins.forced ? " (forced)" : ""} at seq ${start.seq}`,
    );
  }

  /** Whether the rules let a mastership begin without what was committed before. */
  #isLossy(start: LedgerRecord): boolean {
    const begins = must(start.begins, "the record begins an epoch");
    if (begins.forced) return true;
    const before = must(start.prev, "a record has one before");
    const { commit, voters } = before.cluster;
    // An operator has forced it before, and the one vote that was promised then may be what makes it master now.
    if (voters === "master" && this.#forced.has(begins.master)) return true;
    if (commit === "majority") return false;
    // One copy counted. Whoever has the only vote has that copy; of several voters, the majority may lack it.
    const sameMaster = before.start?.begins?.master === begins.master;
    const isNext = this.ledger.epochs.every((other) => other.epoch > begins.epoch || isPartOf(other, start));
    if (voters === "listed" && !(sameMaster && isNext)) return true;
    // The one copy may have been lost with the power, where it was not synced.
    return this.#lostWithPower.has(begins.master);
  }

  /** Node ids whose mastership an operator has forced once, whether it came about or not. */
  readonly #forced = new Set<string>();
  /** Node ids that had lost what they kept, as `interval` and `os` allow when the power fails. */
  readonly #lostWithPower = new Set<string>();

  lostWithPower(nodeId: NodeId): void {
    this.#lostWithPower.add(nodeId);
  }

  hasLostWithPower(nodeId: NodeId): boolean {
    return this.#lostWithPower.has(nodeId);
  }

  #lookAtCommit(view: View, { store, replicator }: Rooms): void {
    const core = this.cores.get(view.nodeId);
    const { appliedSeq } = store;
    if (appliedSeq >= view.log.length) {
      // Applied records were cut, and what is left is being applied anew: nothing of it may be shown meanwhile.
      this.#world.check(
        !isReadable(store),
        "nothing is shown of what was cut",
        () => `${view.node.name} has applied ${appliedSeq}, and its log ends at ${view.log.length - 1}`,
      );
    }
    // Until it is done, the core knows nothing of the cut.
    if (core?.role.kind === "replica" && core.role.work?.what.kind === "cutting") return;
    const { commitSeq } = replicator;
    if (core && commitSeq > view.commitSeq) {
      if (core.role.kind === "master") this.#masterCommits(view, core, commitSeq);
      view.commitSeq = commitSeq;
    } else if (commitSeq < view.commitSeq) {
      this.#violate("commit_seq never goes back", `${view.node.name}: from ${view.commitSeq} to ${commitSeq}`);
    }
    if (appliedSeq > view.appliedSeq) {
      this.#expectCommitted(view, appliedSeq, "applies");
      const limit =
        core?.role.kind === "replica" ? Math.min(replicator.commitSeq, replicator.matchSeq) : replicator.commitSeq;
      if (core && appliedSeq > Math.max(limit, view.appliedOnceSeq)) {
        this.#violate("applied ≤ min(commit, match)", `${view.node.name} applies ${appliedSeq}, may apply ${limit}`);
      }
      view.appliedSeq = appliedSeq;
    } else if (appliedSeq < view.appliedSeq) {
      this.#violate(
        "applied_seq goes back only with a cut",
        `${view.node.name}: from ${view.appliedSeq} to ${appliedSeq}`,
      );
    }
  }

  #masterCommits(view: View, core: CoreState, commitSeq: number): void {
    if (core.role.kind !== "master") return;
    const record = view.log[commitSeq];
    if (!record) {
      this.#violate("the master commits what it has written", `${view.node.name} commits ${commitSeq}`);
      return;
    }
    const { epoch } = core.role;
    if (record.epoch !== epoch) {
      this.#violate(
        "a master commits by a record of its own epoch",
        `${view.node.name} of epoch ${epoch} commits ${show(record)}`,
      );
    }
    const forcedLater = this.ledger.epochs.some(({ begins }) => begins && begins.epoch > epoch && begins.forced);
    if (!forcedLater) this.#expectQuorum(view, core, record);
    for (const start of this.ledger.epochs) {
      if (start.epoch <= epoch || this.lossy.has(start) || isPartOf(record, start)) continue;
      if (this.mayHaveLost(forkOf(record, start), start)) continue;
      this.#violate(
        "the committed prefix is in every later master",
        `${view.node.name} of epoch ${epoch} commits ${show(record)}, which epoch ${start.epoch} lacks`,
      );
    }
    const { top } = this.ledger;
    for (const marked of this.ledger.commit(record)) {
      const rival = this.ledger.at(marked.seq).find((other) => other !== marked && other.committed);
      if (rival) this.#counts.note("committed records that were lost");
    }
    if (this.ledger.top !== top) this.#commits.push({ atMs: this.#world.nowMs, record: this.ledger.top });
  }

  /** A majority of the voters keeps the record, where the cluster says so. */
  #expectQuorum(view: View, core: CoreState, record: LedgerRecord): void {
    const end = must(view.log.at(-1), "there is a root");
    const { commit } = end.cluster;
    if (view.keptSeq < record.seq) {
      this.#violate(
        "acknowledged means kept by the quorum",
        `${view.node.name} commits ${show(record)}, keeps ${view.keptSeq}`,
      );
    }
    if (commit === "master") return;
    const voters = votersOf(end);
    if (this.#haveMajority(voters, record)) return;
    // A change of the voters counts as soon as it waits to be written; one at a time, so that majorities before and after
    // it have a node in common.
    if (core.log.last.seq > end.seq && core.log.electorate.mode === "listed") {
      const next = core.log.electorate.voters.map(({ nodeId }) => nodeId);
      const changed = [...voters, ...next].filter((id) => !voters.includes(id) || !next.includes(id));
      if (changed.length === 1 && this.#haveMajority(next, record)) return;
    }
    this.#violate(
      "acknowledged means kept by the quorum",
      `${view.node.name} commits ${show(record)}, which no majority of ${voters.length} voters keeps`,
    );
  }

  #haveMajority(voters: readonly NodeId[], record: LedgerRecord): boolean {
    return voters.filter((voter) => this.keeps(voter, record)).length > voters.length / 2;
  }

  /** Whether the one vote may have gone to the node, for a mastership that has not begun. */
  mayHaveVote(nodeId: NodeId): boolean {
    const { epoch } = this.ledger.top;
    return [...this.views.values()].some(({ granted }) =>
      [...granted].some(([promised, to]) => promised > epoch && to.startsWith(nodeId)),
    );
  }

  keeps(nodeId: NodeId, record: LedgerRecord): boolean {
    const view = this.views.get(nodeId);
    if (view === undefined) return false;
    if (view.keptSeq >= record.seq && view.log[record.seq] === record) return true;
    // It told so before its disk was lost; that is no fault of whoever believed it.
    return view.lost !== undefined && isPartOf(record, view.lost);
  }

  #expectCommitted(view: View, seq: number, how: string): void {
    const record = view.log[seq];
    if (record?.committed) return;
    this.#violate(
      "only what is committed is applied",
      `${view.node.name} ${how} ${record ? show(record) : `seq ${seq}, which it does not have`}, which nobody has committed`,
    );
  }

  /** What a replica acknowledges is what its master has. */
  #lookAtAcks(): void {
    for (const { view, core, ack } of this.#acks.splice(0)) {
      if (ack.matchSeq > view.keptSeq) {
        this.#violate("acknowledged ≤ kept", `${view.node.name} acknowledges ${ack.matchSeq}, keeps ${view.keptSeq}`);
        return;
      }
      const hello = core.role.kind === "replica" ? core.role.current?.master : undefined;
      const master = hello && this.views.get(hello.sender);
      const theirs = hello && this.cores.get(hello.sender);
      if (!hello || !master || theirs?.role.kind !== "master" || theirs.role.epoch !== hello.epoch) continue;
      const own = view.log[ack.matchSeq];
      const there = master.log[ack.matchSeq];
      if (own !== there) {
        this.#violate(
          "what a replica acknowledges is its master's",
          `${view.node.name} acknowledges ${own ? show(own) : ack.matchSeq} to ${master.node.name}, which has ${there ? show(there) : "nothing there"}`,
        );
      }
    }
  }

  // ---- for the clients -------------------------------------------------------------------------------------------------

  /** What was committed of the highest epoch by then. */
  committedAt(atMs: number): LedgerRecord {
    return this.#commits.findLast((commit) => commit.atMs <= atMs)?.record ?? this.ledger.root;
  }

  /** The record at a position that a node named; undefined when it has none such. */
  recordAt(node: SimNode, { epoch, seq }: Position): LedgerRecord | undefined {
    const record = this.#byNode.get(node)?.log[seq];
    return record && (record.epoch === epoch || seq === 0) ? record : undefined;
  }

  appliedOn(node: SimNode): LedgerRecord | undefined {
    const { watched } = node;
    return watched && this.#byNode.get(node)?.log[watched.store.appliedSeq];
  }

  #violate(rule: string, detail: string): void {
    this.#world.violate(rule, detail);
  }

  #mix(view: View): void {
    this.#world.mix(view.log.length);
    this.#world.mix(view.keptSeq * 31 + view.appliedSeq);
    this.#world.mix(view.log.at(-1)?.chain ?? 0);
  }
}

function isReadable(store: Rooms["store"]): boolean {
  try {
    store.readPoint();
    return true;
  } catch {
    return false;
  }
}

function logUpTo(end: LedgerRecord): LedgerRecord[] {
  const log: LedgerRecord[] = [];
  for (let at: LedgerRecord | undefined = end; at; at = at.prev) log[at.seq] = at;
  return log;
}
