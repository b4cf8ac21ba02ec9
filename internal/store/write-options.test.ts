/** When a write is answered: at once when it is kept, at its deadline, or not before a pause is over. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Member, Store, WriteCommand } from "./store.js";
import { applied, beginMastership, bytes, kept, openStore, seq, text } from "./testing/stores.js";

const set = (key: string, value = "v"): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const del = (key: string): WriteCommand => ({ kind: "delete", key: bytes(key) });
const read = (store: Store, key: string): string | undefined => {
  const entry = store.get(bytes(key));
  return entry && text(entry.value);
};

/** A master that commits nothing by itself after its first record. */
async function stalled(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore(options);
  await beginMastership(store, { commits: false });
  return store;
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function watch(promise: Promise<unknown>): { readonly state: () => string } {
  let state = "pending";
  promise.then(
    () => (state = "resolved"),
    (error: unknown) => (state = error instanceof Error && "code" in error ? String(error.code) : String(error)),
  );
  return { state: () => state };
}

describe("a write that is enough when it is kept", () => {
  test("is answered before it is committed, and seen only after", async () => {
    const store = await stalled();
    const committed = watch(store.write([set("a", "1")]));
    const receipt = await store.write([set("a", "2")], { acknowledge: "kept" });
    expect(receipt.position).toEqual({ epoch: 1, seq: 3 });
    expect(receipt.results).toEqual([{ existed: true }]);
    expect(store.keptSeq).toBeGreaterThanOrEqual(3);
    expect([committed.state(), read(store, "a"), store.appliedSeq]).toEqual(["pending", undefined, 1]);
    const reached = store.reachToken(receipt.token, new AbortController().signal);
    store.commit(seq(3));
    await reached;
    await turn();
    expect([committed.state(), read(store, "a")]).toEqual(["resolved", "2"]);
    await store.close();
  });

  test("is not answered before the disk has it", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await stalled({ fileSystem });
    const sync = fileSystem.holdNext("datasync");
    const write = watch(store.write([set("a")], { acknowledge: "kept" }));
    const produced = watch(store.produce([bytes("r")], { acknowledge: "kept" }));
    await sync.reached;
    await turn();
    expect([write.state(), produced.state()]).toEqual(["pending", "pending"]);
    sync.release();
    await kept(store, 3);
    await turn();
    expect([write.state(), produced.state()]).toEqual(["resolved", "resolved"]);
    expect(store.recordRange().end).toBe(0);
    await store.close();
  });

  test("is refused like any other when the disk has no room for it", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await stalled({ fileSystem });
    await store.write([set("a", "1")], { acknowledge: "kept" });
    fileSystem.failNext("write", "ENOSPC");
    await expect(store.write([set("a", "2")], { acknowledge: "kept" })).rejects.toMatchObject({ code: "disk_full" });
    await store.write([set("b", "3")], { acknowledge: "kept" });
    store.commit(store.last.seq);
    expect([read(store, "a"), read(store, "b")]).toEqual(["1", "3"]);
    await store.close();
  });

  test("that changes nothing still waits for what it has seen to be committed", async () => {
    const store = await stalled();
    await store.write([del("a"), set("b")], { acknowledge: "kept" });
    const seen = watch(store.write([del("a"), del("b"), del("b")], { acknowledge: "kept" }));
    const nothing = watch(store.write([del("b")], { acknowledge: "kept" }));
    await kept(store, 3);
    await turn();
    expect([seen.state(), nothing.state()]).toEqual(["resolved", "pending"]);
    store.commit(seq(3));
    await turn();
    expect(nothing.state()).toBe("resolved");
    await store.close();
  });
});

describe("a write with a deadline", () => {
  test("ends with an unknown outcome and its position, and its record stays in flight", async () => {
    const clock = new FakeClock();
    const store = await stalled({ clock });
    const slow = store.write([set("a", "1")], { timeoutMs: 1000 });
    const patient = watch(store.write([set("b", "2")], { timeoutMs: 3000 }));
    const produced = store.produce([bytes("r")], { timeoutMs: 500 });
    const endless = watch(store.write([set("c", "3")]));
    const outcomes = Promise.all([
      expect(slow).rejects.toMatchObject({ code: "outcome_unknown", position: { epoch: 1, seq: 2 } }),
      expect(produced).rejects.toMatchObject({ code: "outcome_unknown", position: { epoch: 1, seq: 4 } }),
    ]);
    clock.advance(999);
    await turn();
    clock.advance(1);
    await outcomes;
    expect([patient.state(), endless.state()]).toEqual(["pending", "pending"]);
    // Later writes see it all the same.
    const later = store.write([set("a", "4")]);
    await kept(store, 6);
    store.commit(seq(6));
    expect((await later).results).toEqual([{ existed: true }]);
    await turn();
    expect([patient.state(), endless.state(), read(store, "a"), store.recordRange().end]).toEqual([
      "resolved",
      "resolved",
      "4",
      1,
    ]);
    await store.close();
  });

  test("may truncate the record log: nobody waits for that longer than they say", async () => {
    const clock = new FakeClock();
    const store = await stalled({ clock });
    const produced = store.produce([bytes("r"), bytes("s")]);
    await kept(store, 2);
    store.commit(seq(2));
    await produced;
    const truncated = expect(store.truncateRecords(1, { timeoutMs: 100 })).rejects.toMatchObject({
      code: "outcome_unknown",
      position: { epoch: 1, seq: 3 },
    });
    await kept(store, 3);
    clock.advance(100);
    await truncated;
    store.commit(seq(3));
    expect(store.recordRange()).toEqual({ start: 1, end: 2 });
    await store.close();
  });

  test("costs one timer for all of them, and none once the store is closed", async () => {
    const clock = new FakeClock();
    const store = await openStore({ clock });
    await beginMastership(store);
    await turn();
    const before = clock.pendingTimers;
    for (let i = 0; i < 50; i++) await store.write([set(`key-${i}`)], { timeoutMs: 10_000 });
    await Promise.all(Array.from({ length: 50 }, (_, i) => store.write([set(`key-${i}`)], { timeoutMs: 10_000 + i })));
    expect(clock.pendingTimers).toBeLessThanOrEqual(before + 2);
    await store.close();
  });

  test("that waits for what it has seen ends without a position", async () => {
    const clock = new FakeClock();
    const store = await stalled({ clock });
    void store.write([del("x"), set("a")], { acknowledge: "kept" });
    void store.write([del("a")], { acknowledge: "kept" });
    const seen = store.write([del("a")], { timeoutMs: 100 });
    const outcome = expect(seen).rejects.toMatchObject({ code: "outcome_unknown", position: undefined });
    await kept(store, 3);
    clock.advance(100);
    await outcome;
    await store.close();
  });
});

