/**
 * How much the store may hold, and what goes to make room: judged by the master alone, before a record is written, by what the
 * engine holds and what is in flight. The record carries its evictions in front of what needs the room, so that every node makes the
 * same room at the same place; carrying it out refuses nothing.
 */
import type { EpochMs } from "../base/position.js";
import { epochMs } from "../base/position.js";
import { accountedBytesOf, type Engine, type EvictionPolicy } from "../engine/engine.js";
import type { Change, Removal } from "./change.js";
import { keyName } from "./overlay.js";
import type { Proposals } from "./proposals.js";
import { type PassedLimit, StoreError } from "./store-error.js";

/** Replicated: whoever is master goes by them. */
export interface StorageLimits {
  /** 0: no limit. */
  readonly entriesMax: number;
  /** Of `accountedBytesOf` all entries; 0: no limit. */
  readonly bytesMax: number;
  readonly policy: "noeviction" | EvictionPolicy;
}

export const NO_LIMITS: StorageLimits = { entriesMax: 0, bytesMax: 0, policy: "noeviction" };

/** What changes add to what is held; negative for what they take away. */
export interface Growth {
  readonly entries: number;
  readonly bytes: number;
  /** Of what is remembered for safe retries, which has a limit of its own. */
  readonly retryBytes?: number;
}

export const NO_GROWTH: Growth = { entries: 0, bytes: 0 };

/** What is to be written: changes with the evictions that make room for them. */
export interface Admitted {
  readonly changes: readonly Change[];
  readonly growth: Growth;
  /** More must go than one record removes: these are evictions alone, and the changes are to be admitted anew after them. */
  readonly isRoomOnly: boolean;
}

/** One record removes no more: neither choosing nor carrying it out must hold up the event loop. */
const EVICTIONS_A_RECORD_MAX = 500;
/** The engine may name keys that are touched by writes in flight; so many in a row, and it has no others. */
const MISSES_MAX = 64;
/** By the master's time: nothing is overdue then. */
const BEFORE_ALL_DEADLINES: EpochMs = epochMs(0);

export interface RoomOptions {
  readonly engine: Engine;
  readonly proposals: Proposals;
  readonly limits: () => StorageLimits | undefined;
}

export class Room {
  readonly #options: RoomOptions;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /** Throws `StoreError` "storage_full" where there is no room, and none may be made; "overloaded" while it is being made. */
  admit(changes: readonly Change[]): Admitted {
    const limits = this.#options.limits();
    if (!limits) return { changes, growth: NO_GROWTH, isRoomOnly: false };
    const sizes = new Map<string, number>();
    const growth = { entries: 0, bytes: 0 };
    for (const change of changes) {
      if (change.kind !== "put" && change.kind !== "delete") continue;
      const name = keyName(change.key);
      const before = sizes.get(name) ?? this.#sizeOf(change.key, name);
      const after = change.kind === "put" ? accountedBytesOf(change.key.length, change.value.length) : 0;
      sizes.set(name, after);
      growth.entries += Number(after > 0) - Number(before > 0);
      growth.bytes += after - before;
    }
    if (growth.entries <= 0 && growth.bytes <= 0) return { changes, growth, isRoomOnly: false };
    assertFits(growth, limits);
    const { evictions, freed, isEnough } = this.#evict(growth, limits, (name) => sizes.has(name));
    if (!isEnough) return { changes: evictions, growth: freed, isRoomOnly: true };
    const total = { entries: growth.entries + freed.entries, bytes: growth.bytes + freed.bytes };
    return {
      changes: evictions.length === 0 ? changes : [...evictions, ...changes],
      growth: total,
      isRoomOnly: false,
    };
  }

  /** What goes where limits were lowered below what is held: one record's worth, none when all is well or nothing may go. */
  excess(): readonly Removal[] {
    const limits = this.#options.limits();
    if (!limits || limits.policy === "noeviction") return [];
    try {
      return this.#evict(NO_GROWTH, limits, () => false).evictions;
    } catch (error) {
      // Whatever could go is gone, and from here on writes that grow are refused; or what is hidden goes, and then it is looked again.
      if (error instanceof StoreError && (error.code === "storage_full" || error.code === "overloaded")) return [];
      throw error;
    }
  }

