import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import type { KeyedEntry } from "../engine/engine.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { readNodeFile } from "./node-file.js";
import { PIN_IDLE_MS, PINS_MAX } from "./pins.js";
import { BackupError, checkBackup, restoreBackup, type RestoreSummary } from "./restore.js";
import type { ProducedRecord, Store, StoreOptions, WriteCommand } from "./store.js";
import { beginSoleMastership, bytes, openStore, seededRandom, seq, text } from "./testing/stores.js";

const set = (key: string, value: string, ttlMs?: number): WriteCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes(value),
  ...(ttlMs !== undefined && { ttlMs }),
});

async function soleMaster(options: Partial<StoreOptions> = {}): Promise<Store> {
  const store = await openStore({ segmentBytesMax: 4096, ...options });
  await beginSoleMastership(store);
  return store;
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

const backUp = (store: Store): Promise<Buffer> => collect(store.backup().bytes);

async function* pieces(file: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += size) yield file.subarray(at, at + size);
}

interface Restored {
  readonly fileSystem: MemoryFileSystem;
  readonly summary: RestoreSummary;
  readonly store: Store;
}

async function restore(
  file: Uint8Array,
  options: Partial<StoreOptions> & { keepClusterId?: boolean } = {},
): Promise<Restored> {
  const { keepClusterId = false, ...storeOptions } = options;
  const fileSystem = new MemoryFileSystem();
  const summary = await restoreInto(fileSystem, file, keepClusterId);
  const store = await openStore({ fileSystem, random: seededRandom(99), segmentBytesMax: 4096, ...storeOptions });
  await beginSoleMastership(store);
  return { fileSystem, summary, store };
}

function restoreInto(fileSystem: MemoryFileSystem, file: Uint8Array, keepClusterId = false): Promise<RestoreSummary> {
  return restoreBackup({
    fileSystem,
    clock: new FakeClock(),
    random: seededRandom(7),
    logger: silentLogger,
    engine: new MapEngine(),
    read: () => pieces(file),
    keepClusterId,
    recordSegmentBytesMax: 4096,
  });
}

/** Everything that a client could see but the present position, and more. */
async function content(store: Store, engine: MapEngine): Promise<{ entries: object[]; records: ProducedRecord[] }> {
  const entries: object[] = [];
  const walk = engine.walk(seq(Number.MAX_SAFE_INTEGER));
  for (let step = walk.next(); !step.done; step = walk.next()) entries.push(printable(step.value));
  const records: ProducedRecord[] = [];
  const { start, end } = store.recordRange();
  for (let offset = start; offset < end;) {
    const page = await store.consume(offset, 1 << 20, 1000);
    records.push(...page.records);
    offset += page.records.length;
  }
  entries.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return { entries, records };
}

const printable = ({ key, value, ...numbers }: KeyedEntry): object => ({
  key: text(key),
  value: text(value),
  ...numbers,
});

