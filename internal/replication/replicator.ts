/**
 * Replication of one node: what the programs and the handlers see of it. The protocol is in `core`, which decides
 * everything about logs; `Driver` carries out what it decides; `Roster` (of a master) and `Registration` (of a replica)
 * see to it that nodes know of each other.
 */
import { AssertionError, unreachable } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { newEpochId, type NodeId, type RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { type Epoch, type Position, type Seq, seq as toSeq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import { normalAddress } from "./address.js";
import type { Bid, Won } from "./core/candidacy.js";
import type { CommitMode } from "./core/commit.js";
import { isVoter, majorityOf, otherVoters } from "./core/electorate.js";
import type { ReplicaMessage } from "./core/message.js";
import { newReplicaRole } from "./core/replica.js";
import { type CoreState, EMPTY_LOG, newCoreState } from "./core/state.js";
import type { CampaignFailure } from "./core/survey.js";
import {
  isServing,
  lagRecords,
  notServing,
  peerAt,
  type PeerView,
  replicatedSeq,
  settledMaster,
  stalenessMs,
} from "./core/view.js";
import { contradictions } from "./contradictions.js";
import { deadlineOf } from "./deadline.js";
import { Driver, electorateOf, type Report } from "./driver.js";
import { firstChanges } from "./first-record.js";
import { handOver, type Target, type TransferResult } from "./handover.js";
import type {
  Asker,
  PeerNetwork,
  PromiseReply,
  PromiseRequest,
  PushSession,
  RegisterReply,
  RegisterRequest,
  SurveyReply,
} from "./peer.js";
import { Registration } from "./registration.js";
import { ReplicationError } from "./replication-error.js";
import { Roster } from "./roster.js";
import type { Member, MemberSource, ReplicatedStore } from "./store-port.js";
import { Conditions, Waiters } from "./waiters.js";

export type { TransferResult } from "./handover.js";

export { ReplicationError, type ReplicationErrorCode } from "./replication-error.js";
export type { MasterMessage, ReplicaMessage, RejectReason } from "./core/message.js";
export type {
  Asker,
  PeerConnection,
  PeerListener,
  PeerNetwork,
  PromiseRefusal,
  PromiseReply,
  PromiseRequest,
  PushSession,
  RegisterReply,
  RegisterRequest,
  SurveyReply,
} from "./peer.js";

export interface ReplicatorOptions {
  readonly store: ReplicatedStore;
  readonly network: PeerNetwork;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Where others reach this node, as `host:port`. Asked for only after `start`. */
  readonly address: () => string;
  /** Of a replica's configuration: where it registers itself. */
  readonly masterAddress?: string;
  /** Of a master's configuration: replicas to push to, whether they register or not. */
  readonly listedReplicas: readonly string[];
  /** What this node, as a replica, asks of its master. */
  readonly heartbeatIntervalMs: number;
  /** Bytes of records in one message, at most, unless one record alone is larger. */
  readonly batchBytes: number;
  /** Nothing more is sent to a replica that has this many bytes of records unacknowledged. */
  readonly windowBytes: number;
  /** `cluster.nodes`: the addresses of all voters, this node's among them; absent or empty: there is one vote, and it moves. */
  readonly nodes?: readonly string[];
  /** `replication.commit` of the file. */
  readonly commit?: CommitMode | undefined;
  /** A master has sent its whole state, and the next start of this node takes it over: close everything, and start anew. */
  readonly restart: () => void;
}

/** A member as this node sees it. */
export interface MemberView {
  /** Absent while the master has not reached a listed address yet. */
  readonly nodeId?: NodeId;
  readonly address: string;
  readonly voter: boolean;
  readonly source: MemberSource;
  /** Absent where it is not known: only the master knows more than `self`. */
  readonly state?: "self" | "disconnected" | "probing" | "transferring" | "streaming" | "refused";
  /** Highest seq that the member has acknowledged. */
  readonly matchSeq: Seq;
  readonly appliedSeq: Seq;
  /** Records that the member lacks. */
  readonly lagRecords: number;
  /** Since the member last had everything; 0 when it has. */
  readonly lagMs: number;
  /** What went wrong last; empty when all is well. */
  readonly detail: string;
}

/** What a promotion has brought about. */
export interface PromoteResult {
  readonly epoch: Epoch;
  /** Of the epoch's first record. */
  readonly firstSeq: Seq;
  /** When forced: the addresses of members that did not promise. */
  readonly unreached: readonly string[];
  /** When forced: records that are known to be in another node's log, and lost; there may be more. */
  readonly knownLostRecords: number;
}

/** How a campaign has ended. */
type Campaigned =
  | { readonly kind: "begun"; readonly won: Won; readonly mastership: Mastership }
  | { readonly kind: "failed"; readonly code: CampaignFailure; readonly detail: string };

/** From the epoch's first record on. */
interface Mastership {
  readonly epoch: Epoch;
  readonly firstSeq: Seq;
  readonly roster: Roster;
  /** Resolves once this node takes writes. */
  readonly serving: Promise<void>;
}

/** A master whose voters are listed need not serve for its start to be over: it may have to wait for them for long. */
const START_MAX_MS = 5000;
/** Whoever promotes a node waits no longer for the epoch's first record to be committed. */
const PROMOTE_MAX_MS = 10_000;

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #store: ReplicatedStore;
  readonly #state: CoreState;
  readonly #driver: Driver;
  readonly #registration: Registration;
  readonly #listed: readonly string[];
  readonly #nodes: readonly string[];
  /** Set from the first record of an epoch to its end. */
  #mastership: Mastership | undefined;
  #masterAddress: string | undefined;
  readonly #applied = new Waiters();
  readonly #replicated = new Waiters();
  readonly #reads = new Waiters<Seq>();
  #readCount = 0;
  readonly #conditions = new Conditions();
  #campaigns: { readonly resolve: (outcome: Campaigned) => void; readonly reject: (error: Error) => void }[] = [];
  /** By number: who waits for this node's promise. */
  readonly #asks = new Map<
    number,
    { readonly resolve: (reply: PromiseReply) => void; readonly reject: (error: Error) => void }
  >();
  #askCount = 0;
  #isHandingOver = false;
  /** The node that was told last to take over. */
  #handedOverTo: string | undefined;
  /** By what it is about: the complaint that was logged last, so that a failure that stays the same is logged once. */
  readonly #complaints = new Map<string, string>();
  readonly #contradictions = new Set<string>();
  #closing = false;

  /** Throws `ReplicationError` `invalid_address` for a listed replica, or a node of the cluster, that is none. */
  constructor(options: ReplicatorOptions) {
    const { store, network, clock, random, logger, masterAddress } = options;
    this.#options = options;
    this.#store = store;
    this.#listed = options.listedReplicas.map(listedAddress);
    this.#nodes = (options.nodes ?? []).map(listedAddress);
    this.#state = newCoreState({
      self: store.nodeId,
      settings: {
        heartbeatIntervalMs: options.heartbeatIntervalMs,
        batchBytes: options.batchBytes,
        windowBytes: options.windowBytes,
      },
      clusterId: store.clusterId,
      promised: store.promised,
      log: { ...EMPTY_LOG, appliedSeq: store.appliedSeq },
      role:
        store.role === "replica"
          ? newReplicaRole()
          : { kind: "idle", why: "this node is a master whose epoch has not begun yet", canFollow: false },
      seed: new DataView(random.bytes(4).slice().buffer).getUint32(0) || 1,
    });
    this.#driver = new Driver({
      state: this.#state,
      store,
      network,
      clock,
      logger,
      report: (report) => this.#hear(report),
      prepare: () => this.#prepare(),
      firstChanges: (won) =>
        firstChanges(won, { self: store.nodeId, commit: options.commit, logged: store.electorate }),
      ticked: () => this.#ticked(),
    });
    this.#registration = new Registration({
      network,
      clock,
      logger,
      masterAddress,
      request: () => ({
        ...(store.clusterId !== undefined && { clusterId: store.clusterId }),
        nodeId: store.nodeId,
        address: options.address(),
      }),
      random,
    });
    store.retainLog(() => this.#lackedAfter());
    store.listen({
      applied: (seq) => this.#applied.resolve(seq),
      dropped: (firstSeq) => this.#dropped(firstSeq),
      membersChanged: () => this.#mastership?.roster.update(),
      settingsChanged: () => this.#reportContradictions(),
      failed: (error) => this.#applied.reject(error),
    });
  }

  /**
   * On a node that was master last: when it resolves, it serves, with a new epoch; or it has found a newer mastership and
   * become a replica; or, where the voters are listed, it asks them on and on, and `notServing` says why. Rejects with
   * `StoreError`, or `ReplicationError` `refused`, when the epoch cannot begin. On a replica it resolves at once;
   * registering goes on in the background.
   */
  async start(): Promise<void> {
    this.#assertOpen();
    this.#reportContradictions();
    if (this.#store.role !== "master") {
      this.#registration.start();
      return;
    }
    const campaigned = this.#campaigned();
    this.#driver.dispatch({ kind: "campaign", cause: "start", forced: false });
    const outcome = await campaigned;
    if (outcome.kind === "failed") {
      if (outcome.code === "refused") throw new ReplicationError("refused", outcome.detail);
      return;
    }
    const { serving } = outcome.mastership;
    try {
      if (this.#electorate.mode === "master") return await serving;
      const deadline = deadlineOf(this.#options.clock, {
        ms: START_MAX_MS,
        error: () => timeout("too long for a start"),
      });
      await Promise.race([serving, whenAborted(deadline.signal)]).finally(() => deadline.cancel());
    } catch (error) {
      // Another node is master, or will be.
      if (!(error instanceof ReplicationError) || error.code !== "not_master") throw error;
    }
  }

  /** Closes every connection and session and stops all loops. The store stays open. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const reason = new ReplicationError("closing", "this node is shutting down");
    this.#mastership?.roster.end(reason);
    this.#applied.reject(reason);
    this.#replicated.reject(reason);
    this.#reads.reject(reason);
    this.#conditions.reject(reason);
    for (const { reject } of this.#campaigns.splice(0)) reject(reason);
    for (const { reject } of this.#asks.values()) reject(reason);
    this.#asks.clear();
    await this.#registration.close();
    await this.#driver.close(reason.message);
  }

  // ---- what other nodes ask --------------------------------------------------------------------------------------------

  /**
   * A master has connected to this node. `send` and `close` are called until the session's `closed`; `close` at most
   * once, and last, with the reason in words.
   */
  acceptPush(send: (message: ReplicaMessage) => void, close: (reason: string) => void): PushSession {
    return this.#driver.accept(send, close);
  }

  /**
   * A replica asks to be pushed to. Resolves once its membership is committed. Rejects with `ReplicationError`
   * (`not_master`, `foreign_cluster`, `removed`, `refused`, `invalid_address`, `closing`) or as `Store.proposeMember`.
   */
  async register(request: RegisterRequest): Promise<RegisterReply> {
    const { roster, epoch } = this.#serving();
    const { clusterId } = this.#store;
    if (clusterId === undefined) throw this.#notMaster("this node belongs to no cluster yet");
    if (request.clusterId !== undefined && request.clusterId !== clusterId) {
      throw new ReplicationError(
        "foreign_cluster",
        `node ${request.nodeId} belongs to cluster ${request.clusterId}, this master to ${clusterId}; give the replica an empty directory, or its own master's address`,
      );
    }
    await roster.register(request);
    return { clusterId, masterNodeId: this.#store.nodeId, epoch };
  }

  /** What this node says of itself, whatever its role. */
  survey(_asker: Asker): SurveyReply {
    const { clusterId, self, promised, log } = this.#state;
    return {
      ...(clusterId !== undefined && { clusterId }),
      nodeId: self,
      promised: {
        epoch: promised.epoch,
        ...(promised.candidate !== undefined && { candidate: promised.candidate }),
      },
      last: { epoch: log.last.epoch, seq: log.last.seq },
      isMaster: isServing(this.#state),
      founds: clusterId === undefined && this.#store.foundsWhenEmpty,
      unclean: this.#store.mustCatchUp,
      ...(this.#masterAddress !== undefined && { masterAddress: this.#masterAddress }),
    };
  }

  /**
   * A candidate asks for this node's promise. What is granted is durable when it resolves; a refusal is an answer. Rejects
   * with `ReplicationError` `closing`.
   */
  async requestPromise(request: PromiseRequest): Promise<PromiseReply> {
    this.#assertOpen();
    const ask = ++this.#askCount;
    const answered = new Promise<PromiseReply>((resolve, reject) => this.#asks.set(ask, { resolve, reject }));
    this.#driver.dispatch({ kind: "promiseAsked", ask, request, unclean: this.#store.mustCatchUp });
    return answered;
  }

  /** As `linearizableSeq`, for another node. Rejects with `ReplicationError`: `not_master`, `foreign_cluster`, `closing`. */
  async readIndex(asker: Asker, signal: AbortSignal): Promise<Position> {
    this.#assertOpen();
    const { role, clusterId } = this.#state;
    if (role.kind !== "master") throw this.#notMaster(this.#roleInWords());
    if (asker.clusterId !== clusterId) {
      const detail = `node ${asker.nodeId} belongs to cluster ${asker.clusterId ?? "(none)"}, this master to ${clusterId ?? "(none)"}`;
      throw new ReplicationError("foreign_cluster", detail);
    }
    const { epoch } = role;
    return { epoch, seq: await this.#confirmedSeq(signal) };
  }

  // ---- what operators ask ----------------------------------------------------------------------------------------------

  /**
   * Makes the node at an address a member. Resolves once that is committed. Rejects with `ReplicationError`
   * (`not_master`, `invalid_address`, `unreachable`, `foreign_cluster`, `refused`, `closing`) or as
   * `Store.proposeMember`. Where the voters are listed and the address is a voter's, its new node takes the place of the
   * one before, and gets the vote once it has caught up; adding it again resumes that.
   */
  async addReplica(address: string): Promise<MemberView> {
    return this.#view(await this.#serving().roster.add(address));
  }

  /**
   * Ends a membership; both fields must fit the same member when both are given. Resolves once that is committed.
   * Rejects with `ReplicationError` (`not_master`, `not_found`, `is_voter`, `closing`) or as `Store.proposeMember`.
   */
  async removeReplica(which: { nodeId?: NodeId; address?: string }): Promise<void> {
    await this.#serving().roster.remove(which);
  }

  /**
   * Makes this node the master; of one that is, it tells the epoch. Resolves once it serves. Rejects with `ReplicationError`:
   * `no_majority`, `behind`, `not_caught_up`, `refused`, `timeout` (the epoch has begun, and its first record waits for a
   * quorum), `not_master` (another node came in between), `closing`.
   */
  async promote({ force }: { readonly force: boolean }): Promise<PromoteResult> {
    this.#assertOpen();
    const present = this.#mastership;
    if (present && (!force || (isServing(this.#state) && this.#hasMajority()))) {
      await this.#withinPromotion(present);
      return { epoch: present.epoch, firstSeq: present.firstSeq, unreached: [], knownLostRecords: 0 };
    }
    this.#assertPromotable(force);
    const campaigned = this.#campaigned();
    this.#options.logger.info("this node was asked to become master", { force });
    this.#driver.dispatch({ kind: "campaign", cause: "promoted", forced: force });
    const outcome = await campaigned;
    if (outcome.kind === "failed") throw new ReplicationError(outcome.code, outcome.detail);
    const { mastership, won } = outcome;
    await this.#withinPromotion(mastership);
    const { epoch, firstSeq } = mastership;
    return { epoch, firstSeq, unreached: won.unreached, knownLostRecords: won.knownLostRecords };
  }

  /**
   * Hands this mastership over to a member; without a name, to the connected one that has the most. Resolves once that one
   * serves. Rejects with `ReplicationError`: `not_master`, `not_found`, `no_target`, `handover_failed`, `closing`, and with
   * the signal's reason. Unless this node has given its vote away by then, it goes on as master.
   */
  async transfer(which: Target, signal: AbortSignal): Promise<TransferResult> {
    const { epoch } = this.#serving();
    if (this.#isHandingOver) throw new ReplicationError("handover_failed", "a handover is under way already");
    this.#isHandingOver = true;
    try {
      const result = await handOver(
        {
          state: this.#state,
          store: this.#store,
          clock: this.#options.clock,
          conditions: this.#conditions,
          handOver: (address) => this.#handOver(address),
        },
        which,
        signal,
      );
      const { logger } = this.#options;
      logger.info("the mastership was handed over", {
        address: result.address,
        node_id: result.nodeId,
        old_epoch: epoch,
        epoch: result.epoch,
        pause_ms: result.pauseMs,
      });
      return result;
    } finally {
      this.#isHandingOver = false;
    }
  }

  // ---- what handlers ask -----------------------------------------------------------------------------------------------

  /**
   * The seq that a linearizable read must see, confirmed after this call. Rejects with `ReplicationError`: `not_master` (no
   * master is known), `unreachable`, `closing`, and with the signal's reason.
   */
  async linearizableSeq(signal: AbortSignal): Promise<Seq> {
    this.#assertOpen();
    signal.throwIfAborted();
    if (this.#state.role.kind === "master") return this.#confirmedSeq(signal);
    const { epoch, seq } = await this.#readIndexOfMaster(signal);
    // What this node has applied must be of that master's history, not of one that was lost.
    await this.#conditions.until(() => this.#settledEpoch >= epoch, signal);
    return seq;
  }

  /**
   * Resolves once all connected voters have acknowledged `seq`; where the vote moves, all connected members. Rejects with
   * `ReplicationError`: `not_master`, `closing`, and with the signal's reason.
   */
  async whenReplicated(seq: Seq, signal: AbortSignal): Promise<void> {
    this.#serving();
    if (replicatedSeq(this.#state) >= seq) return;
    await this.#replicated.wait(seq, signal);
  }

  /** The members, and on a master the state of replication to each; listed addresses not reached yet included. */
  members(): readonly MemberView[] {
    const members = this.#store.members.filter(({ removed }) => !removed);
    const views = members.map((member) => this.#view(member));
    for (const address of this.#listed) {
      if (members.some((member) => member.address === address)) continue;
      const peer = peerAt(this.#state, address, this.#nowMs());
      if (peer) views.push({ ...peerFields(peer), address, voter: false, source: "listed" });
    }
    return views;
  }

  /** Where the master takes writes, as far as this node knows; on a master its own address. */
  get masterAddress(): string | undefined {
    return this.#masterAddress;
  }

  /** How old this node's committed state is at most; 0 on a master that is the sole voter; undefined when unknown. */
  stalenessMs(): number | undefined {
    return stalenessMs(this.#state, this.#nowMs());
  }

  /** Highest kept seq that is verified to equal the present master's log; on a master its kept seq. */
  get matchSeq(): Seq {
    return this.#state.matchSeq;
  }

  /** Highest seq that this node knows to be committed. */
  get commitSeq(): Seq {
    return this.#state.commitSeq;
  }

  /** Records that the master had committed, as this node heard last, and that are not applied here; of a replica that follows. */
  get lagRecords(): number | undefined {
    return lagRecords(this.#state);
  }

  /** Whether this node is about to become master. */
  get isCandidate(): boolean {
    return this.#state.role.kind === "candidate";
  }

  /** Why this node, which is meant to be master, does not serve yet; empty otherwise. */
  notServing(): string {
    return notServing(this.#state);
  }

  // ---- campaigns -------------------------------------------------------------------------------------------------------

  #campaigned(): Promise<Campaigned> {
    return new Promise((resolve, reject) => this.#campaigns.push({ resolve, reject }));
  }

  #prepare(): Bid {
    const { random } = this.#options;
    const address = this.#ownAddress();
    const members = this.#store.electorate.members.filter(({ removed }) => !removed);
    const others = members.filter(({ nodeId }) => nodeId !== this.#store.nodeId).map((member) => member.address);
    const addresses = new Set([...others, ...this.#nodes]);
    addresses.delete(address);
    return {
      epochId: newEpochId(random),
      address,
      addresses: [...addresses],
      founders: this.#store.isEmpty ? this.#nodes : [],
      unclean: this.#store.mustCatchUp,
    };
  }

  #assertPromotable(force: boolean): void {
    const { role } = this.#state;
    if (role.kind === "idle" && !role.canFollow) throw new ReplicationError("refused", role.why);
    const { isEmpty, caughtUp, electorate, nodeId } = this.#store;
    if (isEmpty || (!caughtUp && !force)) {
      const what = isEmpty ? "this node has no records" : "this node has never caught up with a master";
      throw new ReplicationError("not_caught_up", `${what}, and cannot become one; promote another node`);
    }
    if (force) return;
    if (electorate.members.some((member) => member.nodeId === nodeId && member.removed && member.address !== "")) {
      throw new ReplicationError("refused", "this node was removed from the cluster; add it again first");
    }
    if (electorate.settings.voters === "listed" && !isVoter(this.#electorate, nodeId)) {
      throw new ReplicationError("refused", "this node is no voter, and only follows; promote a voter");
    }
  }

  async #withinPromotion({ epoch, serving }: Mastership): Promise<void> {
    const deadline = deadlineOf(this.#options.clock, {
      ms: PROMOTE_MAX_MS,
      error: () => timeout(`epoch ${epoch} has begun, but a quorum does not keep its first record yet`),
    });
    await Promise.race([serving, rejectionOf(deadline.signal)]).finally(() => deadline.cancel());
  }

  /** Whether a majority of the voters is connected. */
  #hasMajority(): boolean {
    const { self, log } = this.#state;
    const others = otherVoters(log.electorate, self);
    const connected = others.filter(({ nodeId, address }) => {
      const peer = peerAt(this.#state, address, this.#nowMs());
      return peer?.state === "streaming" && peer.nodeId === nodeId;
    });
    return connected.length + 1 >= majorityOf(others.length + 1);
  }

  #handOver(address: string): boolean {
    this.#handedOverTo = undefined;
    this.#driver.dispatch({ kind: "handOver", address });
    return this.#handedOverTo === address;
  }

  // ---- reads -----------------------------------------------------------------------------------------------------------

  #confirmedSeq(signal: AbortSignal): Promise<Seq> {
    const read = ++this.#readCount;
    const confirmed = this.#reads.wait(read, signal);
    this.#driver.dispatch({ kind: "confirm", read });
    return confirmed;
  }

  /** Of the mastership whose committed history this node has: its own, or that of the master that it follows. */
  get #settledEpoch(): number {
    const { role } = this.#state;
    if (role.kind === "master") return isServing(this.#state) ? role.epoch : 0;
    return settledMaster(this.#state)?.epoch ?? 0;
  }

  async #readIndexOfMaster(signal: AbortSignal): Promise<Position> {
    const { network } = this.#options;
    const { clusterId, self } = this.#state;
    const asker = { ...(clusterId !== undefined && { clusterId }), nodeId: self };
    const address = this.#masterAddress;
    if (address === undefined) throw this.#notMaster("this node follows no master, and knows of none");
    try {
      return await network.readIndex(address, asker, signal);
    } catch (error) {
      const moved = error instanceof ReplicationError && error.code === "not_master" ? error.masterAddress : undefined;
      if (moved === undefined || moved === address || moved === this.#ownAddress()) throw error;
      return network.readIndex(moved, asker, signal);
    }
  }

  // ---- mastership ------------------------------------------------------------------------------------------------------

  #begun({ won, firstSeq }: Extract<Report, { kind: "begun" }>): void {
    const { clock, logger } = this.#options;
    const { epoch, epochId } = won.promise;
    this.#registration.followed();
    const roster = new Roster({
      store: this.#store,
      clock,
      logger,
      address: won.address,
      listed: this.#listed,
      nodes: this.#nodes,
      dispatch: (happening) => this.#driver.dispatch(happening),
      peerAt: (peer) => peerAt(this.#state, peer, this.#nowMs()),
    });
    logger.info("a mastership begins", { epoch, epoch_id: epochId, first_seq: firstSeq, forced: won.forced });
    if (won.unreached.length > 0 || won.knownLostRecords > 0) {
      logger.warn("the mastership was forced; a master that is merely out of reach may still take writes", {
        unreached: won.unreached.join(", "),
        known_lost_records: won.knownLostRecords,
        without_vote: won.stripped.join(", "),
      });
    }
    const serving = this.#serve(roster, firstSeq, won.address);
    const mastership: Mastership = { epoch, firstSeq, roster, serving };
    this.#mastership = mastership;
    serving.catch((error: unknown) => {
      if (error instanceof AssertionError) throw error;
    });
    roster.update();
    for (const { resolve } of this.#campaigns.splice(0)) resolve({ kind: "begun", won, mastership });
  }

  async #serve(roster: Roster, firstSeq: Seq, address: string): Promise<void> {
    await this.#whenApplied(firstSeq);
    await this.#driver.markCaughtUp();
    this.#assertOpen();
    if (this.#mastership?.roster !== roster) throw this.#notMaster("the mastership has ended before it served");
    this.#masterAddress = address;
    this.#options.logger.info("this node is master", { first_seq: firstSeq });
    this.#reportContradictions();
    await roster.start();
  }

  #serving(): Mastership {
    this.#assertOpen();
    if (this.#mastership && isServing(this.#state)) return this.#mastership;
    throw this.#notMaster(this.#roleInWords());
  }

  #roleInWords(): string {
    const { role } = this.#state;
    return notServing(this.#state) || (role.kind === "replica" ? "this node is a replica" : role.kind);
  }

  #stepDown({ detail, masterAddress, conflict }: Extract<Report, { kind: "stepDown" }>): void {
    const { logger } = this.#options;
    const mastership = this.#mastership;
    this.#mastership = undefined;
    // Whoever is refused from here on is told where to go.
    this.#masterAddress = masterAddress;
    const error = this.#notMaster(`this node's mastership has ended: ${detail}`);
    if (conflict) {
      const message = "two masterships have one epoch; this node does nothing more until an operator promotes a node";
      logger.error(message, { reason: detail });
    } else if (mastership) logger.warn("this node's mastership has ended", { reason: detail });
    mastership?.roster.end(error);
    this.#store.endMastership();
    this.#applied.reject(error);
    this.#replicated.reject(error);
    this.#reads.reject(error);
    if (this.#state.role.kind === "replica") this.#registration.orphaned(masterAddress);
  }

  #campaignFailed({ code, detail, again }: Extract<Report, { kind: "campaignFailed" }>): void {
    const message = again ? "this node cannot become master yet; it tries on" : "this node has not become master";
    this.#complain(CAMPAIGN, message, detail);
    for (const { resolve } of this.#campaigns.splice(0)) resolve({ kind: "failed", code, detail });
    if (!again) this.#registration.orphaned();
  }

  #whenApplied(seq: Seq): Promise<void> {
    return this.#store.appliedSeq >= seq ? Promise.resolve() : this.#applied.wait(seq);
  }

  #dropped(firstSeq: Seq): void {
    const message = "the disk has no room for the first record of a mastership; free some and start the node again";
    this.#applied.reject(new StoreError("disk_full", message), firstSeq);
  }

  #assertOpen(): void {
    if (this.#closing) throw new ReplicationError("closing", "this node is shutting down; ask another one");
  }

  #notMaster(why: string): ReplicationError {
    return new ReplicationError("not_master", why, { masterAddress: this.#masterAddress });
  }

  // ---- what the core reports -------------------------------------------------------------------------------------------

  #ticked(): void {
    this.#mastership?.roster.tick();
    if (!this.#replicated.isEmpty) this.#replicated.resolve(replicatedSeq(this.#state), undefined);
    this.#conditions.look();
  }

  #hear(report: Report): void {
    const { logger } = this.#options;
    switch (report.kind) {
      case "answerPromise":
        this.#asks.get(report.ask)?.resolve(report.reply);
        this.#asks.delete(report.ask);
        return;
      case "begun":
        this.#complaints.delete(CAMPAIGN);
        return this.#begun(report);
      case "campaignFailed":
        return this.#campaignFailed(report);
      case "stepDown":
        return this.#stepDown(report);
      case "unsaved":
        logger.error("this node could not write down what it has become", { reason: report.detail });
        return;
      case "confirmed":
        return this.#reads.resolve(report.read, report.seq);
      case "handedOver":
        this.#handedOverTo = report.address;
        return;
      case "met":
        return this.#mastership?.roster.met(report.address, report.nodeId);
      case "streaming":
        this.#complaints.delete(report.address);
        logger.info("pushing to a replica", {
          address: report.address,
          node_id: report.nodeId,
          after_seq: report.afterSeq,
        });
        return;
      case "transferring":
        logger.info("a replica lacks what the log no longer holds; sending it the whole state", {
          address: report.address,
          node_id: report.nodeId,
          bytes: report.size,
        });
        return;
      case "refused":
        this.#complain(report.address, `a replica cannot be pushed to (${report.reason})`, report.detail);
        return this.#mastership?.roster.refused(report.address, report.reason, report.detail);
      case "unreached":
        this.#complain(report.address, "no connection to a replica", report.detail);
        return this.#mastership?.roster.unreached(report.address, report.detail);
      case "follow":
        this.#complaints.delete(MASTER);
        this.#masterAddress = report.address;
        this.#registration.followed(report.address);
        logger.info("following a master", { address: report.address, node_id: report.nodeId, epoch: report.epoch });
        return;
      case "orphaned":
        this.#registration.orphaned();
        this.#complain(MASTER, "no master pushes to this node", report.reason);
        return;
      case "restart":
        logger.info("starting anew with other data");
        return this.#options.restart();
      case "closeSession":
        this.#complain(MASTER, "no master pushes to this node", report.reason);
        return;
      default:
        unreachable(report);
    }
  }

  /** Says once what stays the same, and again what changes. */
  #complain(about: string, message: string, reason: string): void {
    if (this.#closing || this.#complaints.get(about) === reason) return;
    for (const address of this.#complaints.keys()) {
      if (address !== MASTER && address !== CAMPAIGN && !peerAt(this.#state, address, 0)) {
        this.#complaints.delete(address);
      }
    }
    this.#complaints.set(about, reason);
    const isAddress = about !== MASTER && about !== CAMPAIGN;
    this.#options.logger.warn(message, { ...(isAddress && { address: about }), reason });
  }

  /** The replicated state rules; what this node's file says otherwise is said once. */
  #reportContradictions(): void {
    if (this.#store.isEmpty) return;
    const { commit, logger } = this.#options;
    for (const sentence of contradictions({ commit, nodes: this.#nodes }, this.#store.electorate)) {
      if (this.#contradictions.has(sentence)) continue;
      this.#contradictions.add(sentence);
      logger.warn(sentence);
    }
  }

  // ---- views -----------------------------------------------------------------------------------------------------------

  #view(member: Member): MemberView {
    const { nodeId, address, voter, source } = member;
    const known = { nodeId, address, voter, source };
    const { matchSeq, log } = this.#state;
    if (nodeId === this.#store.nodeId) {
      return { ...known, ...NOTHING_KNOWN, state: "self", matchSeq, appliedSeq: log.appliedSeq };
    }
    const peer = peerAt(this.#state, address, this.#nowMs());
    if (!peer) return { ...known, ...NOTHING_KNOWN };
    const fields = peerFields(peer);
    return { ...known, ...fields, detail: this.#mastership?.roster.voteless(member) || fields.detail };
  }

  /** As the store has it now, whether the core has heard of it or not. */
  get #electorate(): ReturnType<typeof electorateOf> {
    return electorateOf(this.#store.electorate);
  }

  #ownAddress(): string {
    const address = this.#options.address();
    return normalAddress(address) ?? address;
  }

  /** The lowest seq that a member of this master has not acknowledged beyond. */
  #lackedAfter(): Seq | undefined {
    if (this.#state.role.kind !== "master") return undefined;
    const others = this.members().filter(({ state }) => state !== "self");
    return others.length === 0 ? undefined : toSeq(Math.min(...others.map(({ matchSeq }) => matchSeq)));
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}

/** The master, and the own campaign, among the addresses of what there is to complain about. */
const MASTER = "";
const CAMPAIGN = "campaign";

const NOTHING_KNOWN = { matchSeq: toSeq(0), appliedSeq: toSeq(0), lagRecords: 0, lagMs: 0, detail: "" };

function peerFields({
  state,
  matchSeq,
  appliedSeq,
  lagRecords,
  lagMs,
  detail,
}: PeerView): Omit<MemberView, "nodeId" | "address" | "voter" | "source"> {
  return { state, matchSeq, appliedSeq, lagRecords, lagMs, detail };
}

function timeout(message: string): ReplicationError {
  return new ReplicationError("timeout", message);
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
}

function rejectionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}

function listedAddress(text: string): string {
  const address = normalAddress(text);
  if (address !== undefined) return address;
  throw new ReplicationError(
    "invalid_address",
    `${JSON.stringify(text)} in the list of replicas is no address; write host:port, with an IPv6 host in brackets`,
  );
}
