import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epochId, nodeId } from "../base/ids.js";
import { epochMs } from "../base/position.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { type Store, StoreError, type UpdatesPage, type WriteCommand } from "./store.js";
import {
  applied,
  beginSoleMastership,
  bytes,
  epoch,
  openStore,
  push,
  seededRandom,
  seq,
  text,
} from "./testing/stores.js";

const set = (key: string, value: string, ttlMs?: number): WriteCommand => ({
  kind: "set",
  key: bytes(key),
  value: bytes(value),
  ...(ttlMs !== undefined && { ttlMs }),
});
const del = (key: string): WriteCommand => ({ kind: "delete", key: bytes(key) });
const read = (store: Store, key: string): string | undefined => {
  store.readPoint();
  const entry = store.get(bytes(key));
  return entry && text(entry.value);
};

async function soleMaster(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore(options);
  await beginSoleMastership(store);
  return store;
}

function updates(store: Store, request: Partial<Parameters<Store["updates"]>[0]> = {}): Promise<UpdatesPage> {
  return store.updates({
    after: seq(0),
    limit: 1000,
    maxBytes: 1 << 20,
    waitMs: 0,
    signal: new AbortController().signal,
    ...request,
  });
}

const brief = (page: UpdatesPage): string[] =>
  page.events.map((event) => `${event.position.seq} ${event.type} ${text(event.key)}=${text(event.value)}`);

describe("writes", () => {
  test("are read back once they are answered, with their position", async () => {
    const store = await soleMaster();
    const receipt = await store.write([set("a", "one")]);
    expect(receipt.position).toEqual({ epoch: 1, seq: 2 });
    expect(receipt.results).toEqual([{ existed: false }]);
    expect(read(store, "a")).toBe("one");
    expect(store.readPoint().position).toEqual(receipt.position);
    await store.close();
  });

  test("of a batch share one record, and each sees the ones before it", async () => {
    const store = await soleMaster();
    const receipt = await store.write([set("a", "1"), del("a"), set("b", "2"), set("b", "3"), del("c")]);
    expect(receipt.results.map((result) => result.existed)).toEqual([false, true, false, true, false]);
    expect([read(store, "a"), read(store, "b")]).toEqual([undefined, "3"]);
    expect(store.last.seq).toBe(receipt.position.seq);
    await store.close();
  });

  test("see the writes that are still in flight", async () => {
    const store = await soleMaster();
    const first = store.write([set("a", "1")]);
    const second = store.write([del("a")]);
    const third = store.write([del("a")]);
    expect(read(store, "a")).toBeUndefined();
    expect((await first).results).toEqual([{ existed: false }]);
    expect((await second).results).toEqual([{ existed: true }]);
    // It saw the delete before it, which was not committed yet: its answer stands at that position or later.
    expect((await third).position.seq).toBeGreaterThanOrEqual((await second).position.seq);
    expect((await third).results).toEqual([{ existed: false }]);
    await store.close();
  });

  test("that delete nothing write no record", async () => {
    const store = await soleMaster();
    const before = store.last;
    const receipt = await store.write([del("absent")]);
    expect(receipt.results).toEqual([{ existed: false }]);
    expect(store.last).toEqual(before);
    await store.close();
  });

  test("are refused on a replica and before a mastership has begun", async () => {
    const replica = await openStore({ initialRole: "replica" });
    await expect(replica.write([set("a", "1")])).rejects.toMatchObject({ code: "not_master" });
    await replica.close();
    const master = await openStore();
    await master.foundCluster();
    await expect(master.write([set("a", "1")])).rejects.toMatchObject({ code: "not_ready" });
    await master.close();
  });

  test("beyond the limit of bytes in flight are refused, and taken again later", async () => {
    const store = await soleMaster({ pendingBytesMax: 100 });
    const first = store.write([set("a", "x".repeat(90))]);
    await expect(store.write([set("b", "x".repeat(90))])).rejects.toMatchObject({ code: "overloaded" });
    await first;
    await store.write([set("b", "x".repeat(90))]);
    await store.close();
  });

  test("in flight when the node closes end with an unknown outcome and their position", async () => {
    const store = await openStore();
    await beginSoleMastership(store);
    const held = await openStore();
    await held.foundCluster();
    await held.promise({ epoch: epoch(1), candidate: held.nodeId, epochId: epochId("1".repeat(16)) });
    // Nobody commits here beyond the epoch's first record.
    const first = held.beginEpoch(epoch(1), epochId("1".repeat(16)));
    held.listen({ kept: (kept) => kept === first && held.commit(kept) });
    await applied(held, first);
    const write = held.write([set("a", "1")]);
    await Promise.all([
      expect(write).rejects.toMatchObject({ code: "outcome_unknown", position: { epoch: 1, seq: 2 } }),
      held.close(),
    ]);
    await store.close();
  });
});

