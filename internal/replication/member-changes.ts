/** Changes of the members, one after the other: each looks at those that the one before has left. */
import type { Seq } from "../base/position.js";
import { ReplicationError } from "./replication-error.js";
import type { Member, ReplicatedStore } from "./store-port.js";

export interface MemberChangesOptions {
  readonly store: ReplicatedStore;
  /** Of the epoch's first record, which may change the voters too. */
  readonly firstSeq: Seq;
  /** What a majority of the voters keeps. */
  readonly majoritySeq: () => Seq;
}

export class MemberChanges {
  readonly #options: MemberChangesOptions;
  /** The end of the queue. */
  #queued: Promise<unknown> = Promise.resolve();
  /** The last record that changed the voters, and whether a majority of those that it left was seen to keep it. */
  #voters: { readonly seq: Seq; isKept: boolean };
  /** Why there are no more. */
  #ended: ReplicationError | undefined;

  constructor(options: MemberChangesOptions) {
    this.#options = options;
    this.#voters = { seq: options.firstSeq, isKept: false };
  }

  /** Makes changes when those before are done. */
  queue<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#queued.then(() => {
      if (this.#ended) throw this.#ended;
      return change();
    });
    this.#queued = changed.catch(() => undefined);
    return changed;
  }

  /**
   * Resolves once the member is committed. One change of the voters at a time, each committed, and kept by a majority of the
   * voters that it left, before the next, however little it takes to commit: only then any two majorities that follow on each
   * other share a node.
   */
  async propose(member: Member): Promise<void> {
    const { members, electorate } = this.#options.store;
    if (votersOf(members) !== votersOf(electorate.members)) {
      const detail = "a change of the voters is under way, and not committed yet; try again";
      throw new ReplicationError("refused", detail);
    }
    const others = members.filter(({ nodeId }) => nodeId !== member.nodeId);
    const isChange = votersOf([...others, member]) !== votersOf(members);
    if (isChange && !this.mayChangeVoters()) {
      const detail =
        "a majority of the voters does not keep the last change of them yet; see that it is connected, and try again";
      throw new ReplicationError("refused", detail);
    }
    const { seq } = await this.#options.store.proposeMember(member);
    if (isChange) this.#voters = { seq, isKept: false };
  }

  /** To be asked whenever something has happened: once seen it stays true, though a voter's disk may be lost later. */
  mayChangeVoters(): boolean {
    this.#voters.isKept ||= this.#options.majoritySeq() >= this.#voters.seq;
    return this.#voters.isKept;
  }

  end(error: ReplicationError): void {
    this.#ended ??= error;
  }
}

/** Equal of equal sets of voters. */
function votersOf(members: readonly Member[]): string {
  const voters = members.filter(({ voter, removed }) => voter && !removed).map(({ nodeId }) => nodeId);
  return voters.sort().join();
}