describe("a backup and its restoration", () => {
  test("give everything back, as a new cluster", async () => {
    const clock = new FakeClock();
    const engine = new MapEngine();
    const store = await soleMaster({ clock, engine });
    for (let i = 0; i < 200; i++) await store.write([set(`key-${i % 30}`, `value ${i}`), set(`short-${i}`, "x", 5000)]);
    await store.write([{ kind: "delete", key: bytes("key-3") }]);
    for (let i = 0; i < 100; i++) await store.produce([bytes(`record ${i}`), bytes("")]);
    await store.truncateRecords(37);
    const before = await content(store, engine);
    const { token } = store.readPoint();
    const file = await backUp(store);

    const restoredEngine = new MapEngine();
    const { store: restored, summary } = await restore(file, { clock, engine: restoredEngine });
    expect(await content(restored, restoredEngine)).toEqual(before);
    expect(restored.recordRange()).toEqual({ start: 37, end: 200 });
    expect(summary.keys).toBe(before.entries.length);
    expect(summary.backup.end).toMatchObject({ producedRecords: 163 });
    expect(restored.clusterId).toBe(summary.clusterId);
    expect(restored.clusterId).not.toBe(store.clusterId);
    expect(restored.nodeId).not.toBe(store.nodeId);
    expect(restored.members).toEqual([]);
    expect(restored.compactSeq).toBe(store.appliedSeq);
    const again = { after: seq(0), limit: 10, maxBytes: 1000, waitMs: 0, signal: new AbortController().signal };
    await expect(restored.updates({ ...again, afterToken: token })).rejects.toMatchObject({ code: "lineage_lost" });
    await expect(restored.updates(again)).rejects.toMatchObject({ code: "out_of_range" });

    // It goes on as any other node.
    await restored.write([set("key-0", "after")]);
    expect((await restored.produce([bytes("next")])).firstOffset).toBe(200);
    expect(restored.appliedSeq).toBe(store.appliedSeq + 3);
    await restored.createSnapshot();
    await restored.close();
    await store.close();
  });

  test("may keep the cluster, with its chains, and begin far beyond its epochs", async () => {
    const store = await soleMaster();
    await store.write([set("a", "1")]);
    for (let i = 0; i < 100; i++) await store.produce([bytes(`record ${i}`)]);
    await store.truncateRecords(60);
    const { token } = store.readPoint();
    const file = await backUp(store);
    const mark = await store.mark(store.appliedSeq);

    const { store: restored } = await restore(file, { keepClusterId: true });
    expect(restored.clusterId).toBe(store.clusterId);
    expect(restored.nodeId).not.toBe(store.nodeId);
    expect(await restored.mark(mark.seq)).toEqual(mark);
    expect(restored.history.starts.slice(0, -1)).toEqual(store.history.starts);
    expect(restored.history.last!.epoch).toBeGreaterThan(1_000_000);
    expect(restored.recordRange()).toEqual({ start: 60, end: 100 });
    // Tokens of the cluster stay good.
    const request = { after: seq(0), limit: 10, maxBytes: 1000, waitMs: 0, signal: new AbortController().signal };
    expect((await restored.updates({ ...request, afterToken: token })).events).toEqual([]);
    await restored.close();
    await store.close();
  });

  test("give a node the vote of its cluster, be it a new one or the same", async () => {
    const store = await soleMaster();
    const file = await backUp(store);
    await store.close();
    for (const keepClusterId of [true, false]) {
      const fileSystem = new MemoryFileSystem();
      const { nodeId } = await restoreInto(fileSystem, file, keepClusterId);
      const { promised } = (await readNodeFile(fileSystem))!;
      expect(promised).toMatchObject({ candidate: nodeId });
      expect(promised.epoch > 1_000_000).toBe(keepClusterId);
    }
  });

  test("work for a store that holds next to nothing", async () => {
    const store = await soleMaster();
    const { store: restored } = await restore(await backUp(store));
    expect(restored.status().keys).toBe(0);
    expect(restored.recordRange()).toEqual({ start: 0, end: 0 });
    expect((await restored.produce([bytes("first")])).firstOffset).toBe(0);
    await restored.close();
    await store.close();
  });

  test("survive a second backup of what was restored, truncated to its end", async () => {
    const store = await soleMaster();
    for (let i = 0; i < 20; i++) await store.produce([bytes(`record ${i}`)]);
    await store.truncateRecords(20);
    const first = await restore(await backUp(store));
    const second = await restore(await backUp(first.store));
    expect(second.store.recordRange()).toEqual({ start: 20, end: 20 });
    expect((await second.store.produce([bytes("next")])).firstOffset).toBe(20);
    for (const opened of [store, first.store, second.store]) await opened.close();
  });

  test("give the state at one moment, while keys and records go on changing", async () => {
    const store = await soleMaster({ pendingBytesMax: 1 << 26 });
    for (let i = 0; i < 40; i++) await store.write([set(`key-${i}`, "x".repeat(50_000))]);
    for (let i = 0; i < 20; i++) await store.produce([bytes("y".repeat(50_000))]);
    const backup = store.backup();
    const all: Uint8Array[] = [];
    let writes = 0;
    for await (const piece of backup.bytes) {
      all.push(piece);
      for (let i = 0; i < 5; i++) {
        await store.write([set(`key-${(writes * 7) % 50}`, `late-${writes}`), set("count", String(++writes))]);
        await store.produce([bytes(String(writes))]);
      }
      await store.truncateRecords(writes);
      await store.createSnapshot();
    }
    expect(writes).toBeGreaterThan(50);
    const { store: restored, summary } = await restore(Buffer.concat(all));
    // Each write came with a record: one state has as many of the one as of the other.
    const count = restored.get(bytes("count"));
    const found = count ? Number(text(count.value)) : 0;
    expect(summary.backup.state.to.seq).toBeGreaterThanOrEqual(backup.header.position.seq);
    expect(restored.recordRange().end - 20).toBeGreaterThanOrEqual(found - 1);
    expect(restored.recordRange().end - 20).toBeLessThanOrEqual(found);
    await restored.close();
    await store.close();
  });

  const command = fc.oneof(
    fc.record({ kind: fc.constant("set" as const), key: fc.nat(8), length: fc.nat(300), ttl: fc.option(fc.nat(50)) }),
    fc.record({ kind: fc.constant("delete" as const), key: fc.nat(8) }),
    fc.record({
      kind: fc.constant("produce" as const),
      lengths: fc.array(fc.nat(300), { minLength: 1, maxLength: 4 }),
    }),
    fc.record({ kind: fc.constant("truncate" as const), permille: fc.nat(1000) }),
    fc.record({ kind: fc.constant("snapshot" as const) }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(40) }),
  );

  test("are the same as the store, whatever was done to it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 40 }), fc.boolean(), async (commands, keepClusterId) => {
        const clock = new FakeClock();
        const engine = new MapEngine();
        const store = await soleMaster({ clock, engine, segmentBytesMax: 512, recordSegmentBytesMax: 512 });
        for (const step of commands) {
          if (step.kind === "set")
            await store.write([set(`k${step.key}`, "v".repeat(step.length), (step.ttl ?? 0) + 1)]);
          else if (step.kind === "delete") await store.write([{ kind: "delete", key: bytes(`k${step.key}`) }]);
          else if (step.kind === "produce")
            await store.produce(step.lengths.map((length) => bytes("r".repeat(length))));
          else if (step.kind === "snapshot") await store.createSnapshot();
          else if (step.kind === "wait") clock.advance(step.ms);
          else {
            const { start, end } = store.recordRange();
            await store.truncateRecords(start + Math.floor(((end - start) * step.permille) / 1000));
          }
        }
        // From here on nothing falls due any more, and what is due is gone.
        clock.advance(1000);
        while (engine.nextDueMs < Infinity) await new Promise((resolve) => setImmediate(resolve));
        const before = await content(store, engine);
        const restoredEngine = new MapEngine();
        const file = await backUp(store);
        const { store: restored } = await restore(file, { clock, engine: restoredEngine, keepClusterId });
        expect(await content(restored, restoredEngine)).toEqual(before);
        expect(restored.recordRange()).toEqual(store.recordRange());
        expect(restored.masterTimeMs()).toBeGreaterThanOrEqual(store.masterTimeMs());
        await restored.close();
        await store.close();
      }),
      { numRuns: 60 },
    );
  });
});