describe("deadlines", () => {
  test("hide a key from the moment on, for reads and for conditions", async () => {
    const clock = new FakeClock();
    const store = await soleMaster({ clock });
    await store.write([set("a", "1", 5000)]);
    clock.advance(4999);
    expect(read(store, "a")).toBe("1");
    clock.advance(1);
    expect(read(store, "a")).toBeUndefined();
    expect((await store.write([del("a")])).results).toEqual([{ existed: false }]);
    await store.close();
  });

  test.each([365 * 86_400_000, -365 * 86_400_000])(
    "are not moved by a step of the wall clock of %d ms",
    async (step) => {
      const clock = new FakeClock();
      const store = await soleMaster({ clock });
      await store.write([set("a", "1", 5000)]);
      clock.stepWall(step);
      clock.advance(4999);
      expect(read(store, "a")).toBe("1");
      clock.advance(1);
      expect(read(store, "a")).toBeUndefined();
      await store.close();
    },
  );

  test("go on over a restart, downtime included", async () => {
    const clock = new FakeClock();
    const fileSystem = new MemoryFileSystem();
    const first = await soleMaster({ clock, fileSystem });
    await first.write([set("a", "1", 5000), set("b", "2", 60_000)]);
    await first.close();
    clock.advance(10_000);
    const second = await soleMaster({ clock, fileSystem });
    expect([read(second, "a"), read(second, "b")]).toEqual([undefined, "2"]);
    await second.close();
  });
});

describe("a restart", () => {
  test("gives back every acknowledged write, and begins a new epoch", async () => {
    const fileSystem = new MemoryFileSystem();
    const first = await soleMaster({ fileSystem });
    for (let i = 0; i < 50; i++) await first.write([set(`key-${i}`, `value-${i}`)]);
    const { clusterId, nodeId: id } = first;
    await first.close();
    const second = await soleMaster({ fileSystem });
    for (let i = 0; i < 50; i++) expect(read(second, `key-${i}`)).toBe(`value-${i}`);
    expect([second.clusterId, second.nodeId]).toEqual([clusterId, id]);
    expect(second.history.starts.map((start) => start.epoch)).toEqual([1, 2]);
    await second.close();
  });

  test("serves what was applied before any mastership begins", async () => {
    const fileSystem = new MemoryFileSystem();
    const first = await soleMaster({ fileSystem });
    await first.write([set("a", "1")]);
    await first.close();
    const second = await openStore({ fileSystem });
    expect(read(second, "a")).toBe("1");
    await second.close();
  });

  test("keeps the role of the directory, whatever program is started", async () => {
    const fileSystem = new MemoryFileSystem();
    await (await soleMaster({ fileSystem })).close();
    const again = await openStore({ fileSystem, initialRole: "replica" });
    expect(again.role).toBe("master");
    await again.close();
  });

  test("of a node whose log is gone is refused", async () => {
    const fileSystem = new MemoryFileSystem();
    await (await soleMaster({ fileSystem })).close();
    for (const name of await fileSystem.list("wal")) await fileSystem.remove(`wal/${name}`);
    await expect(openStore({ fileSystem })).rejects.toMatchObject({ code: "corrupt" });
  });

  test("of a node whose node.json is gone or damaged is refused", async () => {
    const fileSystem = new MemoryFileSystem();
    await (await soleMaster({ fileSystem })).close();
    const file = await fileSystem.open("node.json", "write");
    await file.write(bytes("{}"), 0);
    await file.close();
    await expect(openStore({ fileSystem })).rejects.toThrow("node.json is damaged");
    await fileSystem.remove("node.json");
    await expect(openStore({ fileSystem })).rejects.toThrow("a log but no node.json");
  });

  test("remembers its promise, and never goes back on it", async () => {
    const fileSystem = new MemoryFileSystem();
    const first = await openStore({ fileSystem, initialRole: "replica" });
    const promise = { epoch: epoch(7), candidate: nodeId("ab".repeat(16)), epochId: epochId("cd".repeat(8)) };
    await first.promise(promise);
    await first.close();
    const second = await openStore({ fileSystem });
    expect(second.promised).toEqual(promise);
    await expect(second.promise({ epoch: epoch(6) })).rejects.toThrow("below the promised");
    await second.close();
  });
});

