import { expect, test } from "vitest";
import { epoch, epochMs, seq } from "../base/position.js";
import { encodeRecord, RECORD_HEADER_BYTES } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import { encodeChanges } from "./change.js";
import { SEARCH_BYTES_MAX } from "./log-pages.js";
import { StoreError } from "./store-error.js";
import { readUpdates, type UpdatesRequest, type UpdatesSource } from "./updates.js";
import { beginMastership, bytes, joinReplica, openStore, push, text } from "./testing/stores.js";

/** Twenty records of one epoch, none of which tells clients anything. */
const TWENTY: UpdatesSource = {
  assertReadable: () => undefined,
  compactSeq: () => seq(0),
  appliedSeq: () => seq(20),
  forks: () => [],
  positionAt: (at) => ({ epoch: epoch(1), seq: at }),
  tokenAt: () => new Uint8Array(0),
  read: () => new Uint8Array(0),
  nextApplied: () => Promise.resolve(),
  monotonicMs: () => 0,
  turn: () => Promise.resolve(),
};
const request = { after: seq(3), limit: 10, maxBytes: 1000, waitMs: 0, signal: new AbortController().signal };

test("a place that is compacted away while it is read is out of range, with what is left", async () => {
  let compactSeq = seq(0);
  const source: UpdatesSource = {
    ...TWENTY,
    compactSeq: () => compactSeq,
    read: () => {
      compactSeq = seq(12);
      return Promise.reject(new WalError("out_of_range", "seq 3 is not in the log, which holds 13 to 20"));
    },
  };
  await expect(readUpdates({ request, source })).rejects.toMatchObject({
    code: "out_of_range",
    range: { compactSeq: 12, appliedSeq: 20 },
  });
});

test("nothing is answered once the state is being made anew, whatever was read before", async () => {
  let isRebuilding = false;
  const source: UpdatesSource = {
    ...TWENTY,
    assertReadable: () => {
      if (isRebuilding) throw new StoreError("not_ready", "the state is made anew");
    },
    read: () => {
      isRebuilding = true;
      return new Uint8Array(0);
    },
  };
  await expect(readUpdates({ request, source })).rejects.toMatchObject({ code: "not_ready" });
});

test("what is cut off behind the place that is waited at is no loss for the waiter: it is told what came instead", async () => {
  const old = await openStore();
  await beginMastership(old);
  await old.write([{ kind: "set", key: bytes("kept"), value: bytes("1") }]);
  const after = old.last.seq;
  const replica = await joinReplica(old);
  await push(old, replica);
  const next = await joinReplica(old);
  await push(old, next);
  for (const store of [replica, next]) {
    store.commit(after);
    await store.markCaughtUp();
  }
  // The epoch's first record tells clients nothing: the waiter is past it, and waits on.
  await beginMastership(old, { epoch: 2 });
  await push(old, replica);
  replica.commit(replica.last.seq);
  const { signal } = new AbortController();
  const waiting = replica.updates({ after, limit: 10, maxBytes: 1000, waitMs: 60_000, signal });
  await new Promise((resolve) => setImmediate(resolve));
  await beginMastership(next, { epoch: 3, forced: true });
  await next.write([{ kind: "set", key: bytes("instead"), value: bytes("2") }]);
  await replica.cutAfter(after);
  await push(next, replica);
  replica.commit(replica.last.seq);
  expect((await waiting).events.map(({ key }) => text(key))).toEqual(["instead"]);
  await expect(
    replica.updates({ after: seq(after + 9), limit: 10, maxBytes: 1000, waitMs: 0, signal }),
  ).rejects.toMatchObject({ code: "out_of_range" });
  await Promise.all([old.close(), replica.close(), next.close()]);
});

// ---- filters and the values before -----------------------------------------------------------------------------------

type TestChange = Parameters<typeof encodeChanges>[0][number];
type Told = [type: string, key: string, value: string, previous?: string | true];

const put = (key: string, value: string, previousSeq = 0): TestChange => ({
  kind: "put",
  key: bytes(key),
  value: bytes(value),
  previousSeq: seq(previousSeq),
});

/** A source of these records, from seq 1 on. */
function logOf(records: readonly (readonly TestChange[])[], options: Partial<UpdatesSource> = {}): UpdatesSource {
  let chain = 0;
  const encoded = records.map((changes, i) => {
    const payload = encodeChanges(changes);
    const into = Buffer.alloc(RECORD_HEADER_BYTES + payload.length);
    const about = { seq: seq(i + 1), epoch: epoch(1), timestampMs: epochMs(1000 + i) };
    chain = encodeRecord(into, 0, about, chain, payload);
    return into;
  });
  return {
    ...TWENTY,
    appliedSeq: () => seq(records.length),
    read: (after, maxBytes) => {
      const run: Buffer[] = [];
      let size = 0;
      for (const record of encoded.slice(after)) {
        size += record.length;
        if (run.length > 0 && size > maxBytes) break;
        run.push(record);
      }
      return Buffer.concat(run);
    },
    ...options,
  };
}

async function told(source: UpdatesSource, wanted: Partial<UpdatesRequest> = {}): Promise<Told[]> {
  const page = await readUpdates({ source, request: { ...request, after: seq(0), ...wanted } });
  return page.events.map(({ type, key, rangeEnd, value, previous, previousCompacted }) => {
    const name = rangeEnd ? `${text(key)}..${text(rangeEnd)}` : text(key);
    const before = previousCompacted ?? (previous && text(previous));
    return before === undefined ? [type, name, text(value)] : [type, name, text(value), before];
  });
}

