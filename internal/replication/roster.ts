/**
 * The master's list of whom to push to: the members of the replicated state, the addresses of the configuration, and
 * those that an operator is adding. What it learns about who is where it proposes as members, one change at a time.
 */
import { AssertionError } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import type { NodeId } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { normalAddress } from "./address.js";
import type { Refusal } from "./core/effect.js";
import { majorityOf } from "./core/electorate.js";
import type { Happening, PeerSpec } from "./core/event.js";
import type { PeerView } from "./core/view.js";
import { MemberChanges } from "./member-changes.js";
import type { RegisterRequest } from "./peer.js";
import type { Seq } from "../base/position.js";
import { ReplicationError } from "./replication-error.js";
import type { LoggedState, Member, MemberSource, ReplicatedStore } from "./store-port.js";

/** A node that is being added must answer within this. */
const ADD_MS = 5000;
/** A member that could not be proposed is proposed again after this. */
const AGAIN_MS = 1000;

export interface RosterOptions {
  readonly store: ReplicatedStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Own, advertised. */
  readonly address: string;
  readonly listed: readonly string[];
  /** The addresses that voters are to have, by the configuration; empty where the vote moves. */
  readonly nodes: readonly string[];
  /** Of the epoch's first record, which changes the voters too. */
  readonly firstSeq: Seq;
  /** What a majority of the voters keeps. */
  readonly majoritySeq: () => Seq;
  readonly dispatch: (happening: Happening) => void;
  readonly peerAt: (address: string) => PeerView | undefined;
}

interface Waiter {
  readonly met: (nodeId: NodeId) => void;
  readonly failed: (error: ReplicationError) => void;
}

/** A node that is to be a member, at an address. */
interface Entry {
  readonly nodeId: NodeId;
  readonly address: string;
  /** For one that is not a member yet. */
  readonly source: MemberSource;
  /** Even if an operator has removed it. */
  readonly readmit: boolean;
  /** Even in the place of a voter. */
  readonly replacesVoter?: boolean;
}

/** A member that is to have a vote once it has this seq. */
interface Elect {
  readonly seq: Seq;
  isProposed: boolean;
}

export class Roster {
  readonly #options: RosterOptions;
  readonly #store: ReplicatedStore;
  /** Addresses that an operator is adding, and how many times over. */
  readonly #invited = new Map<string, number>();
  /** Those who wait to hear who is at an address. */
  readonly #waiters = new Map<string, Set<Waiter>>();
  readonly #changes: MemberChanges;
  readonly #timers = new Set<Timer>();
  readonly #elects = new Map<NodeId, Elect>();
  /** The core was told to push to these. */
  #pushedTo: LoggedState | undefined;
  /** Why nothing more is done. */
  #ended: ReplicationError | undefined;

  constructor(options: RosterOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#changes = new MemberChanges(options);
  }

  /** Enters this node itself, which takes writes by now. When it resolves, that is committed, or will be tried again. */
  async start(): Promise<void> {
    const { address } = this.#options;
    await this.#settle({ nodeId: this.#store.nodeId, address, source: "founder", readmit: true });
    this.update();
  }