describe("a replica's store", () => {
  async function pair(): Promise<{ master: Store; replica: Store; fileSystem: MemoryFileSystem }> {
    const master = await soleMaster();
    const fileSystem = new MemoryFileSystem();
    const replica = await openStore({ initialRole: "replica", random: seededRandom(2), fileSystem });
    await replica.joinCluster(master.clusterId!);
    return { master, replica, fileSystem };
  }

  test("shows nothing before it has caught up, and what is committed after", async () => {
    const { master, replica } = await pair();
    await master.write([set("a", "1")]);
    await push(master, replica);
    expect(() => replica.readPoint()).toThrow(expect.objectContaining({ code: "not_ready" }));
    await replica.markCaughtUp();
    expect(read(replica, "a")).toBeUndefined();
    replica.commit(replica.last.seq);
    expect(read(replica, "a")).toBe("1");
    expect(replica.last).toEqual(master.last);
    expect(replica.history.starts).toEqual(master.history.starts);
    await Promise.all([master.close(), replica.close()]);
  });

  test("refuses records that do not follow on its own, and stays as it was", async () => {
    const { master, replica } = await pair();
    await master.write([set("a", "1")]);
    await push(master, replica);
    await master.write([set("b", "2")]);
    await master.write([set("c", "3")]);
    const before = replica.last;
    const gap = await master.readRecords(seq(before.seq + 1), 1 << 20);
    expect(() => replica.appendRecords(gap)).toThrow(expect.objectContaining({ code: "mismatch" }));
    expect(replica.last).toEqual(before);
    await Promise.all([master.close(), replica.close()]);
  });

  test("cut below what it had applied, it shows the state of what remains", async () => {
    const { master, replica, fileSystem } = await pair();
    await replica.markCaughtUp();
    await master.write([set("a", "old")]);
    const kept = master.last.seq;
    await master.write([set("a", "new"), set("b", "2")]);
    await push(master, replica);
    replica.commit(replica.last.seq);
    expect(read(replica, "a")).toBe("new");
    await replica.cutAfter(kept);
    expect([read(replica, "a"), read(replica, "b")]).toEqual(["old", undefined]);
    expect(replica.last.seq).toBe(kept);
    const saved = [...(await fileSystem.list("")), ...(await fileSystem.list("wal"))];
    expect(saved.filter((name) => name.startsWith("diverged-"))).toHaveLength(1);
    await push(master, replica);
    replica.commit(replica.last.seq);
    expect(read(replica, "b")).toBe("2");
    await Promise.all([master.close(), replica.close()]);
  });

  test("measures deadlines by the master's time, not by its own clock", async () => {
    const { master, replica } = await pair();
    await replica.markCaughtUp();
    await master.write([set("a", "1", 5000)]);
    await push(master, replica);
    replica.commit(replica.last.seq);
    replica.observeMasterTime(master.masterTimeMs());
    expect(read(replica, "a")).toBe("1");
    replica.observeMasterTime(epochMs(master.masterTimeMs() + 5000));
    expect(read(replica, "a")).toBeUndefined();
    await Promise.all([master.close(), replica.close()]);
  });
});