describe("a file that is not what was sent", () => {
  async function sample(): Promise<Buffer> {
    const store = await soleMaster();
    for (let i = 0; i < 30; i++) await store.write([set(`key-${i}`, `value ${i}`)]);
    for (let i = 0; i < 10; i++) await store.produce([bytes(`record ${i}`)]);
    await store.createSnapshot();
    await store.write([set("late", "1")]);
    const file = await backUp(store);
    await store.close();
    return file;
  }

  test("is refused, whichever bit of it is wrong, before anything is written", async () => {
    const file = await sample();
    for (let bit = 0; bit < file.length * 8; bit += 7) {
      const damaged = Buffer.from(file);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const fileSystem = new MemoryFileSystem();
      const error: unknown = await restoreInto(fileSystem, damaged).catch((reason: unknown) => reason);
      expect(error, `bit ${bit}`).toBeInstanceOf(BackupError);
      expect((error as BackupError).offset, `bit ${bit}`).toBeLessThanOrEqual(bit >> 3);
      expect(fileSystem.paths()).toEqual([]);
    }
  });

  test("is refused when it is cut, at any byte, or when something follows", async () => {
    const file = await sample();
    for (let length = 0; length < file.length; length++) {
      await expect(checkBackup(pieces(file.subarray(0, length), 1 << 20)), `${length} bytes`).rejects.toThrow(
        BackupError,
      );
    }
    await expect(checkBackup(pieces(Buffer.concat([file, Buffer.alloc(1)])))).rejects.toThrow("bytes follow");
    expect((await checkBackup(pieces(file, 1))).bytes).toBe(file.length);
  });

  test("is refused when a part of another backup stands in it", async () => {
    const [one, other] = [await sample(), await sample()];
    expect(one.length).toBe(other.length);
    // The same state has the same bytes but for the salt, which the seeded randomness of the test repeats.
    const store = await soleMaster({ random: seededRandom(5) });
    for (let i = 0; i < 30; i++) await store.write([set(`key-${i}`, `value ${i}`)]);
    const foreign = await backUp(store);
    await store.close();
    const mixed = Buffer.concat([one.subarray(0, 64), foreign.subarray(64)]);
    await expect(checkBackup(pieces(mixed))).rejects.toThrow("damaged between byte 64");
  });

  test("names the damaged place", async () => {
    const file = await sample();
    file[700]! ^= 1;
    await expect(checkBackup(pieces(file))).rejects.toThrow(/damaged between byte \d+ and byte \d+: chunk \d+/);
    await expect(
      checkBackup(pieces(bytes("no backup at all, but long enough to have a header of 64 bytes"), 10)),
    ).rejects.toThrow(/no backup|cut short/);
  });
});

