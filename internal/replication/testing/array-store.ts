/**
 * A store whose log is an array: the simplest thing that keeps the promises of `ReplicatedStore`, with a disk that obeys
 * the test. A record's bytes are a line of JSON.
 */
import { assert, must } from "../../base/assert.js";
import { crc32 } from "../../base/crc32.js";
import { EpochHistory } from "../../base/epoch-history.js";
import {
  type ClusterId,
  clusterId,
  type EpochId,
  nodeId,
  type NodeId,
  type TransferId,
  transferId,
} from "../../base/ids.js";
import {
  epoch as toEpoch,
  type Epoch,
  type EpochMs,
  epochMs,
  type LogMark,
  ORIGIN,
  type Position,
  type Seq,
  seq as toSeq,
} from "../../base/position.js";
import type { StateCheck } from "../core/message.js";
import { StoreError } from "../../store/store.js";
import {
  type EpochChange,
  type EpochPromise,
  INITIAL_SETTINGS,
  type LoggedState,
  type Member,
  type NodeRole,
  type ReplicatedStore,
  type ReplicatedStoreListener,
  type TransferFile,
} from "../store-port.js";

export interface ArrayRecord {
  readonly seq: Seq;
  readonly epoch: Epoch;
  readonly chainBefore: number;
  readonly chain: number;
  readonly text: string;
  /** Of an epoch's first record. */
  readonly start?: { readonly epochId: EpochId; readonly forced: boolean; readonly master: NodeId };
  readonly changes?: readonly EpochChange[];
}

/** What a process leaves behind. */
export interface ArrayDisk {
  readonly nodeId: NodeId;
  readonly initialRole: NodeRole;
  role: NodeRole;
  clusterId: ClusterId | undefined;
  promised: EpochPromise;
  caughtUp: boolean;
  mustCatchUp: boolean;
  records: ArrayRecord[];
  appliedSeq: Seq;
  /** What was cut, a list a cut. */
  diverged: ArrayRecord[][];
  /** Records up to here cannot be read any more, as if they had been removed. */
  compactSeq: Seq;
  incoming: { readonly id: TransferId; readonly size: number; bytes: Buffer } | undefined;
  /** Takes the place of the records when the next process begins. */
  installing: ArrayRecord[] | undefined;
  /** The next process begins with an empty log. */
  settingAside: string | undefined;
  /** What was set aside, a list a time. */
  readonly setAside: ArrayRecord[][];
  setAsideMs: number | undefined;
  /** The state is not what the records say: one bit of it is wrong. */
  rotten: boolean;
}

export function emptyDisk(role: NodeRole, name: number): ArrayDisk {
  return {
    nodeId: nodeId(name.toString(16).padStart(2, "0").repeat(16)),
    initialRole: role,
    role,
    clusterId: undefined,
    promised: { epoch: toEpoch(0) },
    caughtUp: false,
    mustCatchUp: false,
    records: [],
    appliedSeq: toSeq(0),
    diverged: [],
    compactSeq: toSeq(0),
    incoming: undefined,
    installing: undefined,
    settingAside: undefined,
    setAside: [],
    setAsideMs: undefined,
    rotten: false,
  };
}

interface PausedWrite {
  readonly go: () => void;
  readonly reject: (error: Error) => void;
}

type Content = Pick<ArrayRecord, "text" | "start" | "changes">;

export type DiskPace =
  /** Written and kept as soon as the present turn ends. */
  | "prompt"
  /** Written and kept when the test says so. */
  | "told";

