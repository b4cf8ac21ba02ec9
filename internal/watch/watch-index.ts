/** Which watches want an event: those that are live, by what they ask for. */
import type { KeyFilter, LoggedEvent } from "../store/store.js";
import { clipped } from "../store/store.js";
import { type KeyInterval, KeyIntervals } from "./key-intervals.js";

/** What a watch asks for. */
export interface Wanted {
  readonly filter?: KeyFilter;
  readonly wantPrevious?: true;
  readonly keysOnly?: true;
}

/** Watches that ask for the same, and so are given the same. */
export interface Group<Member> {
  readonly wanted: Wanted;
  readonly members: Set<Member>;
}

export class WatchIndex<Member> {
  readonly #groups = new Map<string, Group<Member>>();
  /** Groups of one key. */
  readonly #byKey = new Map<string, Group<Member>[]>();
  /** The same, for the ranges that are removed. */
  readonly #keys = new KeyIntervals<Group<Member>>();
  readonly #ranges = new KeyIntervals<Group<Member>>();
  #memberCount = 0;

  get memberCount(): number {
    return this.#memberCount;
  }

  *members(): Generator<Member, undefined> {
    for (const { members } of this.#groups.values()) yield* members;
  }

  add(member: Member, wanted: Wanted): void {
    const name = nameOf(wanted);
    let group = this.#groups.get(name);
    if (!group) {
      group = { wanted, members: new Set() };
      this.#groups.set(name, group);
      this.#begin(group);
    }
    group.members.add(member);
    this.#memberCount++;
  }

  delete(member: Member, wanted: Wanted): void {
    const name = nameOf(wanted);
    const group = this.#groups.get(name);
    if (!group?.members.delete(member)) return;
    this.#memberCount--;
    if (group.members.size > 0) return;
    this.#groups.delete(name);
    this.#end(group);
  }

  /**
   * Adds an event to those that each group wants; gives how many want it. They get one copy together, which outlives the log's
   * memory.
   */
  match(event: LoggedEvent, matched: Map<Group<Member>, LoggedEvent[]>): number {
    if (this.#groups.size === 0) return 0;
    let count = 0;
    let copy: LoggedEvent | undefined;
    const found = (group: Group<Member>): void => {
      copy ??= copied(event);
      const part = clipped(copy, group.wanted.filter);
      if (!part) return;
      const shown = group.wanted.keysOnly && part.value.length > 0 ? { ...part, value: NO_VALUE } : part;
      const wanted = matched.get(group);
      if (wanted) wanted.push(shown);
      else matched.set(group, [shown]);
      count++;
    };
    const key = textOf(event.key);
    if (event.type === "delete-range") {
      const end = event.rangeEnd && textOf(event.rangeEnd);
      this.#keys.overlapping(key, end, false, found);
      this.#ranges.overlapping(key, end, false, found);
    } else {
      this.#byKey.get(key)?.forEach(found);
      if (this.#ranges.size > 0) this.#ranges.overlapping(key, key, true, found);
    }
    return count;
  }

  #begin(group: Group<Member>): void {
    const { filter } = group.wanted;
    if (filter && "key" in filter) {
      const key = textOf(filter.key);
      const same = this.#byKey.get(key);
      if (same) same.push(group);
      else this.#byKey.set(key, [group]);
      this.#keys.add(group, { start: key, end: `${key}\0` });
    } else this.#ranges.add(group, intervalOf(filter));
  }

  #end(group: Group<Member>): void {
    const { filter } = group.wanted;
    this.#ranges.delete(group);
    if (!filter || !("key" in filter)) return;
    this.#keys.delete(group);
    const key = textOf(filter.key);
    const others = this.#byKey.get(key)?.filter((other) => other !== group) ?? [];
    if (others.length > 0) this.#byKey.set(key, others);
    else this.#byKey.delete(key);
  }
}

const NO_VALUE = new Uint8Array(0);

function intervalOf(
  filter: { readonly range: { readonly start: Uint8Array; readonly end?: Uint8Array } } | undefined,
): KeyInterval {
  if (!filter) return { start: "" };
  const { start, end } = filter.range;
  return { start: textOf(start), ...(end && { end: textOf(end) }) };
}

/** One character a byte. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Equal for equal wishes only: no text goes into another. */
function nameOf({ filter, wantPrevious, keysOnly }: Wanted): string {
  const flags = `${wantPrevious ? "p" : ""}${keysOnly ? "k" : ""}`;
  if (!filter) return `${flags}:all`;
  if ("key" in filter) return `${flags}:key:${textOf(filter.key)}`;
  const { start, end } = filter.range;
  return `${flags}:range:${start.length}:${textOf(start)}${end ? `:${textOf(end)}` : ""}`;
}

/** An event that outlives the log's memory. */
export function copied(event: LoggedEvent): LoggedEvent {
  const { key, value, rangeEnd, replaced } = event;
  return {
    ...event,
    key: key.slice(),
    value: value.length > 0 ? value.slice() : NO_VALUE,
    ...(rangeEnd && { rangeEnd: rangeEnd.slice() }),
    ...(replaced && { replaced: replaced.slice() }),
  };
}
