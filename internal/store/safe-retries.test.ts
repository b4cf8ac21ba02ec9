/** A write that is sent again is not executed again, and gets the answer of the first time, wherever and whenever. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import { epochMs } from "../base/position.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { Proposals } from "./proposals.js";
import { restoreBackup } from "./restore.js";
import { RetryTable } from "./retries.js";
import { attemptOf, RetryGuard } from "./retry-guard.js";
import type { ProduceReceipt, SetCommand, Store, Txn, WriteCommand, WriteOptions, WriteReceipt } from "./store.js";
import {
  applied,
  beginMastership,
  bytes,
  joinReplica,
  openStore,
  push,
  seededRandom,
  seq,
  text,
} from "./testing/stores.js";

const NEVER = new AbortController().signal;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

const set = (key: string, value = "v"): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const del = (key: string): WriteCommand => ({ kind: "delete", key: bytes(key) });
const as = (clientId: string, clientSeq: number, options: WriteOptions = {}): WriteOptions => ({
  ...options,
  retry: { clientId, clientSeq },
});
const read = (store: Store, key: string): string | undefined => {
  const entry = store.get(bytes(key));
  return entry && text(entry.value);
};

async function master(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginMastership(store);
  return store;
}

/** A master that commits nothing by itself after its first record. */
async function stalled(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore(options);
  await beginMastership(store, { commits: false });
  return store;
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** Writes of each kind that is remembered, and what was told of them. */
interface Written {
  readonly set: WriteReceipt;
  readonly batch: WriteReceipt;
  readonly produced: ProduceReceipt;
}

const writeAll = async (store: Store): Promise<Written> => ({
  set: await store.write([set("a", "1")], as("me", 1)),
  batch: await store.write([set("a", "2"), del("a"), set("b")], as("me", 2)),
  produced: await store.produce([bytes("r1"), bytes("r2")], as("me", 3)),
});

/** Sends everything again; nothing may come of it but the same answers. */
async function expectRepeated(store: Store, first: Written, isSameCluster = true): Promise<void> {
  const before = [store.last.seq, store.recordRange().end];
  const again = await writeAll(store);
  expect([store.last.seq, store.recordRange().end]).toEqual(before);
  for (const name of ["set", "batch", "produced"] as const) {
    const { token, ...told } = again[name];
    const { token: firstToken, ...firstTold } = first[name];
    expect(told).toEqual({ ...firstTold, repeated: true });
    if (isSameCluster) expect(token).toEqual(firstToken);
    await store.reachToken(token, NEVER);
  }
}

describe("a write that is sent again", () => {
  test("is answered as it was the first time, and changes nothing", async () => {
    const store = await master();
    const first = await writeAll(store);
    await store.write([set("a", "3")]);
    await expectRepeated(store, first);
    expect([read(store, "a"), first.set.repeated]).toEqual(["3", undefined]);
    await store.close();
  });

  test("of any kind is answered with all that it was told first", async () => {
    const store = await master();
    await store.write([set("a", "1"), set("b", "2")]);
    const key = bytes("n");
    const [min, max] = [-(2n ** 63n), 2n ** 63n - 1n];
    const txn: Txn = {
      compares: [{ key: bytes("a"), comparison: "equal", target: { kind: "value", value: bytes("2") } }],
      then: [],
      else: [set("c", "3") as SetCommand, { kind: "get", key: bytes("c") }, { kind: "get", key: bytes("b") }],
    };
    const sends: readonly (() => Promise<WriteReceipt>)[] = [
      () => store.write([{ kind: "increment", key, delta: 5n, initial: 1n, min, max, ttlMs: 0 }], as("me", 1)),
      () => store.write([{ ...set("a", "4"), wantPrevious: true } as SetCommand], as("me", 2)),
      () => store.transact(txn, as("me", 3)),
      () => store.write([{ kind: "touch", key, ttlMs: 60_000 }], as("me", 4)),
      () => store.write([{ kind: "delete", key: bytes("b"), wantPrevious: true }], as("me", 5)),
      () => store.write([{ kind: "delete-range", range: { start: bytes("a"), end: bytes("d") } }], as("me", 6)),
    ];
    const first: WriteReceipt[] = [];
    for (const send of sends) first.push(await send());
    expect(first.map(({ results }) => results[0])).toMatchObject([
      { sum: 6n },
      { previous: { modSeq: 2 } },
      { existed: false },
      { existed: true },
      { previous: { createSeq: 2 } },
      { deleted: 2 },
    ]);
    expect(first[2]).toMatchObject({
      succeeded: false,
      failedCompares: [0],
      results: [{}, { entry: { modSeq: 5 } }, {}],
    });
    const before = store.last.seq;
    for (const [i, send] of sends.entries())
      expect(structuredClone(await send())).toEqual({ ...structuredClone(first[i]!), repeated: true });
    expect(store.last.seq).toBe(before);
    await store.close();
  });

  test("and was refused for its condition is judged anew", async () => {
    const store = await master();
    const write = (): Promise<WriteReceipt> =>
      store.write([{ ...set("a", "2"), condition: { ifSeq: seq(2) } } as SetCommand], as("me", 1));
    await expect(write()).rejects.toMatchObject({ code: "condition_failed" });
    await store.write([set("a")]);
    expect((await write()).repeated).toBeUndefined();
    // Now the condition does not hold any more, and need not.
    expect(await write()).toMatchObject({ repeated: true });
    await store.close();
  });

  test("as another client's, or under another number, is another write", async () => {
    const store = await master();
    await store.write([set("a")], as("me", 1));
    for (const options of [as("you", 1), as("me", 2), {}]) {
      expect(await store.write([set("a")], options)).toMatchObject({ results: [{ existed: true }] });
    }
    expect(store.last.seq).toBe(5);
    await store.close();
  });

  test("and made no record is judged anew", async () => {
    const store = await master();
    expect(await store.write([del("a")], as("me", 1))).toMatchObject({ results: [{ existed: false }] });
    await store.write([set("a")]);
    const second = await store.write([del("a")], as("me", 1));
    expect([second.results, second.repeated]).toEqual([[{ existed: true }], undefined]);
    expect(await store.write([del("a")], as("me", 1))).toEqual({ ...second, repeated: true });
    await store.close();
  });

  test("below the newest 128 of its client is refused, and not executed", async () => {
    const store = await master();
    for (let clientSeq = 1; clientSeq <= 130; clientSeq++)
      await store.write([set("a", `${clientSeq}`)], as("me", clientSeq));
    await expect(store.write([set("a", "2")], as("me", 2))).rejects.toMatchObject({
      code: "retry_too_old",
      oldestClientSeq: 3,
    });
    expect(await store.write([set("a", "3")], as("me", 3))).toMatchObject({ position: { seq: 4 }, repeated: true });
    expect(read(store, "a")).toBe("130");
    await store.close();
  });

  test("with something else in it is refused, for one of them would be lost without a word", async () => {
    const store = await master();
    await store.write([set("a", "1")], as("me", 1));
    const refused = { code: "retry_differs" };
    await expect(store.write([set("a", "2")], as("me", 1))).rejects.toMatchObject(refused);
    await expect(store.write([del("a")], as("me", 1))).rejects.toMatchObject(refused);
    await expect(store.produce([bytes("1")], as("me", 1))).rejects.toMatchObject(refused);
    expect([read(store, "a"), store.last.seq]).toEqual(["1", 2]);
    await store.close();
  });

  test("and that only a newer version can read the answer of is not executed, and told so", () => {
    const table = new RetryTable();
    const answer = Uint8Array.from([2, 1, 0, 0, 0, 0]);
    table.apply({ kind: "remember", clientId: "me", clientSeq: 1, answer }, seq(5), epochMs(1));
    const guard = new RetryGuard({
      table,
      proposals: new Proposals(),
      clock: new FakeClock(),
      nowMs: () => epochMs(2),
      bytesMax: 1 << 20,
    });
    const attempt = attemptOf({ clientId: "me", clientSeq: 1 }, { kind: "write", commands: [set("a")] });
    expect(() => guard.find(attempt!)).toThrow("was made at seq 5, and its answer cannot be read by this version");
  });

  test("with a text for an id that is no Unicode is known on every node", async () => {
    const store = await master();
    await store.write([set("a")], as("\ud800", 1));
    const replica = await joinReplica(store);
    await push(store, replica);
    replica.commit(replica.last.seq);
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    expect(await store.write([set("a")], as("\ud800", 1))).toMatchObject({ repeated: true });
    await Promise.all([store.close(), replica.close()]);
  });
});

describe("a write that is sent again while the first is in flight", () => {
  test("is answered with it, once it is committed, also where less is enough", async () => {
    const store = await stalled();
    const first = store.write([set("a")], as("me", 1));
    const again = store.write([set("a")], as("me", 1, { acknowledge: "kept" }));
    const produced = store.produce([bytes("r")], as("me", 2));
    const producedAgain = store.produce([bytes("r")], as("me", 2));
    await turn();
    expect(store.last.seq).toBe(3);
    store.commit(seq(3));
    expect(await again).toEqual({ ...(await first), repeated: true });
    expect(await producedAgain).toEqual({ ...(await produced), repeated: true });
    expect(store.last.seq).toBe(3);
    await store.close();
  });

  test("waits no longer than it may, and finds the first also after that one's time is over", async () => {
    const clock = new FakeClock();
    const store = await stalled({ clock });
    const unknown = { code: "outcome_unknown", position: { epoch: 1, seq: 2 } };
    const first = store.write([set("a")], as("me", 1, { timeoutMs: 1000 }));
    const refused = expect(first).rejects.toMatchObject(unknown);
    clock.advance(1000);
    await refused;
    const second = store.write([set("a")], as("me", 1, { timeoutMs: 1000 }));
    const third = store.write([set("a")], as("me", 1));
    const secondRefused = expect(second).rejects.toMatchObject(unknown);
    clock.advance(1000);
    await secondRefused;
    store.commit(seq(2));
    expect(await third).toMatchObject({ position: { seq: 2 }, results: [{ existed: false }], repeated: true });
    expect(store.last.seq).toBe(2);
    await store.close();
  });

  test("has an unknown outcome, as the first has, when the mastership ends", async () => {
    const store = await stalled();
    const sent = [store.write([set("a")], as("me", 1)), store.write([set("a")], as("me", 1))];
    const refused = sent.map((write) =>
      expect(write).rejects.toMatchObject({ code: "outcome_unknown", position: { epoch: 1, seq: 2 } }),
    );
    await turn();
    store.endMastership();
    await Promise.all(refused);
    await store.close();
  });

  test("is executed when the disk had no room for the first", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await master({ fileSystem });
    fileSystem.failNext("write", "ENOSPC");
    const first = expect(store.write([set("a")], as("me", 1))).rejects.toMatchObject({ code: "disk_full" });
    const again = await store.write([set("a")], as("me", 1));
    await first;
    expect([again.repeated, read(store, "a"), store.last.seq]).toEqual([undefined, "v", 2]);
    await store.close();
  });

  test("while writes are held back is not executed again when they go on", async () => {
    const store = await master();
    const pause = store.pauseWrites();
    const sent = [store.write([set("a")], as("me", 1)), store.write([set("a")], as("me", 1))];
    pause.resume();
    expect((await Promise.all(sent)).map(({ repeated }) => repeated)).toEqual([undefined, true]);
    expect(store.last.seq).toBe(2);
    await store.close();
  });
});