export class ArrayStore implements ReplicatedStore {
  readonly disk: ArrayDisk;
  readonly history = new EpochHistory();
  pace: DiskPace = "prompt";
  /** `readTail` knows nothing at or below it. */
  forgottenSeq = toSeq(0);
  /** Set, `appendRecords` and the like refuse. */
  failing: Error | undefined;
  /** So many of the next durable writes find no room. */
  refusals = 0;
  /** While set, the store's slow work (promises, marks, cuts, reads from disk) waits for `release`. */
  held: (() => void)[] | undefined;
  /** Slow reads under way, and the most there have ever been at once. */
  reading = 0;
  readingMost = 0;
  /** All seqs that were ever committed here, to see that they never go back. */
  readonly commits: Seq[] = [];
  readonly masterTimes: EpochMs[] = [];
  /** Files that were found damaged. */
  spoiled = 0;
  /** Whether the process began with what a master had sent. */
  readonly installed: boolean = false;
  /** What is sent to replicas that lack it. */
  #transfer: { readonly bytes: Buffer; readonly seq: Seq } | undefined;
  /** What compaction would ask. */
  lackedAfter: () => Seq | undefined = () => undefined;

  readonly #listeners: ReplicatedStoreListener[] = [];
  readonly #records: ArrayRecord[];
  readonly #proposals: { seq: Seq; resolve: (position: Position) => void; reject: (error: Error) => void }[] = [];
  /** While writes are paused: those that wait for the end of it. */
  #paused: PausedWrite[] | undefined;
  #settled: (() => void)[] = [];
  #expected: StateCheck | undefined;
  #writtenSeq: Seq;
  #keptSeq: Seq;
  #appliedSeq = toSeq(0);
  #applied = NOTHING_LOGGED;
  /** Absent while the log has changed since it was asked for last. */
  #logged: LoggedState | undefined;
  #mastership: Epoch | undefined;
  #busy = false;

