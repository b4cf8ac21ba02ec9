/**
 * Replication of one node: what the programs and the handlers see of it. The protocol is in `core`, which decides
 * everything about logs; `Driver` carries out what it decides; `Roster` (of a master) and `Registration` (of a replica)
 * see to it that nodes know of each other.
 */
import { unreachable } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { NodeId, RandomSource } from "../base/ids.js";
import { AUDIT, type Logger } from "../base/logger.js";
import { type Epoch, type Position, type Seq, seq as toSeq } from "../base/position.js";
import { normalAddress } from "./address.js";
import { assertPromotable, bidOf, Campaigns } from "./campaigns.js";
import { CAMPAIGN, Complaints, MASTER } from "./complaints.js";
import { contradictions } from "./contradictions.js";
import type { CommitMode } from "./core/commit.js";
import { majorityOf, otherVoters } from "./core/electorate.js";
import type { ReplicaMessage } from "./core/message.js";
import { newReplicaRole } from "./core/replica.js";
import { type CoreState, EMPTY_LOG, newCoreState } from "./core/state.js";
import {
  isServing,
  isUnclaimed,
  lagRecords,
  notServing,
  peerAt,
  type PeerView,
  settledMaster,
  stalenessMs,
} from "./core/view.js";
import { deadlineOf } from "./deadline.js";
import { Driver, type Report } from "./driver.js";
import { firstChanges } from "./first-record.js";
import { handOver, type Target, type TransferResult } from "./handover.js";
import { Mastership } from "./mastership.js";
import { listedView, type MemberView, otherView, ownView } from "./member-view.js";
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
import { Reads } from "./reads.js";
import { Registration } from "./registration.js";
import { ReplicationError } from "./replication-error.js";
import { Resumption } from "./resumption.js";
import type { Member, ReplicatedStore, StorageLimits } from "./store-port.js";
import { Conditions } from "./waiters.js";

export type { MemberView } from "./member-view.js";
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
  /** `storage` of the file; absent: no limits. */
  readonly limits?: StorageLimits;
  /** A master has sent its whole state, and the next start of this node takes it over: close everything, and start anew. */
  readonly restart: () => void;
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

/** A master whose voters are listed need not serve for its start to be over: it may have to wait for them for long. */
const START_MAX_MS = 5000;
/** Whoever promotes a node waits no longer for the epoch's first record to be committed. */
const PROMOTE_MAX_MS = 10_000;