describe("what was answered is known", () => {
  test("after a restart, from the log alone, and from a snapshot and the log after it", async () => {
    const fileSystem = new MemoryFileSystem();
    let store = await master({ fileSystem });
    const first = await writeAll(store);
    const check = store.stateCheck();
    for (const snapshot of [false, true, false]) {
      if (snapshot) await store.createSnapshot();
      await store.close();
      store = await openStore({ fileSystem, segmentBytesMax: 4096 });
      if (store.last.seq === check?.seq) expect(store.stateCheck()).toEqual(check);
      await beginMastership(store);
      await expectRepeated(store, first);
    }
    await store.close();
  });

  test("from a snapshot that was walked while clients wrote, came and went", async () => {
    const clock = new FakeClock();
    const fileSystem = new MemoryFileSystem();
    const options = {
      fileSystem,
      clock,
      segmentBytesMax: 1 << 16,
      retries: { bytesMax: 1 << 20, retentionMs: HOUR_MS },
    };
    const store = await master(options);
    const large = bytes("x".repeat(1000));
    let at = 0;
    const someWrites = async (): Promise<void> => {
      for (let i = 0; i < 30; i++) {
        at++;
        // A large record, so that there are many chunks.
        await store.write([{ kind: "set", key: bytes(`${at % 50}`), value: large }], as(`client ${(at * 7) % 90}`, at));
        clock.advance(MINUTE_MS);
      }
    };
    for (let i = 0; i < 20; i++) await someWrites();
    const snapshot = store.createSnapshot();
    await someWrites();
    await snapshot;
    await someWrites();
    const check = store.stateCheck();
    await store.close();
    const reopened = await openStore(options);
    expect(reopened.stateCheck()).toEqual(check);
    await reopened.close();
  });

  test("on a replica that has followed, and becomes master", async () => {
    const store = await master();
    const first = await writeAll(store);
    const replica = await joinReplica(store);
    await push(store, replica);
    replica.commit(replica.last.seq);
    await replica.markCaughtUp();
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    await store.close();
    await beginMastership(replica, { epoch: 2 });
    await expectRepeated(replica, first);
    await replica.close();
  });

  test("on a replica that was given the whole state, and becomes master", async () => {
    const store = await master();
    const first = await writeAll(store);
    await store.createSnapshot();
    await store.write([set("c")], as("you", 1));
    const fileSystem = new MemoryFileSystem();
    const empty = await joinReplica(store, { fileSystem });
    await empty.promise({ epoch: store.promised.epoch, candidate: store.nodeId });
    const file = await store.openTransfer(NEVER);
    for (let at = await empty.stageTransfer(file.id, file.size); at < file.size;) {
      const piece = await file.read(at, 1000);
      await empty.writeTransfer(at, piece);
      at += piece.length;
    }
    expect(await empty.installTransfer()).toEqual({});
    await empty.close();
    const replica = await openStore({ fileSystem, initialRole: "replica" });
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    await store.close();
    await beginMastership(replica, { epoch: 2 });
    await expectRepeated(replica, first);
    expect(await replica.write([set("c")], as("you", 1))).toMatchObject({ repeated: true });
    await replica.close();
  });

  test("no longer, where the history is lost that it is part of", async () => {
    const store = await master();
    const replica = await joinReplica(store);
    const first = await writeAll(store);
    await store.write([set("c")], as("me", 4));
    await push(store, replica);
    replica.commit(replica.last.seq);
    await replica.markCaughtUp();
    await replica.cutAfter(seq(replica.last.seq - 1));
    await beginMastership(replica, { epoch: 2 });
    await expectRepeated(replica, first);
    const anew = await replica.write([set("c")], as("me", 4));
    expect([anew.repeated, anew.results]).toEqual([undefined, [{ existed: false }]]);
    await Promise.all([store.close(), replica.close()]);
  });

  test.each([true, false])("in a cluster that a backup was restored to (the same one: %s)", async (keepClusterId) => {
    const store = await master();
    const first = await writeAll(store);
    await store.createSnapshot();
    const { bytes: pieces } = store.backup();
    const all: Uint8Array[] = [];
    for await (const piece of pieces) all.push(piece);
    await store.close();
    const fileSystem = new MemoryFileSystem();
    await restoreBackup({
      fileSystem,
      clock: new FakeClock(),
      random: seededRandom(7),
      logger: silentLogger,
      engine: new MapEngine(),
      read: async function* () {
        yield* all;
      },
      keepClusterId,
      recordSegmentBytesMax: 4096,
    });
    const restored = await openStore({ fileSystem });
    await beginMastership(restored);
    await expectRepeated(restored, first, keepClusterId);
    await restored.close();
  });
});