  constructor(disk: ArrayDisk, wallMs = 0) {
    this.disk = disk;
    if (disk.installing) {
      const { installing } = disk;
      const diverged = disk.records.filter(({ seq, chain }) => installing[seq - 1]?.chain !== chain);
      if (diverged.length > 0) disk.diverged.push(diverged);
      disk.records = installing;
      disk.compactSeq = disk.appliedSeq = toSeq(installing.length);
      disk.incoming = disk.installing = undefined;
      this.installed = true;
    }
    if (disk.settingAside !== undefined) {
      disk.setAside.push(disk.records);
      disk.setAsideMs = wallMs;
      disk.records = [];
      disk.appliedSeq = disk.compactSeq = toSeq(0);
      disk.incoming = disk.settingAside = undefined;
      disk.caughtUp = disk.rotten = false;
      disk.mustCatchUp = true;
    }
    this.#records = [...disk.records];
    this.#writtenSeq = this.#keptSeq = toSeq(this.#records.length);
    for (const record of this.#records) this.#learnEpoch(record);
    this.#apply(toSeq(Math.min(disk.appliedSeq, this.#records.length)));
  }

  get nodeId(): NodeId {
    return this.disk.nodeId;
  }
  get clusterId(): ClusterId | undefined {
    return this.disk.clusterId;
  }
  get role(): NodeRole {
    return this.disk.role;
  }
  get promised(): EpochPromise {
    return this.disk.promised;
  }
  get caughtUp(): boolean {
    return this.disk.caughtUp;
  }
  get mustCatchUp(): boolean {
    return this.disk.mustCatchUp;
  }
  get setAsideMs(): number | undefined {
    return this.disk.setAsideMs;
  }
  get isEmpty(): boolean {
    return this.#records.length === 0;
  }
  get foundsWhenEmpty(): boolean {
    return this.disk.initialRole === "master";
  }
  get records(): readonly ArrayRecord[] {
    return this.#records;
  }
  get last(): LogMark {
    return this.#records.length === 0 && !this.clusterId ? { ...ORIGIN, chain: 0 } : this.#markAt(this.#records.length);
  }
  get writtenSeq(): Seq {
    return this.#writtenSeq;
  }
  get keptSeq(): Seq {
    return this.#keptSeq;
  }
  get appliedSeq(): Seq {
    return this.#appliedSeq;
  }

  get members(): readonly Member[] {
    return this.#applied.members;
  }
  get settings(): LoggedState["settings"] {
    return this.#applied.settings;
  }
  get electorate(): LoggedState {
    this.#logged ??= this.#records.reduce(loggedAfter, NOTHING_LOGGED);
    return this.#logged;
  }

  get compactSeq(): Seq {
    return this.disk.compactSeq;
  }
  get floorSeq(): Seq {
    return this.disk.compactSeq;
  }

  listen(listener: ReplicatedStoreListener): void {
    this.#listeners.push(listener);
  }

  async foundCluster(): Promise<ClusterId> {
    await this.#durably();
    this.disk.clusterId = clusterId(this.nodeId);
    return this.disk.clusterId;
  }

  async joinCluster(id: ClusterId): Promise<void> {
    assert(!this.disk.clusterId, "a node joins once");
    await this.#durably();
    this.disk.clusterId = id;
  }

  async promise(promise: EpochPromise, role = this.role): Promise<void> {
    assert(promise.epoch >= this.promised.epoch, "a promise never goes back");
    await this.#durably();
    this.disk.promised = promise;
    this.disk.role = role;
  }

  async saveRole(role: NodeRole): Promise<void> {
    await this.#durably();
    this.disk.role = role;
  }

  beginEpoch(
    epoch: Epoch,
    epochId: EpochId,
    { forced = false, changes = [] }: { readonly forced?: boolean; readonly changes?: readonly EpochChange[] } = {},
  ): Seq {
    assert(this.role === "master", "only a master begins an epoch");
    assert(this.promised.epoch === epoch, "an epoch is promised before it begins");
    assert(epoch > this.last.epoch, "an epoch begins once");
    this.#mastership = epoch;
    return this.#append({ text: `epoch ${epoch}`, start: { epochId, forced, master: this.nodeId }, changes });
  }

  endMastership(): void {
    this.#mastership = undefined;
    for (const { reject } of this.#proposals.splice(0)) reject(new StoreError("outcome_unknown", "no longer master"));
    const paused = this.#paused ?? [];
    this.#paused = undefined;
    for (const { reject } of paused) reject(new StoreError("not_master", "not master"));
    this.#tellSettled();
  }

  pauseWrites(): { resume: () => void } {
    assert(this.#paused === undefined, "writes are paused once");
    const waiting: PausedWrite[] = [];
    this.#paused = waiting;
    return {
      resume: () => {
        if (this.#paused !== waiting) return;
        this.#paused = undefined;
        for (const { go } of waiting) go();
      },
    };
  }

  async writesSettled(): Promise<void> {
    if (this.#proposals.length > 0) await new Promise<void>((resolve) => this.#settled.push(resolve));
  }

  get isMaster(): boolean {
    return this.#mastership !== undefined;
  }

  /** A client's write. */
  write(text: string): Seq {
    return this.#append({ text });
  }

  retainLog(lackedAfter: () => Seq | undefined): void {
    this.lackedAfter = lackedAfter;
  }

  proposeMember(member: Member): Promise<Position> {
    return this.#propose({ text: `member ${member.address}`, changes: [{ kind: "member", member }] });
  }

  /** A client's write that waits until it is committed and applied. */
  propose(text: string): Promise<Position> {
    return this.#propose({ text });
  }

  stateCheck(): StateCheck {
    const told = JSON.stringify([this.members, this.settings]);
    const state = this.#records.slice(0, this.#appliedSeq).map(({ text, chain }) => `${text} ${chain}`);
    const checksum = crc32(Buffer.from(`${told} ${state.join()}`)) ^ (this.disk.rotten ? 1 : 0);
    return { seq: this.#appliedSeq, checksum: checksum >>> 0 };
  }

  expectState(check: StateCheck): void {
    this.#expected = check;
    this.#compareState();
  }

  async setAside(reason: string): Promise<void> {
    await this.#durably();
    this.disk.settingAside = reason;
  }

  appendRecords(records: Uint8Array): Seq {
    if (this.failing) throw this.failing;
    assert(!this.#mastership, "a master's log grows by its own writes only");
    assert(!this.#busy, "nothing is appended during a cut");
    for (const record of decode(records)) {
      const { last } = this;
      if (record.seq !== last.seq + 1 || record.chainBefore !== last.chain)
        throw new Error(`record ${record.seq} does not follow`);
      if (record.chain !== chainOf(record)) throw new Error(`record ${record.seq} is damaged`);
      this.#push(record);
    }
    this.#written();
    return this.last.seq;
  }

  async cutAfter(seq: Seq): Promise<void> {
    assert(!this.#mastership, "a master never cuts its log");
    this.#busy = true;
    await this.#durably().finally(() => (this.#busy = false));
    this.disk.diverged.push(this.#records.splice(seq));
    this.disk.records = this.disk.records.slice(0, seq);
    this.history.cutAfter(seq);
    this.#logged = undefined;
    this.#writtenSeq = least(this.#writtenSeq, seq);
    this.#keptSeq = least(this.#keptSeq, seq);
    if (this.#appliedSeq > seq) {
      this.#applied = NOTHING_LOGGED;
      this.#expected = undefined;
      this.#appliedSeq = toSeq(0);
      this.commits.push(seq);
      this.#apply(seq);
    }
  }

  async mark(seq: Seq): Promise<LogMark> {
    await this.#slow();
    this.#assertThere(seq);
    if (seq > this.#records.length) throw new Error(`the log ends at ${this.#records.length}`);
    return this.#markAt(seq);
  }

  markAfter(records: Uint8Array): LogMark {
    const { epoch, seq, chain } = must([...decode(records)].at(-1), "a batch holds records");
    return { epoch, seq, chain };
  }

  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined {
    return afterSeq < Math.max(this.forgottenSeq, this.compactSeq) ? undefined : this.#encoded(afterSeq, maxBytes);
  }

  async readRecords(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    this.reading++;
    this.readingMost = Math.max(this.readingMost, this.reading);
    try {
      await this.#slow();
      if (this.failing) throw this.failing;
      this.#assertThere(afterSeq);
      return this.#encoded(afterSeq, maxBytes);
    } finally {
      this.reading--;
    }
  }

  commit(seq: Seq): void {
    assert(seq <= this.last.seq, `commit ${seq} lies beyond the log's end ${this.last.seq}`);
    if (seq <= this.#appliedSeq) return;
    this.commits.push(seq);
    this.#apply(seq);
  }

  async openTransfer(): Promise<TransferFile> {
    await this.#slow();
    if (this.failing) throw this.failing;
    if (!this.#transfer || this.#transfer.seq < this.compactSeq) {
      const lines = this.#records.slice(0, this.#appliedSeq).map((record) => `${JSON.stringify(record)}\n`);
      this.#transfer = { bytes: Buffer.from(lines.join("")), seq: this.#appliedSeq };
    }
    const transfer = this.#transfer;
    return {
      id: transferOf(transfer.bytes),
      size: transfer.bytes.length,
      read: async (offset, maxBytes) => {
        await this.#slow();
        return transfer.bytes.subarray(offset, offset + maxBytes);
      },
      spoil: () => {
        this.spoiled++;
        this.#transfer = undefined;
      },
    };
  }

  async stageTransfer(id: TransferId, size: number): Promise<number> {
    await this.#durably();
    if (this.disk.incoming?.id !== id) this.disk.incoming = { id, size, bytes: Buffer.alloc(0) };
    return this.disk.incoming.bytes.length;
  }

  async writeTransfer(offset: number, bytes: Uint8Array): Promise<void> {
    const incoming = must(this.disk.incoming, "a transfer has begun");
    if (this.failing) throw this.failing;
    if (offset !== incoming.bytes.length) throw new Error(`the file ends at ${incoming.bytes.length}`);
    incoming.bytes = Buffer.concat([incoming.bytes, bytes]);
    await this.#slow();
  }

  async installTransfer(): Promise<{ readonly damage?: string }> {
    await this.#durably();
    const { id, size, bytes } = must(this.disk.incoming, "a transfer has come");
    if (bytes.length !== size || transferOf(bytes) !== id) {
      this.disk.incoming = undefined;
      return { damage: "a bit is wrong" };
    }
    this.disk.installing = [...decode(bytes)];
    return {};
  }

  async markCaughtUp(): Promise<void> {
    await this.#durably();
    this.disk.caughtUp = true;
    this.disk.mustCatchUp = false;
  }

  observeMasterTime(masterMs: EpochMs): void {
    this.masterTimes.push(masterMs);
  }

  masterTimeMs(): EpochMs {
    return epochMs(1_000_000);
  }

  // ---- what a test does ------------------------------------------------------------------------------------------------

  /** What is applied and kept is compacted away, but for the last `count` of it. */
  compact(count: number): void {
    const seq = Math.min(this.#appliedSeq, this.#keptSeq) - count;
    this.disk.compactSeq = toSeq(Math.max(this.compactSeq, seq));
  }

  /** `write()` has returned for all that was appended. */
  tellWritten(): void {
    if (this.#writtenSeq === this.last.seq) return;
    this.#writtenSeq = this.last.seq;
    for (const listener of this.#listeners) listener.written?.(this.#writtenSeq);
  }

  /** What was written is synced. */
  tellKept(): void {
    if (this.#keptSeq === this.#writtenSeq) return;
    this.#keptSeq = this.#writtenSeq;
    this.disk.records = this.#records.slice(0, this.#keptSeq);
    for (const listener of this.#listeners) listener.kept?.(this.#keptSeq);
  }

  /** The disk is full: what is not written is not in the log after all. */
  drop(): void {
    const firstSeq = toSeq(this.#writtenSeq + 1);
    if (firstSeq > this.last.seq) return;
    this.#records.length = this.#writtenSeq;
    this.history.cutAfter(this.#writtenSeq);
    this.#logged = undefined;
    const lost = this.#proposals.findIndex(({ seq }) => seq >= firstSeq);
    for (const { reject } of lost < 0 ? [] : this.#proposals.splice(lost))
      reject(new StoreError("disk_full", "no room"));
    this.#tellSettled();
    for (const listener of this.#listeners) listener.dropped?.(firstSeq);
  }

  fail(error: Error): void {
    for (const listener of this.#listeners) listener.failed?.(error);
  }

  /** Lets the slow work go on that was held. */
  release(): void {
    const held = this.held ?? [];
    this.held = undefined;
    for (const go of held) go();
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------

  async #propose(content: Content): Promise<Position> {
    if (this.failing) throw this.failing;
    while (this.#paused) {
      await new Promise<void>((go, reject) => must(this.#paused, "it is paused").push({ go, reject }));
    }
    if (!this.#mastership) throw new StoreError("not_master", "not master");
    const seq = this.#append(content);
    return new Promise((resolve, reject) => this.#proposals.push({ seq, resolve, reject }));
  }

  #tellSettled(): void {
    if (this.#proposals.length === 0) for (const settled of this.#settled.splice(0)) settled();
  }

  #compareState(): void {
    const expected = this.#expected;
    if (!expected || expected.seq > this.#appliedSeq) return;
    this.#expected = undefined;
    if (expected.seq < this.#appliedSeq) return;
    const { checksum } = this.stateCheck();
    if (checksum === expected.checksum) return;
    for (const listener of this.#listeners) listener.stateDiffers?.(`at seq ${expected.seq}`);
  }

  #append(content: Content): Seq {
    const epoch = must(this.#mastership, "only a master writes");
    const { seq, chain: chainBefore } = this.last;
    const record = { ...content, seq: toSeq(seq + 1), epoch, chainBefore };
    this.#push({ ...record, chain: chainOf(record) });
    this.#written();
    return record.seq;
  }

  #push(record: ArrayRecord): void {
    this.#records.push(record);
    this.#learnEpoch(record);
  }

  #learnEpoch(record: ArrayRecord): void {
    const { seq, epoch, start } = record;
    if (this.#logged) this.#logged = loggedAfter(this.#logged, record);
    if (!start) return;
    this.history.push({ epoch, epochId: start.epochId, firstSeq: seq, ...(start.forced && { forced: true }) });
  }

  #written(): void {
    if (this.pace === "told") return;
    queueMicrotask(() => {
      this.tellWritten();
      queueMicrotask(() => this.tellKept());
    });
  }

  #apply(upTo: Seq): void {
    while (this.#appliedSeq < upTo) {
      const record = must(this.#records[this.#appliedSeq], "what is committed is in the log");
      const { seq, epoch } = record;
      this.#appliedSeq = seq;
      this.#applyChanges(record);
      this.#compareState();
      if (this.#proposals[0]?.seq === seq) this.#proposals.shift()!.resolve({ epoch, seq });
    }
    this.disk.appliedSeq = this.#appliedSeq;
    this.#tellSettled();
    for (const listener of this.#listeners) listener.applied?.(this.#appliedSeq);
  }

  #applyChanges(record: ArrayRecord): void {
    const { members, settings } = this.#applied;
    this.#applied = loggedAfter(this.#applied, record);
    for (const listener of this.#listeners) {
      if (this.settings !== settings) listener.settingsChanged?.();
      if (this.members !== members) listener.membersChanged?.();
    }
  }

  #markAt(seq: number): LogMark {
    if (seq === 0) return { ...ORIGIN, chain: crc32(Buffer.from(must(this.clusterId, "a log has a cluster"))) };
    const { epoch, chain } = must(this.#records[seq - 1], `record ${seq} is in the log`);
    return { epoch, seq: toSeq(seq), chain };
  }

  #encoded(afterSeq: Seq, maxBytes: number): Uint8Array {
    const lines: Buffer[] = [];
    let bytes = 0;
    for (const record of this.#records.slice(afterSeq, this.#writtenSeq)) {
      const line = Buffer.from(`${JSON.stringify(record)}\n`);
      if (lines.length > 0 && bytes + line.length > maxBytes) break;
      lines.push(line);
      bytes += line.length;
    }
    return Buffer.concat(lines);
  }

  #assertThere(seq: Seq): void {
    if (seq < this.compactSeq) throw new Error(`the log begins after seq ${this.compactSeq}`);
  }

  async #slow(): Promise<void> {
    if (this.held) await new Promise<void>((resolve) => this.held?.push(resolve));
    else await Promise.resolve();
  }

  /** Slow work that writes. */
  async #durably(): Promise<void> {
    await this.#slow();
    if (this.refusals === 0) return;
    this.refusals--;
    throw new Error("ENOSPC: no space left on the disk");
  }
}

const NOTHING_LOGGED: LoggedState = { settings: INITIAL_SETTINGS, members: [] };

/** Who decides once one more record is in the log; the same object where it changes nothing. */
function loggedAfter(before: LoggedState, { start, changes = [] }: ArrayRecord): LoggedState {
  let { settings, members } = before;
  if (
    start &&
    settings.voters === "master" &&
    members.some(({ nodeId, voter }) => voter !== (nodeId === start.master))
  ) {
    members = members.map((member) => ({ ...member, voter: member.nodeId === start.master }));
  }
  for (const change of changes) {
    if (change.kind === "settings") ({ settings } = change);
    else {
      const { member } = change;
      const isKnown = members.some(({ nodeId }) => nodeId === member.nodeId);
      members = isKnown
        ? members.map((other) => (other.nodeId === member.nodeId ? member : other))
        : [...members, member];
    }
  }
  return settings === before.settings && members === before.members ? before : { settings, members };
}

export function* decode(records: Uint8Array): Generator<ArrayRecord> {
  for (const line of Buffer.from(records).toString().split("\n")) if (line) yield JSON.parse(line) as ArrayRecord;
}

function transferOf(bytes: Buffer): TransferId {
  return transferId(crc32(bytes).toString(16).padStart(8, "0").repeat(4));
}

function chainOf({ seq, epoch, text, chainBefore, start }: Omit<ArrayRecord, "chain">): number {
  return crc32(Buffer.from(`${seq} ${epoch} ${text} ${start?.epochId ?? ""}`), chainBefore);
}

function least(a: Seq, b: Seq): Seq {
  return a < b ? a : b;
}