describe("a pause", () => {
  const member = (store: Store): Member => ({
    nodeId: store.nodeId,
    address: "a:1",
    voter: true,
    source: "founder",
    removed: false,
  });

  test("holds back every kind of write in their order, lets those in flight go on, and ends", async () => {
    const store = await stalled();
    const inFlight = watch(store.write([set("a", "1")]));
    const settled = watch(store.writesSettled());
    const pause = store.pauseWrites();
    const held = [
      watch(store.write([set("a", "2")])),
      watch(store.write([del("b")])),
      watch(store.produce([bytes("r")])),
      watch(store.truncateRecords(1)),
      watch(store.proposeMember(member(store))),
      watch(store.proposeSettings({ commit: "master", voters: "master" })),
    ];
    await kept(store, 2);
    await turn();
    expect([store.last.seq, inFlight.state(), settled.state()]).toEqual([2, "pending", "pending"]);
    store.commit(seq(2));
    await turn();
    expect([inFlight.state(), settled.state(), read(store, "a")]).toEqual(["resolved", "resolved", "1"]);
    expect(new Set(held.map(({ state }) => state()))).toEqual(new Set(["pending"]));
    expect(() => store.pauseWrites()).toThrow("paused once");
    pause.resume();
    await turn();
    store.listen({ kept: (seqKept) => store.commit(seqKept) });
    await kept(store, 6);
    store.commit(store.last.seq);
    await turn();
    expect(held.map(({ state }) => state())).toEqual(Array.from({ length: 6 }, () => "resolved"));
    expect([read(store, "a"), store.recordRange()]).toEqual(["2", { start: 1, end: 1 }]);
    await store.writesSettled();
    // It can be paused again, and what ended it before does not end this one.
    const again = store.pauseWrites();
    pause.resume();
    const waits = watch(store.write([set("z")]));
    await turn();
    expect(waits.state()).toBe("pending");
    again.resume();
    await turn();
    await kept(store, store.last.seq);
    await turn();
    expect(waits.state()).toBe("resolved");
    await store.close();
  });

  test("that ends with the mastership refuses what it held back, which was never written", async () => {
    const store = await stalled();
    const inFlight = store.write([set("a", "1")]);
    const pause = store.pauseWrites();
    const held = store.write([set("a", "2")]);
    const outcomes = Promise.all([
      expect(inFlight).rejects.toMatchObject({ code: "outcome_unknown", position: { seq: 2 } }),
      expect(held).rejects.toMatchObject({ code: "not_master" }),
    ]);
    const settled = store.writesSettled();
    store.endMastership();
    await outcomes;
    await settled;
    pause.resume();
    expect(store.last.seq).toBe(2);
    await store.close();
  });

  test("that lasts longer than a write may, or than the node, refuses it", async () => {
    const clock = new FakeClock();
    const store = await stalled({ clock });
    store.pauseWrites();
    const hasty = store.write([set("a")], { timeoutMs: 100 });
    const patient = store.write([set("b")]);
    const hastyOutcome = expect(hasty).rejects.toMatchObject({ code: "not_ready" });
    clock.advance(100);
    await hastyOutcome;
    await Promise.all([expect(patient).rejects.toMatchObject({ code: "closing" }), store.close()]);
  });

  test("holds back no more bytes than may be in flight", async () => {
    const store = await stalled({ pendingBytesMax: 1000 });
    const pause = store.pauseWrites();
    const first = watch(store.write([set("a", "x".repeat(2000))]));
    await expect(store.write([set("b", "x")])).rejects.toMatchObject({ code: "overloaded" });
    pause.resume();
    await kept(store, 2);
    store.commit(store.last.seq);
    await applied(store, 2);
    await turn();
    expect(first.state()).toBe("resolved");
    await store.close();
  });
});
