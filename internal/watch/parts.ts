/** Cuts runs of events into the batches that watches are given. */
import { must } from "../base/assert.js";
import type { Position, Seq } from "../base/position.js";
import { bytesOfEvent, type LoggedEvent } from "../store/store.js";
import type { WatchBatch } from "./watch-types.js";

export interface LoggedBatch extends WatchBatch {
  readonly events: readonly LoggedEvent[];
}

/** A batch, and about how many bytes it takes. */
export interface Weighed {
  readonly batch: WatchBatch;
  readonly bytes: number;
}

/** A batch that waits for its watches. */
export interface Part extends Weighed {
  readonly batch: LoggedBatch;
}

/** Counts the bytes of the parts that watches hold, each once, however many hold it. */
export class HeldParts {
  readonly #holders = new Map<Weighed, number>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  hold(part: Weighed): void {
    const holders = this.#holders.get(part) ?? 0;
    if (holders === 0) this.#bytes += part.bytes;
    this.#holders.set(part, holders + 1);
  }

  release(part: Weighed): void {
    const holders = must(this.#holders.get(part), "what is released was held");
    if (holders > 1) {
      this.#holders.set(part, holders - 1);
      return;
    }
    this.#holders.delete(part);
    this.#bytes -= part.bytes;
  }
}

/** Names places in the log. */
export interface Places {
  positionAt(seq: Seq): Position;
  tokenAt(position: Position): Uint8Array;
}

/** Bytes of the events of one batch, at most, but one event at least. */
export const PART_BYTES_MAX = 256 * 1024;
const PART_EVENTS_MAX = 1000;

/**
 * The parts of a run of whole records that ends at `end`. A record that is too large for one part goes through several, which hold nothing else.
 */
export function partsOf(events: readonly LoggedEvent[], end: Seq, places: Places): Part[] {
  const parts: Part[] = [];
  let gathered: LoggedEvent[] = [];
  let bytes = 0;
  const flush = (position: Position, whole: boolean): void => {
    const place = whole ? { position, token: places.tokenAt(position) } : { position, more: true as const };
    parts.push({ batch: { events: gathered, ...place }, bytes });
    gathered = [];
    bytes = 0;
  };
  for (let from = 0; from < events.length;) {
    const { seq } = must(events[from], "the place lies inside").position;
    let to = from;
    let recordBytes = 0;
    for (; events[to]?.position.seq === seq; to++) recordBytes += bytesOfEvent(events[to]!);
    const isFull = bytes + recordBytes > PART_BYTES_MAX || gathered.length + to - from > PART_EVENTS_MAX;
    const isLarge = recordBytes > PART_BYTES_MAX || to - from > PART_EVENTS_MAX;
    const last = gathered.at(-1);
    if (last && (isFull || isLarge)) flush(last.position, true);
    for (; from < to; from++) {
      const event = events[from]!;
      const eventBytes = bytesOfEvent(event);
      const isMore = bytes + eventBytes > PART_BYTES_MAX || gathered.length >= PART_EVENTS_MAX;
      if (isLarge && gathered.length > 0 && isMore) flush(places.positionAt((seq - 1) as Seq), false);
      gathered.push(event);
      bytes += eventBytes;
    }
    // Its own place, not the run's end: what is left of it stays when what follows is cut off.
    if (isLarge) flush(must(gathered.at(-1), "a record has events").position, true);
  }
  if (gathered.length > 0) flush(places.positionAt(end), true);
  return parts;
}

/** The seq of the last event of a batch. */
export function lastSeqOf(batch: WatchBatch): Seq {
  return (batch.events.at(-1)?.position ?? batch.position).seq;
}

/** The record with which a part begins. */
export function firstSeqOf({ batch }: Part): Seq {
  return must(batch.events[0], "a part has events").position.seq;
}

/** A part in two, before its event `at`: what is given, and what is left, of which the first ends the record that is given in part. */
export function splitPart(
  { batch }: Part,
  given: readonly LoggedEvent[],
  places: Places,
): { readonly batch: WatchBatch; readonly rest: readonly Part[] } {
  const last = must(given.at(-1), "something is given").position;
  const left = batch.events.slice(given.length);
  if (left[0]?.position.seq !== last.seq) {
    const rest = [partOf({ ...batch, events: left })];
    return { batch: { events: given, position: last, token: places.tokenAt(last) }, rest };
  }
  const record = left.filter(({ position }) => position.seq === last.seq);
  const others = left.slice(record.length);
  // Its own place, as in `partsOf`.
  const ownPlace = batch.more ? batch : { position: last, token: places.tokenAt(last) };
  const rest = [partOf({ ...ownPlace, events: record })];
  if (others.length > 0) rest.push(partOf({ ...batch, events: others }));
  return { batch: { events: given, position: places.positionAt((last.seq - 1) as Seq), more: true }, rest };
}

/** A batch, and what it counts for. */
export function partOf<Batch extends WatchBatch>(batch: Batch): { readonly batch: Batch; readonly bytes: number } {
  return { batch, bytes: batch.events.reduce((sum, event) => sum + bytesOfEvent(event), 0) };
}