  /** Lets go; whoever waits is told `error`. */
  end(error: ReplicationError): void {
    this.#ended ??= error;
    this.#changes.end(error);
    this.#elects.clear();
    for (const timer of this.#timers) timer.cancel();
    for (const waiters of this.#waiters.values()) {
      for (const waiter of waiters) waiter.failed(error);
    }
  }

  /**
   * Whom to push to has changed: tells the core. Members count from the moment that they are in the log, since it may need
   * them to commit the very record that makes them members.
   */
  update(): void {
    if (this.#ended) return;
    this.#pushedTo = this.#store.electorate;
    const { address: own, listed, dispatch } = this.#options;
    const specs = new Map<string, PeerSpec>();
    const removed = new Set<NodeId>();
    const barred = new Set<string>([own]);
    for (const member of this.#store.electorate.members) {
      const { nodeId, address, voter } = member;
      if (nodeId === this.#store.nodeId) continue;
      if (!member.removed) {
        specs.set(address, { address, member: { nodeId, voter: voter && this.#isListed }, invited: false });
      } else if (!isForgotten(member)) {
        removed.add(nodeId);
        barred.add(address);
      }
    }
    for (const address of listed) {
      if (!specs.has(address) && !barred.has(address)) specs.set(address, { address, invited: false });
    }
    for (const address of this.#invited.keys()) specs.set(address, { ...specs.get(address), address, invited: true });
    dispatch({ kind: "peers", peers: [...specs.values()], removed });
  }

  /** Something has happened: there may be others to push to, and whoever is to have a vote may have caught up. */
  tick(): void {
    if (this.#ended) return;
    if (this.#store.electorate !== this.#pushedTo) this.update();
    const mayElect = this.#changes.mayChangeVoters();
    for (const [nodeId, elect] of this.#elects) {
      const member = this.#store.members.find((member) => member.nodeId === nodeId && !member.removed);
      if (!member || member.voter) this.#elects.delete(nodeId);
      else if (!elect.isProposed && mayElect && this.#hasCaughtUp(member, elect)) {
        void this.#giveVote(member, elect);
      }
    }
  }

  /** The voters are listed, and each of them has its own vote. */
  get #isListed(): boolean {
    return this.#store.electorate.settings.voters === "listed";
  }

  /** Why a member has no vote that might have one, in words for an operator; empty otherwise. */
  voteless({ nodeId, address, voter }: Member): string {
    if (voter || !this.#isListed) return "";
    if (this.#elects.has(nodeId)) return "has no vote yet; it gets one once it has caught up";
    if (!this.#options.nodes.includes(address)) return "";
    return `is listed in cluster.nodes and has no vote; give it one: cambium members add ${address}`;
  }

  // ---- what the core reports -------------------------------------------------------------------------------------------

  met(address: string, nodeId: NodeId): void {
    for (const waiter of this.#waiters.get(address) ?? []) waiter.met(nodeId);
    // Whoever adds the address enters the node too.
    if (this.#invited.has(address)) return;
    const source = this.#options.listed.includes(address) ? "listed" : this.#memberAt(address)?.source;
    if (source) void this.#settle({ nodeId, address, source, readmit: false });
  }

  refused(address: string, reason: Refusal, detail: string): void {
    const code = reason === "foreign_cluster" ? "foreign_cluster" : "refused";
    this.#fail(address, new ReplicationError(code, `the node at ${address} cannot follow this master: ${detail}`));
  }

  unreached(address: string, detail: string): void {
    this.#fail(address, new ReplicationError("unreachable", `no node can be reached at ${address}: ${detail}`));
  }

  #fail(address: string, error: ReplicationError): void {
    for (const waiter of this.#waiters.get(address) ?? []) waiter.failed(error);
  }

  // ---- what others ask for ---------------------------------------------------------------------------------------------

  /** Makes whoever is at the address a member. Resolves to it once that is committed. */
  async add(text: string): Promise<Member> {
    if (this.#ended) throw this.#ended;
    const address = checkedAddress(text);
    if (address === this.#options.address) {
      throw new ReplicationError("refused", `${address} is the address of this master itself`);
    }
    const isVoters =
      this.#isListed && (this.#options.nodes.includes(address) || this.#memberAt(address)?.voter === true);
    this.#invited.set(address, (this.#invited.get(address) ?? 0) + 1);
    this.update();
    try {
      const nodeId = await this.#meet(address);
      const member = await this.#enter({ nodeId, address, source: "added", readmit: true, replacesVoter: true });
      if (isVoters && !member.voter) this.#elect(member);
      return member;
    } finally {
      const left = (this.#invited.get(address) ?? 1) - 1;
      if (left > 0) this.#invited.set(address, left);
      else this.#invited.delete(address);
      this.update();
    }
  }

  /** Ends the membership of whoever fits. Resolves once that is committed. */
  remove(which: { nodeId?: NodeId; address?: string }): Promise<void> {
    const address = which.address === undefined ? undefined : (normalAddress(which.address) ?? which.address);
    return this.#changes.queue(async () => {
      const fitting = this.#store.members.filter(
        (member) =>
          !member.removed &&
          (which.nodeId === undefined || member.nodeId === which.nodeId) &&
          (address === undefined || member.address === address),
      );
      const named = [which.nodeId, which.address].filter((name) => name !== undefined).join(" at ");
      if (named === "" || fitting.length === 0) {
        throw new ReplicationError("not_found", `no member is ${named || "named"}; status lists them all`);
      }
      const voter = fitting.find((member) => member.voter);
      if (voter) this.#assertMayLeave(voter);
      for (const member of fitting) await this.#changes.propose({ ...member, voter: false, removed: true });
    });
  }

  /** Makes a node that asks for it a member at its address. Resolves once that is committed. */
  async register(request: RegisterRequest): Promise<void> {
    const { nodeId } = request;
    const address = checkedAddress(request.address);
    if (nodeId === this.#store.nodeId || address === this.#options.address) {
      throw new ReplicationError(
        "refused",
        `node ${nodeId} at ${address} is this master itself; was its directory copied?`,
      );
    }
    await this.#enter({ nodeId, address, source: "registered", readmit: false });
    this.#options.dispatch({ kind: "retry", address });
  }

  // ---- changes ---------------------------------------------------------------------------------------------------------

  /** Hears who is at an invited address. */
  #meet(address: string): Promise<NodeId> {
    const peer = this.#options.peerAt(address);
    if (peer?.state === "streaming" && peer.nodeId !== undefined) return Promise.resolve(peer.nodeId);
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(address) ?? new Set();
      this.#waiters.set(address, waiters);
      const leave = (): void => {
        cancel();
        waiters.delete(waiter);
        if (waiters.size === 0) this.#waiters.delete(address);
      };
      const waiter: Waiter = {
        met: (nodeId) => {
          leave();
          resolve(nodeId);
        },
        failed: (error) => {
          leave();
          reject(error);
        },
      };
      const cancel = this.#after(ADD_MS, () => {
        waiter.failed(new ReplicationError("unreachable", `no node answers at ${address} within ${ADD_MS} ms`));
      });
      waiters.add(waiter);
      this.#options.dispatch({ kind: "retry", address });
    });
  }

  /** Enters a node that was met, however long it takes; nobody waits for it. */
  async #settle(entry: Entry): Promise<void> {
    try {
      await this.#enter(entry);
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      if (this.#ended || (error instanceof ReplicationError && error.code === "removed")) return;
      this.#options.logger.warn("a member could not be entered; trying again", {
        node_id: entry.nodeId,
        address: entry.address,
        reason: error instanceof Error ? error.message : String(error),
      });
      this.#after(AGAIN_MS, () => {
        const own = entry.nodeId === this.#store.nodeId;
        if (own || this.#options.peerAt(entry.address)?.nodeId === entry.nodeId) void this.#settle(entry);
      });
    }
  }

  /** Makes a node a member at its address, in the place of whoever was there. Resolves once that is committed. */
  #enter({ nodeId, address, source, readmit, replacesVoter }: Entry): Promise<Member> {
    return this.#changes.queue(async () => {
      const { members } = this.#store;
      const known = members.find((member) => member.nodeId === nodeId);
      if (known?.removed && !isForgotten(known) && !readmit) {
        const detail = `node ${nodeId} was removed from the cluster; add it again (AddReplica) before it can follow`;
        throw new ReplicationError("removed", detail);
      }
      const others = members.filter((member) => !member.removed && member.address === address && member !== known);
      const voter = others.find((member) => member.voter);
      if (voter && !replacesVoter) {
        const detail = `${address} is the address of voter ${voter.nodeId}; add it again (AddReplica) so that node ${nodeId} takes its place`;
        throw new ReplicationError("refused", detail);
      }
      if (known && !known.removed && known.address === address && others.length === 0) return known;
      if (known && !known.removed && known.address !== address) this.#assertMoved(known, address);
      for (const other of others) {
        this.#options.logger.warn("a member is replaced by another node at its address", {
          address,
          old_node_id: other.nodeId,
          node_id: nodeId,
        });
        await this.#changes.propose({ ...other, voter: false, address: "", removed: true });
      }
      const member: Member = {
        nodeId,
        address,
        // Where the vote moves, it is with the master. A voter that is listed keeps its own, wherever it goes.
        voter: this.#isListed ? (known?.voter ?? false) && !known?.removed : nodeId === this.#store.nodeId,
        source: known && !known.removed ? known.source : source,
        removed: false,
      };
      await this.#changes.propose(member);
      return member;
    });
  }

  /** Without it the other voters must be able to go on; among them they could not take the step back. */
  #assertMayLeave({ nodeId, address }: Member): void {
    const who = `node ${nodeId} at ${address} is a voter, and stays a member`;
    if (nodeId === this.#store.nodeId) {
      throw new ReplicationError("is_voter", `${who}: it is this master; hand the mastership over first`);
    }
    const rest = this.#store.members.filter((member) => member.voter && !member.removed && member.nodeId !== nodeId);
    const away = rest.filter((member) => member.nodeId !== this.#store.nodeId && !this.#isStreaming(member));
    if (rest.length - away.length >= majorityOf(rest.length)) return;
    const detail = `of the ${rest.length} voters that would be left, these are away: ${away.map((member) => member.address).join(", ")}`;
    throw new ReplicationError("is_voter", `${who}: ${detail}; bring them back first`);
  }

  #isStreaming({ nodeId, address }: Member): boolean {
    const peer = this.#options.peerAt(address);
    return peer?.state === "streaming" && peer.nodeId === nodeId;
  }

  /** A node that moves is no longer where it was: two that have one id are copies, and each would speak for the other. */
  #assertMoved(known: Member, address: string): void {
    const peer = this.#options.peerAt(known.address);
    if (known.nodeId === this.#store.nodeId || peer?.nodeId !== known.nodeId || peer.state === "disconnected") return;
    throw new ReplicationError(
      "refused",
      `node ${known.nodeId} follows this master at ${known.address}, and answers at ${address} too; was its directory copied? Stop one of the two, and give that one an empty directory`,
    );
  }

  /** Gives a member a vote once it has what the log holds now. */
  #elect(member: Member): void {
    this.#elects.set(member.nodeId, { seq: this.#store.last.seq, isProposed: false });
    this.#options.logger.info("a node will be a voter once it has caught up", {
      node_id: member.nodeId,
      address: member.address,
    });
    this.tick();
  }

  #hasCaughtUp({ nodeId, address }: Member, { seq }: Elect): boolean {
    const peer = this.#options.peerAt(address);
    return peer?.state === "streaming" && peer.nodeId === nodeId && peer.matchSeq >= seq;
  }

  async #giveVote({ nodeId, address }: Member, elect: Elect): Promise<void> {
    elect.isProposed = true;
    try {
      await this.#changes.queue(async () => {
        const member = this.#store.members.find((member) => member.nodeId === nodeId);
        if (!member || member.removed || member.address !== address || member.voter) return;
        await this.#changes.propose({ ...member, voter: true });
        this.#options.logger.info("a node has become a voter", { node_id: nodeId, address });
      });
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      if (this.#ended) return;
      this.#options.logger.warn("a node could not be made a voter; trying again", {
        node_id: nodeId,
        address,
        reason: error instanceof Error ? error.message : String(error),
      });
      this.#after(AGAIN_MS, () => (elect.isProposed = false));
    }
  }

  #memberAt(address: string): Member | undefined {
    return this.#store.members.find((member) => !member.removed && member.address === address);
  }

  /** Returns what cancels it. */
  #after(delayMs: number, fire: () => void): () => void {
    const timer = this.#options.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      if (!this.#ended) fire();
    });
    this.#timers.add(timer);
    return () => {
      timer.cancel();
      this.#timers.delete(timer);
    };
  }
}

/**
 * Whether a member's place was taken by another node, which no operator asked for: its directory was wiped, most likely.
 * Should it come back, it is as welcome as any node.
 */
function isForgotten({ removed, address }: Member): boolean {
  return removed && address === "";
}

function checkedAddress(text: string): string {
  const address = normalAddress(text);
  if (address !== undefined) return address;
  throw new ReplicationError(
    "invalid_address",
    `${JSON.stringify(text)} is no address; write host:port, with an IPv6 host in brackets`,
  );
}