describe("updates", () => {
  test("are the committed events in order, and go on where the last page ended", async () => {
    const store = await soleMaster();
    await store.write([set("a", "1"), set("b", "2")]);
    await store.write([del("a")]);
    const first = await updates(store, { limit: 1 });
    // A record's events are never split.
    expect(brief(first)).toEqual(["2 put a=1", "2 put b=2"]);
    const second = await updates(store, { after: first.next.seq });
    expect(brief(second)).toEqual(["3 delete a="]);
    expect(brief(await updates(store, { after: seq(0), afterToken: first.nextToken }))).toEqual(brief(second));
    expect((await updates(store, { after: second.next.seq })).events).toEqual([]);
    await store.close();
  });

  test("end a page before the record that would make it too large, but never at nothing", async () => {
    const store = await soleMaster();
    for (const key of ["a", "b", "c"]) await store.write([set(key, "x".repeat(1000))]);
    const sizes = [];
    for (let after = seq(0); ;) {
      const page = await updates(store, { after, maxBytes: 1500 });
      if (page.events.length === 0) break;
      sizes.push(page.events.length);
      after = page.next.seq;
    }
    expect(sizes).toEqual([1, 1, 1]);
    await store.close();
  });

  test("are waited for, up to the time given", async () => {
    const clock = new FakeClock();
    const store = await soleMaster({ clock });
    const after = store.last.seq;
    const waiting = updates(store, { after, waitMs: 1000 });
    await store.write([set("a", "1")]);
    expect(brief(await waiting)).toEqual([`${after + 1} put a=1`]);
    const others = clock.pendingTimers;
    const vain = updates(store, { after: seq(after + 1), waitMs: 1000 });
    // The wait begins a microtask or two after the call.
    while (clock.pendingTimers === others) await Promise.resolve();
    clock.advance(1000);
    expect((await vain).events).toEqual([]);
    await store.close();
  });

  test("end with the caller's reason when it gives up, and with closing when the node stops", async () => {
    const store = await soleMaster();
    const controller = new AbortController();
    const abandoned = updates(store, { after: store.last.seq, waitMs: 60_000, signal: controller.signal });
    const stopped = updates(store, { after: store.last.seq, waitMs: 60_000 });
    controller.abort(new Error("gone"));
    await expect(abandoned).rejects.toThrow("gone");
    await Promise.all([expect(stopped).rejects.toMatchObject({ code: "closing" }), store.close()]);
  });

  test("beyond the applied position are refused with the range", async () => {
    const store = await soleMaster();
    await expect(updates(store, { after: seq(99) })).rejects.toMatchObject({
      code: "out_of_range",
      range: { compactSeq: 0, appliedSeq: 1 },
    });
    await store.close();
  });

  test("after a token of another cluster or of nonsense are refused", async () => {
    const store = await soleMaster();
    const foreign = await soleMaster({ random: seededRandom(9) });
    const { token } = foreign.readPoint();
    await expect(updates(store, { afterToken: token })).rejects.toMatchObject({ code: "lineage_lost" });
    await expect(updates(store, { afterToken: bytes("nonsense") })).rejects.toMatchObject({ code: "invalid_token" });
    await Promise.all([store.close(), foreign.close()]);
  });
});

test("any sequence of batches and restarts gives the state that a plain map would", async () => {
  const command = fc.oneof(
    fc.record({ kind: fc.constant("set" as const), key: fc.constantFrom("a", "b", "c", "d"), value: fc.string() }),
    fc.record({ kind: fc.constant("delete" as const), key: fc.constantFrom("a", "b", "c", "d") }),
  );
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.array(command, { minLength: 1, maxLength: 6 }) },
    { weight: 1, arbitrary: fc.constant("restart" as const) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const fileSystem = new MemoryFileSystem();
      const model = new Map<string, string>();
      let store = await soleMaster({ fileSystem, segmentBytesMax: 2048 });
      for (const next of steps) {
        if (next === "restart") {
          await store.close();
          store = await soleMaster({ fileSystem, segmentBytesMax: 2048, engine: new MapEngine() });
          continue;
        }
        const expected = next.map(({ kind, key, ...rest }) => {
          const existed = model.has(key);
          if (kind === "set") model.set(key, "value" in rest ? rest.value : "");
          else model.delete(key);
          return { existed };
        });
        const receipt = await store.write(
          next.map((one) => (one.kind === "set" ? set(one.key, one.value) : del(one.key))),
        );
        expect(receipt.results).toEqual(expected);
      }
      for (const key of ["a", "b", "c", "d"]) expect(read(store, key)).toBe(model.get(key));
      await store.close();
    }),
    { numRuns: 50 },
  );
});

test("an error of the store is told apart by its code", () => {
  expect(new StoreError("disk_full", "full")).toMatchObject({ name: "StoreError", code: "disk_full" });
});