describe("clients that write no more", () => {
  test("are forgotten by a record after the retention, the others stay", async () => {
    const clock = new FakeClock();
    const store = await master({ clock });
    await store.write([set("a")], as("early", 1));
    clock.advance(MINUTE_MS);
    await store.write([set("b")], as("late", 1));
    const replica = await joinReplica(store, { clock });
    await push(store, replica);
    replica.commit(replica.last.seq);
    clock.advance(HOUR_MS - MINUTE_MS - 1);
    await turn();
    expect(store.last.seq).toBe(3);
    const forgotten = applied(store, 4);
    clock.advance(1);
    await forgotten;
    expect(replica.last.seq).toBe(3);
    await push(store, replica);
    replica.commit(replica.last.seq);
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    expect(await store.write([set("b")], as("late", 1))).toMatchObject({ repeated: true });
    const anew = await store.write([set("a")], as("early", 1));
    expect([anew.repeated, anew.results]).toEqual([undefined, [{ existed: true }]]);
    await Promise.all([store.close(), replica.close()]);
  });

  test("are forgotten by the next master too, and by nobody while there is none", async () => {
    const clock = new FakeClock();
    const fileSystem = new MemoryFileSystem();
    const store = await master({ clock, fileSystem });
    await store.write([set("a")], as("early", 1));
    await store.close();
    clock.advance(2 * HOUR_MS);
    const again = await openStore({ clock, fileSystem });
    await turn();
    expect(again.last.seq).toBe(2);
    const forgotten = applied(again, 4);
    await beginMastership(again);
    clock.advance(0);
    await forgotten;
    expect((await again.write([set("a")], as("early", 1))).repeated).toBeUndefined();
    await again.close();
  });

  test("and write again while that is held back stay", async () => {
    const clock = new FakeClock();
    const store = await master({ clock });
    await store.write([set("a")], as("me", 1));
    await store.write([set("a")], as("you", 1));
    const pause = store.pauseWrites();
    const again = store.write([set("b")], as("me", 2));
    clock.advance(HOUR_MS);
    await turn();
    pause.resume();
    await again;
    await applied(store, 5);
    expect(await store.write([set("a")], as("me", 1))).toMatchObject({ repeated: true });
    expect((await store.write([set("a")], as("you", 1))).repeated).toBeUndefined();
    await store.close();
  });

  test("many at a time are forgotten by few records", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, pendingBytesMax: 1 << 24 });
    await Promise.all(Array.from({ length: 5000 }, (_, i) => store.write([set("a")], as(`client ${i}`, 1))));
    const before = store.last.seq;
    const forgotten = applied(store, before + 3);
    clock.advance(HOUR_MS);
    await forgotten;
    expect([store.last.seq, (await store.write([set("a")], as("client 0", 1))).repeated]).toEqual([
      before + 3,
      undefined,
    ]);
    await store.close();
  });
});