test("a filter lets through its key, or the keys of its range", async () => {
  const source = logOf([
    [put("a", "1"), put("b", "2")],
    [put("ab", "3")],
    [{ kind: "delete", key: bytes("a"), previousSeq: seq(1) }],
  ]);
  expect(await told(source, { filter: { key: bytes("a") } })).toEqual([
    ["put", "a", "1"],
    ["delete", "a", ""],
  ]);
  expect(await told(source, { filter: { range: { start: bytes("ab"), end: bytes("b") } } })).toEqual([
    ["put", "ab", "3"],
  ]);
  expect(await told(source, { filter: { range: { start: bytes("ab") } } })).toEqual([
    ["put", "b", "2"],
    ["put", "ab", "3"],
  ]);
});

test("of a removed range each filter gets its own part", async () => {
  const removed = (start: string, end?: string): TestChange[] => [
    { kind: "delete-range", start: bytes(start), ...(end !== undefined && { end: bytes(end) }) },
  ];
  const source = logOf([removed("b", "f"), removed("d"), removed("x", "z")]);
  const within = (start: string, end?: string) => ({
    filter: { range: { start: bytes(start), ...(end !== undefined && { end: bytes(end) }) } },
  });
  expect(await told(source)).toEqual([
    ["delete-range", "b..f", ""],
    ["delete-range", "d", ""],
    ["delete-range", "x..z", ""],
  ]);
  expect(await told(source, within("a", "c"))).toEqual([["delete-range", "b..c", ""]]);
  expect(await told(source, within("e", "y"))).toEqual([
    ["delete-range", "e..f", ""],
    ["delete-range", "e..y", ""],
    ["delete-range", "x..y", ""],
  ]);
  expect(await told(source, within("f"))).toEqual([
    ["delete-range", "f", ""],
    ["delete-range", "x..z", ""],
  ]);
  expect(await told(source, { filter: { key: bytes("f") } })).toEqual([["delete", "f", ""]]);
  expect(await told(source, { filter: { key: bytes("a") } })).toEqual([]);
});

test("the value before comes from the record that had written it, or is said to be compacted", async () => {
  const records = [
    [put("a", "1"), put("b", "2")],
    [put("a", "3", 1)],
    [put("a", "4", 2), put("a", "5", 3), { kind: "delete", key: bytes("a"), previousSeq: seq(3) } as const],
    [{ kind: "expire", key: bytes("b"), modSeq: seq(1) } as const],
  ];
  const wanted = { wantPrevious: true, after: seq(1) } as const;
  expect(await told(logOf(records), wanted)).toEqual([
    ["put", "a", "3", "1"],
    ["put", "a", "4", "3"],
    ["put", "a", "5", "4"],
    ["delete", "a", "", "5"],
    ["expire", "b", "", "2"],
  ]);
  expect(await told(logOf(records, { compactSeq: () => seq(1) }), wanted)).toEqual([
    ["put", "a", "3", true],
    ["put", "a", "4", "3"],
    ["put", "a", "5", "4"],
    ["delete", "a", "", "5"],
    ["expire", "b", "", true],
  ]);
  expect(await told(logOf(records), { wantPrevious: true, limit: 1 })).toEqual([
    ["put", "a", "1"],
    ["put", "b", "2"],
  ]);
});

test("values before count for the size of a page, and those of one record may be too many", async () => {
  const large = "x".repeat(600);
  const source = logOf([[put("a", large)], [put("b", large)], [put("a", "", 1)], [put("b", "", 2), put("a", "", 3)]]);
  const wanted = { wantPrevious: true, after: seq(2) } as const;
  expect(await told(source, wanted)).toEqual([["put", "a", "", large]]);
  expect(await told(source, { ...wanted, after: seq(3), maxBytes: 700 })).toEqual([
    ["put", "b", "", large],
    ["put", "a", "", ""],
  ]);
  await expect(told(source, { ...wanted, maxBytes: 500 })).rejects.toMatchObject({ code: "too_large" });
});

test("a filter that nothing passes leaves the event loop to others, and gets far along", async () => {
  const value = "v".repeat(64 * 1024);
  const records = Array.from({ length: 300 }, () => [put("other", value)]);
  let nowMs = 0;
  let turns = 0;
  const source = logOf(records, {
    monotonicMs: () => (nowMs += 0.5),
    turn: () => {
      turns++;
      return Promise.resolve();
    },
  });
  const wanted = { ...request, after: seq(0), waitMs: 60_000, filter: { key: bytes("mine") } };
  const page = await readUpdates({ source, request: wanted });
  expect(page.events).toEqual([]);
  // The search ends although there is time left, and says how far it went.
  expect(page.next.seq).toBe(Math.ceil(SEARCH_BYTES_MAX / (64 * 1024 + RECORD_HEADER_BYTES + 20)));
  expect(turns).toBeGreaterThan(page.next.seq / 8);
  const last = await readUpdates({ source, request: { ...wanted, after: page.next.seq, waitMs: 0 } });
  expect(last.next.seq).toBe(300);
});

test("a record that is compacted away while what it wrote is looked up counts as compacted", async () => {
  const whole = logOf([[put("a", "1")], [put("a", "2", 1)]]);
  const source: UpdatesSource = {
    ...whole,
    read: (after, maxBytes) =>
      after === 0 ? Promise.reject(new WalError("out_of_range", "it is gone")) : whole.read(after, maxBytes),
  };
  expect(await told(source, { wantPrevious: true, after: seq(1) })).toEqual([["put", "a", "2", true]]);
});