describe("restoring", () => {
  test("goes into an empty directory only", async () => {
    const store = await soleMaster();
    const file = await backUp(store);
    await store.close();
    for (const path of ["node.json", "wal/00000000000000000001.wal", "anything"]) {
      const fileSystem = new MemoryFileSystem();
      fileSystem.setBytes(path, bytes("x"));
      await expect(restoreInto(fileSystem, file)).rejects.toMatchObject({ code: "not_empty" });
      expect(fileSystem.paths()).toEqual([path]);
    }
  });

  test("that the power cuts short leaves nothing that starts with less than all", async () => {
    const engine = new MapEngine();
    const store = await soleMaster({ engine });
    for (let i = 0; i < 10; i++) await store.write([set(`key-${i}`, `value ${i}`)]);
    for (let i = 0; i < 10; i++) await store.produce([bytes(`record ${i}`)]);
    const file = await backUp(store);
    const expected = await content(store, engine);
    await store.close();
    const outcomes = { refused: 0, empty: 0, whole: 0 };
    for (let stop = 0; ; stop++) {
      const fileSystem = new MemoryFileSystem();
      const halves: MemoryFileSystem[] = [];
      let operations = 0;
      fileSystem.onOperation = () => {
        if (operations++ === stop)
          halves.push(fileSystem.copy(), fileSystem.crash(), fileSystem.crash({ names: (n) => n }));
      };
      await restoreInto(fileSystem, file);
      if (halves.length === 0) break;
      for (const half of halves) {
        const found = new MapEngine();
        const opened = await openStore({ fileSystem: half.crash(), engine: found }).catch((error: unknown) => error);
        if (opened instanceof Error) {
          outcomes.refused++;
          continue;
        }
        const restored = opened as Store;
        if (restored.clusterId) {
          outcomes.whole++;
          await beginSoleMastership(restored);
          expect(await content(restored, found)).toEqual(expected);
        } else {
          outcomes.empty++;
          expect(
            half
              .crash()
              .paths()
              .filter((path) => path !== "LOCK"),
          ).toEqual([]);
        }
        await restored.close();
      }
    }
    expect(outcomes.refused).toBeGreaterThan(10);
    expect(outcomes.whole).toBeGreaterThan(0);
  });

  test("says that the directory is half made when the disk is full", async () => {
    const store = await soleMaster();
    for (let i = 0; i < 100; i++) await store.produce([bytes("x".repeat(1000))]);
    const file = await backUp(store);
    await store.close();
    const fileSystem = new MemoryFileSystem();
    fileSystem.capacityBytes = 50_000;
    await expect(restoreInto(fileSystem, file)).rejects.toMatchObject({ code: "unfinished" });
    expect(fileSystem.paths()).not.toContain("node.json");
  });
});