describe("when no more may be remembered", () => {
  const retries = { bytesMax: 10_000, retentionMs: HOUR_MS };
  const client = (i: number): string => `client ${String(i).padStart(3, "0")}`;

  /** Lets new clients write, one after the other, until one is refused; gives how many were not. */
  async function fill(store: Store): Promise<number> {
    for (let i = 0; ; i++) {
      try {
        await store.write([set("a", `${i}`)], as(client(i), 1));
      } catch (error) {
        expect(error).toMatchObject({ code: "retries_full", passed: { limit: "retries.max_bytes", maximum: 10_000 } });
        return i;
      }
    }
  }

  test("and all clients have written just now, new ones are refused, and those that are known go on", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, retries });
    const count = await fill(store);
    expect(count).toBeGreaterThan(10);
    const { retryClients, retryBytes } = store.status();
    expect([retryClients, retryBytes > 9000 && retryBytes <= 10_000]).toEqual([count, true]);
    expect(read(store, "a")).toBe(`${count - 1}`);
    for (let i = 0; i < count; i++) {
      expect(await store.write([set("a", `${i}`)], as(client(i), 1))).toMatchObject({ repeated: true });
    }
    expect(await store.write([set("b")])).toMatchObject({ results: [{ existed: false }] });
    await store.close();
  });

  test("those go that have not written for longest, for a minute at least, in the record that needs the room", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, retries });
    const count = await fill(store);
    clock.advance(MINUTE_MS - 1);
    await expect(store.write([set("a")], as("new", 1))).rejects.toMatchObject({ code: "retries_full" });
    clock.advance(1);
    const before = store.last.seq;
    await Promise.all([store.write([set("c")], as("new", 1)), store.write([set("d")], as("newer", 1))]);
    expect(store.last.seq).toBe(before + 2);
    expect(await store.write([set("c")], as("new", 1))).toMatchObject({ repeated: true });
    expect(await store.write([set("d")], as("newer", 1))).toMatchObject({ repeated: true });
    // Two for two.
    expect(await store.write([set("a", "2")], as(client(2), 1))).toMatchObject({ repeated: true });
    expect(await store.write([set("a", `${count - 1}`)], as(client(count - 1), 1))).toMatchObject({ repeated: true });
    const replica = await joinReplica(store, { clock });
    await push(store, replica);
    replica.commit(replica.last.seq);
    expect(replica.stateCheck()).toEqual(store.stateCheck());
    await Promise.all([store.close(), replica.close()]);
  });

  test("a client whose answers fill its window takes the place of its own older ones", async () => {
    const clock = new FakeClock();
    const store = await master({ clock, retries: { ...retries, bytesMax: 128 * 105 + 410 } });
    for (let i = 1; i <= 300; i++) await store.write([set("a", `${i}`)], as("me", i));
    expect(read(store, "a")).toBe("300");
    await store.close();
  });

  test("what a client's own writes in flight push out makes room once only", async () => {
    const clock = new FakeClock();
    const store = await master({
      clock,
      segmentBytesMax: 1 << 20,
      pendingBytesMax: 1 << 24,
      retries: { ...retries, bytesMax: 400_000 },
    });
    await store.write([set("large", "x".repeat(200_000)), set("middle", "x".repeat(100_000))]);
    const reading = (key: string): Txn => ({
      compares: [],
      then: [
        { kind: "get", key: bytes(key) },
        { kind: "set", key: bytes("a"), value: bytes("v") },
      ],
      else: [],
    });
    await store.transact(reading("large"), as("hoarder", 1));
    const own = Array.from({ length: 20 }, (_, i) => store.transact(reading("middle"), as("hoarder", i + 2)));
    const others = Array.from({ length: 20 }, (_, i) => store.transact(reading("middle"), as(client(i), 1)));
    const outcomes = await Promise.allSettled(others);
    await Promise.all(own);
    const made = outcomes.filter(({ status }) => status === "fulfilled");
    expect(made.length * 100_000).toBeLessThan(400_000);
    await store.close();
  });

  test("since the limit was lowered, those go that have not written for a minute", async () => {
    const clock = new FakeClock();
    const fileSystem = new MemoryFileSystem();
    const store = await master({ clock, fileSystem, retries });
    await fill(store);
    await store.close();
    clock.advance(MINUTE_MS);
    const lowered = await openStore({ clock, fileSystem, retries: { ...retries, bytesMax: 5000 } });
    const forgotten = applied(lowered, lowered.last.seq + 2);
    await beginMastership(lowered);
    clock.advance(0);
    await forgotten;
    expect((await lowered.write([set("b")], as("new", 1))).repeated).toBeUndefined();
    await lowered.close();
  });
});