  /** Chooses what goes for `growth`, as much as one record may remove; and how much less is held then. */
  #evict(
    growth: Growth,
    limits: StorageLimits,
    isSpared: (name: string) => boolean,
  ): { readonly evictions: Removal[]; readonly freed: Growth; readonly isEnough: boolean } {
    const { engine, proposals } = this.#options;
    const evictions: Removal[] = [];
    const freed = { entries: 0, bytes: 0 };
    const chosen = new Set<string>();
    let misses = 0;
    const passed = (): PassedLimit | undefined => {
      const entries = engine.entryCount + proposals.growth.entries + growth.entries + freed.entries;
      const bytes = engine.accountedBytes + proposals.growth.bytes + growth.bytes + freed.bytes;
      const { entriesMax, bytesMax } = limits;
      if (bytesMax > 0 && bytes > bytesMax) return { limit: "storage.max_bytes", maximum: bytesMax, actual: bytes };
      return entriesMax > 0 && entries > entriesMax
        ? { limit: "storage.max_entries", maximum: entriesMax, actual: entries }
        : undefined;
    };
    for (let over = passed(); over; over = passed()) {
      // What a deletion of a range has hidden counts until it is removed, in moments; nobody else's keys go for it.
      if (!engine.isSettled) throw beingMade();
      if (evictions.length === EVICTIONS_A_RECORD_MAX) return { evictions, freed, isEnough: false };
      const victim = limits.policy === "noeviction" ? undefined : engine.victim(limits.policy);
      if (!victim || misses === MISSES_MAX) {
        // How much a range frees that is being removed is known once that is applied, and nothing under it can go before.
        throw proposals.overlay.hasRanges ? beingMade() : full(over, limits.policy);
      }
      const name = keyName(victim.key);
      if (chosen.has(name) || isSpared(name) || proposals.overlay.look(name)) {
        misses++;
        continue;
      }
      misses = 0;
      chosen.add(name);
      evictions.push({ kind: "evict", key: victim.key, modSeq: victim.modSeq });
      freed.entries--;
      freed.bytes -= victim.accountedBytes;
    }
    return { evictions, freed, isEnough: true };
  }

  /** What a key counts for as the writes in flight leave it; 0: it is not there. What is overdue counts until it is removed. */
  #sizeOf(key: Uint8Array, name: string): number {
    const { engine, proposals } = this.#options;
    const inFlight = proposals.overlay.look(name);
    if (inFlight) return inFlight.value ? accountedBytesOf(key.length, inFlight.value.length) : 0;
    const entry = engine.get(key, BEFORE_ALL_DEADLINES);
    return entry ? accountedBytesOf(key.length, entry.value.length) : 0;
  }
}

/** Evicting everything would not help. */
function assertFits({ entries, bytes }: Growth, { entriesMax, bytesMax }: StorageLimits): void {
  const passed =
    bytesMax > 0 && bytes > bytesMax
      ? { limit: "storage.max_bytes", maximum: bytesMax, actual: bytes }
      : entriesMax > 0 && entries > entriesMax
        ? { limit: "storage.max_entries", maximum: entriesMax, actual: entries }
        : undefined;
  if (!passed) return;
  const message = `the write alone needs ${passed.actual}, and ${passed.limit} allows ${passed.maximum} in all; nothing was changed`;
  throw new StoreError("storage_full", message, { passed });
}

function beingMade(): StoreError {
  const message = "room is being made for what is to be stored; nothing was changed, try again shortly";
  return new StoreError("overloaded", message);
}

function full(passed: PassedLimit, policy: StorageLimits["policy"]): StoreError {
  const why = policy === "noeviction" ? "no key is evicted" : `no other key can be evicted (${policy})`;
  return new StoreError(
    "storage_full",
    `the store may hold ${passed.maximum} (${passed.limit}), would hold ${passed.actual}, and ${why} (storage.eviction_policy); nothing was changed; delete keys, or raise the limit`,
    { passed },
  );
}