/** A node sets its state aside at most so often. */
const DOUBT_MS = 3_600_000;

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #store: ReplicatedStore;
  readonly #state: CoreState;
  readonly #driver: Driver;
  readonly #registration: Registration;
  readonly #resumption: Resumption;
  readonly #listed: readonly string[];
  readonly #nodes: readonly string[];
  /** Set from the first record of an epoch to its end. */
  #mastership: Mastership | undefined;
  #masterAddress: string | undefined;
  readonly #reads: Reads;
  readonly #campaigns = new Campaigns();
  readonly #complaints: Complaints;
  readonly #conditions = new Conditions();
  /** By number: who waits for this node's promise. */
  readonly #asks = new Map<
    number,
    { readonly resolve: (reply: PromiseReply) => void; readonly reject: (error: Error) => void }
  >();
  #askCount = 0;
  #isHandingOver = false;
  /** The node that was told last to take over. */
  #handedOverTo: string | undefined;
  /** The replicated state may have come to contradict this node's file. */
  #isContradictionDue = true;
  #hasDoubtedMaster = false;
  #closing = false;

  /** Throws `ReplicationError` `invalid_address` for a listed replica, or a node of the cluster, that is none. */
  constructor(options: ReplicatorOptions) {
    const { store, network, clock, random, logger, masterAddress } = options;
    this.#options = options;
    this.#store = store;
    this.#complaints = new Complaints(logger);
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
      prepare: () => bidOf({ store, random, address: this.#ownAddress(), nodes: this.#nodes }),
      firstChanges: (won) =>
        firstChanges(won, {
          self: store.nodeId,
          commit: options.commit,
          limits: options.limits,
          logged: store.isEmpty ? undefined : store.electorate,
        }),
      doubtsItself: (detail) => this.#doubtsItself(detail),
      ticked: () => this.#ticked(),
    });
    this.#reads = new Reads({
      state: this.#state,
      network,
      conditions: this.#conditions,
      confirm: (read) => this.#driver.dispatch({ kind: "confirm", read }),
      ownAddress: () => this.#ownAddress(),
      masterAddress: () => this.#masterAddress,
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
    this.#resumption = new Resumption({
      clock,
      random,
      isMeantToBeMaster: () =>
        store.role === "master" || (this.#nodes.length > 0 && store.isEmpty && store.foundsWhenEmpty),
      isUnclaimed: () => isUnclaimed(this.#state),
      campaign: () => this.#driver.dispatch({ kind: "campaign", cause: "start", forced: false }),
    });
    store.retainLog(() => this.#lackedAfter());
    store.listen({
      applied: (seq) => this.#mastership?.applied(seq),
      dropped: (firstSeq) => this.#mastership?.dropped(firstSeq),
      membersChanged: () => {
        this.#isContradictionDue = true;
        this.#mastership?.roster.update();
      },
      settingsChanged: () => (this.#isContradictionDue = true),
      failed: (error) => this.#mastership?.failed(error),
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
    this.#resumption.start();
    if (this.#store.role !== "master") {
      this.#registration.start();
      return;
    }
    const campaigned = this.#campaigns.outcome();
    this.#driver.dispatch({ kind: "campaign", cause: "start", forced: false });
    const outcome = await campaigned;
    if (outcome.kind === "failed") {
      if (outcome.code === "refused") throw new ReplicationError("refused", outcome.detail);
      return;
    }
    const { serving } = outcome.mastership;
    try {
      if (this.#store.electorate.settings.voters === "master") return await serving;
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
    this.#mastership?.end(reason);
    this.#reads.end(reason);
    this.#conditions.end(reason);
    this.#campaigns.reject(reason);
    for (const { reject } of this.#asks.values()) reject(reason);
    this.#asks.clear();
    this.#resumption.close();
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
    const { clusterId, self, promised } = this.#state;
    // As the store has it: the core knows nothing of the log before something has happened to it.
    const { epoch, seq } = this.#store.last;
    return {
      ...(clusterId !== undefined && { clusterId }),
      nodeId: self,
      promised: {
        epoch: promised.epoch,
        ...(promised.candidate !== undefined && { candidate: promised.candidate }),
      },
      last: { epoch, seq },
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
    return { epoch, seq: await this.#reads.confirmedSeq(signal) };
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
   * Ends a membership, and with it the vote; both fields must fit the same member when both are given. The master itself stays,
   * and so does a voter without which too few of the others would be connected. Resolves once that is committed.
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
    assertPromotable(this.#state.role, this.#store, force);
    const campaigned = this.#campaigns.outcome();
    this.#options.logger.info("this node was asked to become master", { ...AUDIT, force });
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
        ...AUDIT,
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
    return this.#reads.linearizableSeq(signal);
  }

  /**
   * Resolves once all connected voters have acknowledged `seq`; where the vote moves, all connected members. Rejects with
   * `ReplicationError`: `not_master`, `closing`, and with the signal's reason.
   */
  async whenReplicated(seq: Seq, signal: AbortSignal): Promise<void> {
    await this.#serving().whenReplicated(seq, signal);
  }

  /** Somebody will call `whenReplicated` for what is in the log by now: on a master it goes to the replicas as soon as it can. */
  hasten(): void {
    if (this.#mastership) this.#driver.dispatch({ kind: "awaited", seq: this.#store.last.seq });
  }

  /** The members, and on a master the state of replication to each; listed addresses not reached yet included. */
  members(): readonly MemberView[] {
    const members = this.#store.members.filter(({ removed }) => !removed);
    const views = members.map((member) => this.#view(member));
    for (const address of this.#listed) {
      if (members.some((member) => member.address === address)) continue;
      const peer = this.#peerAt(address);
      if (peer) views.push(listedView(address, peer));
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
      const peer = this.#peerAt(address);
      return peer?.state === "streaming" && peer.nodeId === nodeId;
    });
    return connected.length + 1 >= majorityOf(others.length + 1);
  }

  #handOver(address: string): boolean {
    this.#handedOverTo = undefined;
    this.#driver.dispatch({ kind: "handOver", address });
    return this.#handedOverTo === address;
  }

  // ---- mastership ------------------------------------------------------------------------------------------------------

  #begun({ won, firstSeq }: Extract<Report, { kind: "begun" }>): void {
    const { clock, logger } = this.#options;
    this.#registration.followed();
    const mastership = new Mastership(won, firstSeq, {
      state: this.#state,
      store: this.#store,
      clock,
      logger,
      listed: this.#listed,
      nodes: this.#nodes,
      dispatch: (happening) => this.#driver.dispatch(happening),
      markCaughtUp: () => this.#driver.markCaughtUp(),
      serves: () => (this.#masterAddress = won.address),
    });
    this.#mastership = mastership;
    mastership.roster.update();
    this.#campaigns.ended({ kind: "begun", won, mastership });
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
      logger.error(message, { ...AUDIT, reason: detail });
    } else if (mastership) logger.warn("this node's mastership has ended", { ...AUDIT, reason: detail });
    mastership?.end(error);
    this.#store.endMastership();
    this.#reads.end(error);
    if (this.#state.role.kind === "replica") this.#registration.orphaned(masterAddress);
  }

  #campaignFailed({ code, detail, again }: Extract<Report, { kind: "campaignFailed" }>): void {
    const message = again ? "this node cannot become master yet; it tries on" : "this node has not become master";
    this.#complain(CAMPAIGN, message, detail);
    this.#campaigns.ended({ kind: "failed", code, detail });
    if (!again) this.#registration.orphaned();
  }

  #assertOpen(): void {
    if (this.#closing) throw new ReplicationError("closing", "this node is shutting down; ask another one");
  }

  #notMaster(why: string): ReplicationError {
    return new ReplicationError("not_master", why, { masterAddress: this.#masterAddress });
  }

  // ---- what the core reports -------------------------------------------------------------------------------------------

  #ticked(): void {
    this.#mastership?.tick();
    this.#reportContradictions();
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
        this.#complaints.settle(CAMPAIGN);
        return this.#begun(report);
      case "campaignFailed":
        return this.#campaignFailed(report);
      case "stepDown":
        return this.#stepDown(report);
      case "unsaved":
        logger.error("this node could not write down what it has become", { reason: report.detail });
        return;
      case "confirmed":
        return this.#reads.confirmed(report);
      case "handedOver":
        this.#handedOverTo = report.address;
        return;
      case "met":
        return this.#mastership?.roster.met(report.address, report.nodeId);
      case "streaming":
        this.#complaints.settle(report.address);
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
        this.#complaints.settle(MASTER);
        this.#masterAddress = report.address;
        this.#registration.followed(report.address);
        logger.info("following a master", {
          ...AUDIT,
          address: report.address,
          node_id: report.nodeId,
          epoch: report.epoch,
        });
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

  #complain(about: Parameters<Complaints["complain"]>[0], message: string, reason: string): void {
    if (this.#closing) return;
    this.#complaints.keepOnly((address) => this.#peerAt(address) !== undefined);
    this.#complaints.complain(about, message, reason);
  }

  /** The replicated state rules; what this node's file says otherwise is said once, and not of a state that is passing. */
  #reportContradictions(): void {
    if (!this.#isContradictionDue) return;
    const isCurrent = isServing(this.#state) || (settledMaster(this.#state) && this.lagRecords === 0);
    if (!isCurrent) return;
    this.#isContradictionDue = false;
    const { commit, limits } = this.#options;
    const configured = { commit, limits, nodes: this.#nodes };
    for (const sentence of contradictions(configured, this.#store.electorate)) this.#complaints.sayOnce(sentence);
  }

  /**
   * A state that differs is blamed on this node, once. If it differs again soon after it was built anew, the master's may be
   * the wrong one, and to set aside again and again would fill the disk: the log is right all the same, and is followed.
   */
  #doubtsItself(detail: string): boolean {
    const { clock, logger } = this.#options;
    const { setAsideMs } = this.#store;
    if (setAsideMs === undefined || Math.abs(clock.wallMs() - setAsideMs) >= DOUBT_MS) return true;
    if (!this.#hasDoubtedMaster) {
      const message =
        "the state of this node differs from its master's again, soon after it was made anew; the master's own may be the wrong one: take backups of both, and promote another node";
      logger.error(message, { reason: detail });
    }
    this.#hasDoubtedMaster = true;
    return false;
  }

  // ---- views -----------------------------------------------------------------------------------------------------------

  #view(member: Member): MemberView {
    const { matchSeq, log } = this.#state;
    if (member.nodeId === this.#store.nodeId) return ownView(member, { matchSeq, appliedSeq: log.appliedSeq });
    return otherView(member, this.#peerAt(member.address), this.#mastership?.roster.voteless(member) ?? "");
  }

  #peerAt(address: string): PeerView | undefined {
    return peerAt(this.#state, address, this.#options.clock.monotonicMs());
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
