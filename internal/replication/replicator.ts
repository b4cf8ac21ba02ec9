/**
 * Replication of one node: what the programs and the handlers see of it. The protocol is in `core`, which decides
 * everything about logs; `Driver` carries out what it decides; `Roster` (of a master) and `Registration` (of a replica)
 * see to it that nodes know of each other.
 */
import { unreachable } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { newEpochId, type NodeId, type RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { epoch as toEpoch, type Epoch, type Position, type Seq, seq as toSeq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import { normalAddress } from "./address.js";
import type { ReplicaMessage } from "./core/message.js";
import { newReplicaRole } from "./core/replica.js";
import { type CoreState, EMPTY_LOG, newCoreState } from "./core/state.js";
import { peerAt, type PeerView, stalenessMs } from "./core/view.js";
import type { CommitMode } from "./core/commit.js";
import { Driver, type Report } from "./driver.js";
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

/** Who has taken over. */
export interface TransferResult {
  readonly nodeId: NodeId;
  readonly address: string;
  readonly epoch: Epoch;
  /** How long no writes were taken. */
  readonly pauseMs: number;
}

interface AppliedWaiter {
  readonly seq: Seq;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #store: ReplicatedStore;
  readonly #state: CoreState;
  readonly #driver: Driver;
  readonly #registration: Registration | undefined;
  readonly #listed: readonly string[];
  /** Set while this node is master. */
  #roster: Roster | undefined;
  #masterAddress: string | undefined;
  #appliedWaiters: AppliedWaiter[] = [];
  /** By address: the complaint that was logged last, so that a failure that stays the same is logged once. */
  readonly #complaints = new Map<string, string>();
  #closing = false;

  /** Throws `ReplicationError` `invalid_address` for a listed replica that is none. */
  constructor(options: ReplicatorOptions) {
    const { store, network, clock, random, logger, masterAddress } = options;
    this.#options = options;
    this.#store = store;
    this.#listed = options.listedReplicas.map(listedAddress);
    this.#state = newCoreState({
      self: store.nodeId,
      settings: {
        commit: "master",
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
          : { kind: "idle", why: "this node is a master whose epoch has not begun yet" },
      seed: new DataView(random.bytes(4).slice().buffer).getUint32(0) || 1,
    });
    this.#driver = new Driver({ state: this.#state, store, network, clock, report: (report) => this.#hear(report) });
    this.#registration =
      store.role === "replica" && masterAddress !== undefined
        ? new Registration({
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
          })
        : undefined;
    store.retainLog(() => this.#lackedAfter());
    store.listen({
      applied: (seq) => this.#applied(seq),
      dropped: (firstSeq) => this.#dropped(firstSeq),
      membersChanged: () => this.#roster?.update(),
      failed: (error) => this.#failApplied(error),
    });
  }

  /**
   * On a master: when it resolves, a new epoch is promised, begun and committed, and pushing goes on in the background.
   * Rejects with `StoreError` or `WalError` when the epoch cannot begin. On a replica it resolves at once; registering
   * goes on in the background.
   */
  async start(): Promise<void> {
    if (this.#store.role === "master") await this.#beginMastership();
    else this.#registration?.start();
  }

  /** Closes every connection and session and stops all loops. The store stays open. Idempotent. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const reason = new ReplicationError("closing", "this node is shutting down");
    this.#roster?.end(reason);
    this.#failApplied(reason);
    await this.#registration?.close();
    await this.#driver.close(reason.message);
  }

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
    const { roster, epoch } = this.#mastership();
    const { clusterId } = this.#store;
    if (clusterId === undefined) throw notMaster("this node belongs to no cluster yet");
    if (request.clusterId !== undefined && request.clusterId !== clusterId) {
      throw new ReplicationError(
        "foreign_cluster",
        `node ${request.nodeId} belongs to cluster ${request.clusterId}, this master to ${clusterId}; give the replica an empty directory, or its own master's address`,
      );
    }
    await roster.register(request);
    return { clusterId, masterNodeId: this.#store.nodeId, epoch };
  }

  /**
   * Makes the node at an address a member. Resolves once that is committed. Rejects with `ReplicationError`
   * (`not_master`, `invalid_address`, `unreachable`, `foreign_cluster`, `refused`, `closing`) or as
   * `Store.proposeMember`.
   */
  async addReplica(address: string): Promise<MemberView> {
    return this.#view(await this.#mastership().roster.add(address));
  }

  /**
   * Ends a membership; both fields must fit the same member when both are given. Resolves once that is committed.
   * Rejects with `ReplicationError` (`not_master`, `not_found`, `is_voter`, `closing`) or as `Store.proposeMember`.
   */
  async removeReplica(which: { nodeId?: NodeId; address?: string }): Promise<void> {
    await this.#mastership().roster.remove(which);
  }

  /** What this node says of itself, whatever its role. */
  survey(_asker: Asker): SurveyReply {
    return this.#notBuilt();
  }

  /** A candidate asks for this node's promise. What is granted is durable when it resolves; a refusal is an answer. */
  requestPromise(_request: PromiseRequest): Promise<PromiseReply> {
    return this.#notBuilt();
  }

  /** As `linearizableSeq`, for another node. Rejects with `ReplicationError`: `not_master`, `foreign_cluster`, `closing`. */
  readIndex(_asker: Asker, _signal: AbortSignal): Promise<Position> {
    return this.#notBuilt();
  }

  /**
   * Makes this node the master. Resolves once it serves. Rejects with `ReplicationError`: `no_majority`, `behind`,
   * `not_caught_up`, `closing`; then everything is as it was.
   */
  promote(_options: { readonly force: boolean }): Promise<PromoteResult> {
    return this.#notBuilt();
  }

  /**
   * Hands this mastership over to a member; without a name, to the one that has the most. Resolves once that one serves.
   * Rejects with `ReplicationError`: `not_master`, `not_found`, `no_target`, `handover_failed`, `closing`, and with the
   * signal's reason.
   */
  transfer(
    _which: { readonly nodeId?: NodeId; readonly address?: string },
    _signal: AbortSignal,
  ): Promise<TransferResult> {
    return this.#notBuilt();
  }

  /**
   * The seq that a linearizable read must see, confirmed after this call. Rejects with `ReplicationError`: `not_master` (a
   * replica that knows of no master), `unreachable`, `timeout`, `closing`, and with the signal's reason.
   */
  linearizableSeq(_signal: AbortSignal): Promise<Seq> {
    return this.#notBuilt();
  }

  /**
   * Resolves once all connected voters have acknowledged `seq`; where the vote moves, all connected members. Rejects with
   * `ReplicationError`: `not_master`, `closing`, and with the signal's reason.
   */
  whenReplicated(_seq: Seq, _signal: AbortSignal): Promise<void> {
    return this.#notBuilt();
  }

  /** Records that the master had committed, as far as this node knows, and that are not applied here; of a replica that follows. */
  get lagRecords(): number | undefined {
    return this.#notBuilt();
  }

  /** Whether this node is about to become master. */
  get isCandidate(): boolean {
    return false;
  }

  /** Why this node, which is meant to be master, does not serve yet; empty otherwise. */
  notServing(): string {
    return this.#notBuilt();
  }

  #notBuilt(): never {
    throw new Error("this is not built yet");
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

  // ---- mastership ------------------------------------------------------------------------------------------------------

  async #beginMastership(): Promise<void> {
    const { clock, random, logger } = this.#options;
    const store = this.#store;
    const clusterId = store.clusterId ?? (await store.foundCluster());
    const epoch = toEpoch(Math.max(store.promised.epoch, store.last.epoch) + 1);
    const epochId = newEpochId(random);
    await store.promise({ epoch, candidate: store.nodeId, epochId });
    this.#assertOpen();
    const address = this.#ownAddress();
    const firstSeq = store.beginEpoch(epoch, epochId);
    this.#driver.dispatch({
      kind: "begin",
      clusterId,
      epoch,
      epochId,
      firstSeq,
      address,
      masterTimeOffsetMs: store.masterTimeMs() - clock.monotonicMs(),
    });
    await this.#whenApplied(firstSeq);
    await store.markCaughtUp();
    this.#assertOpen();
    logger.info("mastership begins", { epoch, epoch_id: epochId, first_seq: firstSeq });
    this.#masterAddress = address;
    this.#roster = new Roster({
      store,
      clock,
      logger,
      address,
      listed: this.#listed,
      dispatch: (happening) => this.#driver.dispatch(happening),
      peerAt: (peer) => peerAt(this.#state, peer, this.#nowMs()),
    });
    await this.#roster.start();
  }

  #mastership(): { roster: Roster; epoch: Epoch } {
    this.#assertOpen();
    const { role } = this.#state;
    if (this.#roster && role.kind === "master") return { roster: this.#roster, epoch: role.epoch };
    if (role.kind === "idle") throw notMaster(role.why);
    throw notMaster(role.kind === "master" ? "this node's mastership has not begun yet" : "this node is a replica");
  }

  #stepDown(detail: string): void {
    this.#options.logger.error("this node's mastership has ended; it takes no more writes until it is started again", {
      reason: detail,
    });
    this.#roster?.end(notMaster(detail));
    this.#roster = undefined;
    this.#masterAddress = undefined;
    this.#store.endMastership();
  }

  #whenApplied(seq: Seq): Promise<void> {
    if (this.#store.appliedSeq >= seq) return Promise.resolve();
    return new Promise((resolve, reject) => this.#appliedWaiters.push({ seq, resolve, reject }));
  }

  #applied(upTo: Seq): void {
    for (const { seq, resolve } of this.#appliedWaiters) if (seq <= upTo) resolve();
    this.#appliedWaiters = this.#appliedWaiters.filter(({ seq }) => seq > upTo);
  }

  #dropped(firstSeq: Seq): void {
    const message = "the disk has no room for the first record of a mastership; free some and start the node again";
    this.#failApplied(new StoreError("disk_full", message), firstSeq);
  }

  #failApplied(error: Error, firstSeq = toSeq(0)): void {
    for (const { seq, reject } of this.#appliedWaiters) if (seq >= firstSeq) reject(error);
    this.#appliedWaiters = this.#appliedWaiters.filter(({ seq }) => seq < firstSeq);
  }

  #assertOpen(): void {
    if (this.#closing) throw new ReplicationError("closing", "this node is shutting down; ask another one");
  }

  // ---- what the core reports -------------------------------------------------------------------------------------------

  #hear(report: Report): void {
    const { logger } = this.#options;
    switch (report.kind) {
      case "met":
        return this.#roster?.met(report.address, report.nodeId);
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
        return this.#roster?.refused(report.address, report.reason, report.detail);
      case "unreached":
        this.#complain(report.address, "no connection to a replica", report.detail);
        return this.#roster?.unreached(report.address, report.detail);
      case "stepDown":
        return this.#stepDown(report.detail);
      case "follow":
        this.#complaints.delete(MASTER);
        this.#masterAddress = report.address;
        this.#registration?.followed();
        logger.info("following a master", { address: report.address, node_id: report.nodeId, epoch: report.epoch });
        return;
      case "orphaned":
        this.#registration?.orphaned();
        this.#complain(MASTER, "no master pushes to this node", report.reason);
        return;
      case "restart":
        logger.info("the master's whole state has come; starting anew with it");
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
      if (address !== MASTER && !peerAt(this.#state, address, 0)) this.#complaints.delete(address);
    }
    this.#complaints.set(about, reason);
    this.#options.logger.warn(message, { ...(about !== MASTER && { address: about }), reason });
  }

  // ---- views -----------------------------------------------------------------------------------------------------------

  #view({ nodeId, address, voter, source }: Member): MemberView {
    const known = { nodeId, address, voter, source };
    const { matchSeq, log } = this.#state;
    if (nodeId === this.#store.nodeId) {
      return { ...known, ...NOTHING_KNOWN, state: "self", matchSeq, appliedSeq: log.appliedSeq };
    }
    const peer = peerAt(this.#state, address, this.#nowMs());
    return peer ? { ...known, ...peerFields(peer) } : { ...known, ...NOTHING_KNOWN };
  }

  #ownAddress(): string {
    const address = this.#options.address();
    return normalAddress(address) ?? address;
  }

  /** The lowest seq that a member of this master has not acknowledged beyond. */
  #lackedAfter(): Seq | undefined {
    if (this.#store.role !== "master") return undefined;
    const others = this.members().filter(({ state }) => state !== "self");
    return others.length === 0 ? undefined : toSeq(Math.min(...others.map(({ matchSeq }) => matchSeq)));
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}

/** The master, among the addresses of what there is to complain about. */
const MASTER = "";

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

function notMaster(why: string): ReplicationError {
  return new ReplicationError("not_master", why);
}

function listedAddress(text: string): string {
  const address = normalAddress(text);
  if (address !== undefined) return address;
  throw new ReplicationError(
    "invalid_address",
    `${JSON.stringify(text)} in the list of replicas is no address; write host:port, with an IPv6 host in brackets`,
  );
}