describe("while a backup is sent", () => {
  async function begun(
    clock = new FakeClock(),
  ): Promise<{ store: Store; bytes: AsyncGenerator<Uint8Array>; taken: Uint8Array[] }> {
    const store = await soleMaster({ clock, recordSegmentBytesMax: 4096 });
    for (let i = 0; i < 50; i++) await store.write([set(`key-${i}`, "x".repeat(20_000))]);
    for (let i = 0; i < 50; i++) await store.produce([bytes("y".repeat(1000))]);
    const generator = store.backup().bytes;
    const taken: Uint8Array[] = [];
    for (let i = 0; i < 2; i++) taken.push((await generator.next()).value!);
    return { store, bytes: generator, taken };
  }

  test("what it needs stays, and goes once it is done", async () => {
    const { store, bytes: rest, taken } = await begun();
    const { compactSeq } = store;
    for (let i = 0; i < 3; i++) {
      await store.write([set(`key-${i}`, "z".repeat(20_000))]);
      await store.truncateRecords(20 + i);
      await store.createSnapshot();
    }
    expect(store.compactSeq).toBe(compactSeq);
    const file = Buffer.concat([...taken, await collect(rest)]);
    expect((await checkBackup(pieces(file))).end).toMatchObject({ entries: 50, producedRecords: 50 });
    await store.createSnapshot();
    expect(store.compactSeq).toBeGreaterThan(compactSeq);
    await store.close();
  });

  test("a reader that leaves gives everything back at once", async () => {
    const { store, bytes: rest } = await begun();
    const { compactSeq } = store;
    await rest.return(undefined);
    await store.write([set("key-0", "z".repeat(20_000))]);
    await store.createSnapshot();
    expect(store.compactSeq).toBeGreaterThan(compactSeq);
    await store.close();
  });

  test("a reader that is idle for ten minutes loses its hold, and is told so", async () => {
    const clock = new FakeClock();
    const { store, bytes: rest } = await begun(clock);
    const { compactSeq } = store;
    clock.advance(PIN_IDLE_MS - 1);
    await rest.next();
    clock.advance(PIN_IDLE_MS - 1);
    await rest.next();
    await store.write([set("key-0", "z".repeat(20_000))]);
    await store.createSnapshot();
    expect(store.compactSeq).toBe(compactSeq);
    clock.advance(PIN_IDLE_MS);
    await store.write([set("key-0", "zz".repeat(20_000))]);
    await store.createSnapshot();
    expect(store.compactSeq).toBeGreaterThan(compactSeq);
    await expect(rest.next()).rejects.toMatchObject({ code: "overloaded" });
    await store.close();
  });

  test("a store that closes ends it", async () => {
    const { store, bytes: rest } = await begun();
    await store.close();
    await expect(rest.next()).rejects.toMatchObject({ code: "closing" });
  });

  test("a log that is cut ends it", async () => {
    const { store, bytes: rest } = await begun();
    await store.write([set("a", "1")]);
    store.endMastership();
    await store.cutAfter(seq(store.last.seq - 1));
    await expect(rest.next()).rejects.toMatchObject({ code: "lineage_lost" });
    await store.close();
  });

  test("there are not too many others", async () => {
    const store = await soleMaster();
    await store.write([set("a", "1")]);
    const all = await Promise.all(
      Array.from({ length: PINS_MAX }, async () => {
        const generator = store.backup().bytes;
        await generator.next();
        await generator.next();
        return generator;
      }),
    );
    const oneMore = store.backup().bytes;
    await oneMore.next();
    await expect(oneMore.next()).rejects.toMatchObject({ code: "overloaded" });
    for (const generator of all) await generator.return(undefined);
    expect((await backUp(store)).length).toBeGreaterThan(100);
    await store.close();
  });

  test("a disk without room for a snapshot still gives what the one before and the log hold", async () => {
    const fileSystem = new MemoryFileSystem();
    const engine = new MapEngine();
    const store = await soleMaster({ fileSystem, engine });
    for (let i = 0; i < 10; i++) await store.write([set(`key-${i}`, "x".repeat(10_000))]);
    await expect(
      (async () => {
        fileSystem.capacityBytes = used(fileSystem) + 1000;
        return backUp(store);
      })(),
    ).rejects.toMatchObject({ code: "disk_full" });
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    await store.createSnapshot();
    await store.write([set("late", "1")]);
    fileSystem.capacityBytes = used(fileSystem) + 1000;
    const before = await content(store, engine);
    const file = await backUp(store);
    const restoredEngine = new MapEngine();
    const { store: restored } = await restore(file, { engine: restoredEngine });
    expect(await content(restored, restoredEngine)).toEqual(before);
    await restored.close();
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    await store.close();
  });
});

const used = (fileSystem: MemoryFileSystem): number =>
  fileSystem.paths().reduce((sum, path) => sum + fileSystem.bytes(path).length, 0);
