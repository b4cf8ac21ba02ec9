/** What a token promises to its bearer on any node, and what becomes of those who have seen history that was lost. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epochId } from "../base/ids.js";
import type { Position, Seq } from "../base/position.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Store, StoreError, WriteCommand } from "./store.js";
import {
  applied,
  beginMastership,
  bytes,
  epoch,
  joinReplica,
  kept,
  openStore,
  push,
  seededRandom,
  seq,
  text,
} from "./testing/stores.js";
import { encodeToken } from "./token.js";

const set = (key: string, value = "v"): WriteCommand => ({ kind: "set", key: bytes(key), value: bytes(value) });
const never = new AbortController().signal;
const idOf = (number: number) => epochId(number.toString(16).padStart(16, "0"));

async function master(options: Parameters<typeof openStore>[0] = {}): Promise<Store> {
  const store = await openStore(options);
  await beginMastership(store);
  return store;
}

async function follow(from: Store, to: Store): Promise<void> {
  await push(from, to);
  to.commit(to.last.seq);
  await applied(to, to.last.seq);
}

/** Whether a promise is settled once everything that waits for nothing has had its turn. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  await new Promise((resolve) => setImmediate(resolve));
  return settled;
}

const token = (store: Store, position: Position, id = idOf(position.epoch)): Uint8Array =>
  encodeToken({ clusterId: store.clusterId!, epochId: id, position });
const at = (number: number, place: number): Position => ({ epoch: epoch(number), seq: seq(place) });

describe("a token", () => {
  test("of what is applied here costs no waiting", async () => {
    const store = await master();
    const receipt = await store.write([set("a")]);
    expect(store.reachToken(receipt.token, never)).toBeUndefined();
    expect(store.reachToken(store.readPoint().token, never)).toBeUndefined();
    expect(store.reachToken(token(store, at(1, 1)), never)).toBeUndefined();
    expect(store.reachToken(token(store, at(0, 0), epochId("0".repeat(16))), never)).toBeUndefined();
    await store.close();
  });

  test("of a write that is on its way is waited for", async () => {
    const store = await master();
    const replica = await joinReplica(store);
    await replica.markCaughtUp();
    await follow(store, replica);
    const receipt = await store.write([set("a"), set("b")]);
    const reached = replica.reachToken(receipt.token, never)!;
    expect(await isSettled(reached)).toBe(false);
    await push(store, replica);
    // Kept is not yet seen.
    expect(await isSettled(reached)).toBe(false);
    replica.commit(replica.last.seq);
    await reached;
    expect(replica.readPoint().position).toEqual(receipt.position);
    await Promise.all([store.close(), replica.close()]);
  });

  test("of an epoch that is not heard of yet is waited for, although its seq has long passed", async () => {
    const store = await master();
    const replica = await joinReplica(store);
    await replica.markCaughtUp();
    for (let i = 0; i < 5; i++) await store.write([set("a")]);
    await follow(store, replica);
    const reached = replica.reachToken(token(store, at(2, 3)), never)!;
    expect(await isSettled(reached)).toBe(false);
    // The epoch comes, and did not begin before the token's seq: no node has made that token.
    store.endMastership();
    await beginMastership(store);
    await Promise.all([expect(reached).rejects.toMatchObject({ code: "invalid_token" }), follow(store, replica)]);
    const next = await store.write([set("b")]);
    const waits = replica.reachToken(next.token, never)!;
    await follow(store, replica);
    await waits;
    await Promise.all([store.close(), replica.close()]);
  });

  test("beyond the end of its epoch is lost, with the place up to which it was not", async () => {
    const store = await master();
    await store.write([set("a")]);
    await beginMastership(store, { epoch: 5 });
    const lost = (): unknown => store.reachToken(token(store, at(1, 3)), never);
    expect(lost).toThrow(expect.objectContaining({ code: "lineage_lost", fork: at(1, 2) }));
    expect(store.reachToken(token(store, at(1, 2)), never)).toBeUndefined();
    await store.close();
  });

  test("of an epoch that never came to be is lost once a newer one is committed", async () => {
    const store = await master();
    await beginMastership(store, { epoch: 5 });
    for (const place of [at(3, 1), at(3, 99)]) {
      const error = thrown(() => store.reachToken(token(store, place), never));
      expect(error).toMatchObject({ code: "lineage_lost" });
      // Where the two histories part, nobody here knows.
      expect(error.fork).toBeUndefined();
    }
    await store.close();
  });

  test("of an epoch with the same number and another id is lost", async () => {
    const store = await master();
    expect(() => store.reachToken(token(store, at(1, 1), idOf(77)), never)).toThrow(
      expect.objectContaining({ code: "lineage_lost" }),
    );
    await store.close();
  });

  test("that is waited for is lost as soon as its epoch turns out to have ended before it", async () => {
    const old = await master();
    const replica = await joinReplica(old);
    await replica.markCaughtUp();
    await follow(old, replica);
    const receipt = await old.write([set("lost")]);
    const reached = replica.reachToken(receipt.token, never)!;
    // Its epoch is known, its seq still to come: the next master does not have it.
    await replica.saveRole("master");
    await Promise.all([
      expect(reached).rejects.toMatchObject({ code: "lineage_lost", fork: at(1, 1) }),
      beginMastership(replica),
    ]);
    expect(() => replica.reachToken(receipt.token, never)).toThrow(expect.objectContaining({ fork: at(1, 1) }));
    await Promise.all([old.close(), replica.close()]);
  });

  test("is not judged by an epoch that is not committed yet", async () => {
    const store = await master();
    const { token: first } = await store.write([set("a")]);
    const replica = await joinReplica(store);
    await replica.markCaughtUp();
    await follow(store, replica);
    store.endMastership();
    await beginMastership(store, { epoch: 9 });
    await push(store, replica);
    expect(replica.history.starts).toHaveLength(2);
    // It may still lose against a master that never heard of epoch 9.
    const reached = replica.reachToken(token(store, at(1, 3)), never)!;
    expect(await isSettled(reached)).toBe(false);
    expect(replica.reachToken(first, never)).toBeUndefined();
    const judged = expect(reached).rejects.toMatchObject({ code: "lineage_lost" });
    replica.commit(replica.last.seq);
    await judged;
    await Promise.all([store.close(), replica.close()]);
  });

  test("of another cluster is lost, and one that nobody made is invalid", async () => {
    const store = await master();
    const foreign = await master({ random: seededRandom(9) });
    const { token: theirs } = foreign.readPoint();
    expect(() => store.reachToken(theirs, never)).toThrow(expect.objectContaining({ code: "lineage_lost" }));
    expect(() => store.reachToken(bytes("nonsense"), never)).toThrow(
      expect.objectContaining({ code: "invalid_token" }),
    );
    await Promise.all([store.close(), foreign.close()]);
  });

  test("that is waited for ends with the caller's reason, or with the node", async () => {
    const store = await master();
    const ahead = token(store, at(1, 50));
    const controller = new AbortController();
    const given = store.reachToken(ahead, controller.signal)!;
    controller.abort(new Error("gone"));
    await expect(given).rejects.toThrow("gone");
    const waits = store.reachToken(ahead, never)!;
    const seqWaits = store.whenApplied(seq(50), never);
    await Promise.all([
      expect(waits).rejects.toMatchObject({ code: "closing" }),
      expect(seqWaits).rejects.toMatchObject({ code: "closing" }),
      store.close(),
    ]);
  });
});

test("a seq is waited for until reads see what it wrote", async () => {
  const store = await master();
  const first = store.whenApplied(seq(2), never);
  const second = store.whenApplied(seq(3), never);
  await store.write([set("a")]);
  await first;
  expect(await isSettled(second)).toBe(false);
  await store.write([set("b")]);
  await second;
  await store.whenApplied(seq(1), never);
  const controller = new AbortController();
  controller.abort(new Error("gone"));
  await expect(store.whenApplied(seq(99), controller.signal)).rejects.toThrow("gone");
  await store.close();
});

describe("after a cut below what was applied", () => {
  /** A replica that has applied more than the master that wins has. */
  async function forked(
    options: Parameters<typeof openStore>[0] = {},
  ): Promise<{ replica: Store; winner: Store; fork: Seq }> {
    const old = await master();
    await old.write([set("common")]);
    const replica = await joinReplica(old, options);
    const winner = await joinReplica(old, { random: seededRandom(3) });
    await replica.markCaughtUp();
    await winner.markCaughtUp();
    await follow(old, winner);
    const fork = winner.last.seq;
    await follow(old, replica);
    if (options.fileSystem) await replica.createSnapshot();
    for (let i = 0; i < 3; i++) await old.write([set(`lost-${i}`)]);
    await follow(old, replica);
    await old.close();
    await beginMastership(winner);
    return { replica, winner, fork };
  }

  const page = (store: Store, after: number, rest: Partial<Parameters<Store["updates"]>[0]> = {}) =>
    store.updates({ after: seq(after), limit: 100, maxBytes: 1 << 20, waitMs: 60_000, signal: never, ...rest });

  test("who waits for updates beyond the fork is told where it lies, and who waits before it goes on", async () => {
    const { replica, winner, fork } = await forked();
    const { token: seen } = replica.readPoint();
    const beyond = [page(replica, fork + 3), page(replica, 0, { afterToken: seen })];
    const before = await page(replica, fork);
    expect(before.events).toHaveLength(3);
    await replica.cutAfter(fork);
    for (const waits of beyond) await expect(waits).rejects.toMatchObject({ code: "lineage_lost", fork: at(1, fork) });
    const fromFork = page(replica, fork);
    await winner.write([set("new")]);
    await follow(winner, replica);
    expect((await fromFork).events.map(({ key }) => text(key))).toEqual(["new"]);
    expect(() => replica.reachToken(seen, never)).toThrow(
      expect.objectContaining({ code: "lineage_lost", fork: at(1, fork) }),
    );
    await expect(page(replica, 0, { afterToken: seen })).rejects.toMatchObject({ fork: at(1, fork) });
    await expect(page(replica, 0, { afterToken: before.nextToken })).rejects.toMatchObject({ fork: at(1, fork) });
    await Promise.all([winner.close(), replica.close()]);
  });

  test("a token of the history that won, ahead of this node, is waited for across the cut", async () => {
    const { replica, winner, fork } = await forked();
    const { token: won } = await winner.write([set("new")]);
    const reached = replica.reachToken(won, never)!;
    const waits = page(replica, 0, { afterToken: won });
    expect(await isSettled(reached)).toBe(false);
    await replica.cutAfter(fork);
    expect(await isSettled(reached)).toBe(false);
    expect(await isSettled(waits)).toBe(false);
    await follow(winner, replica);
    await reached;
    await winner.write([set("newer")]);
    await follow(winner, replica);
    expect((await waits).events.map(({ key }) => text(key))).toEqual(["newer"]);
    await Promise.all([winner.close(), replica.close()]);
  });

  test("nothing is served while the state is made anew", async () => {
    const disk = new MemoryFileSystem();
    const { replica, winner, fork } = await forked({ fileSystem: disk });
    const states: string[] = [];
    const look = (): void => {
      try {
        replica.readPoint();
        states.push(`${replica.appliedSeq} ${text(replica.get(bytes("lost-2"))?.value ?? bytes("-"))}`);
      } catch (error) {
        states.push((error as StoreError).code);
      }
    };
    disk.onOperation = look;
    await replica.cutAfter(fork);
    disk.onOperation = undefined;
    look();
    // Either all of the old state, or nothing, or all of what remains.
    expect(new Set(states)).toEqual(new Set([`${fork + 3} v`, "not_ready", `${fork} -`]));
    await Promise.all([winner.close(), replica.close()]);
  });

  test("a reader that is in the midst of the log comes to an end, and does not keep the node from going on", async () => {
    const disk = new MemoryFileSystem();
    const { replica, winner, fork } = await forked({ fileSystem: disk });
    const cut = replica.cutAfter(fork);
    const readers = Array.from({ length: 5 }, (_, i) => page(replica, fork + i - 1));
    const outcomes = Promise.allSettled(readers);
    await cut;
    await winner.write([set("new")]);
    await follow(winner, replica);
    for (const outcome of await outcomes) {
      if (outcome.status === "fulfilled") expect(outcome.value.events.length).toBeGreaterThan(0);
      else expect(["lineage_lost", "not_ready", "out_of_range"]).toContain((outcome.reason as StoreError).code);
    }
    await Promise.all([winner.close(), replica.close()]);
  });
});

test("a cut above what was applied is no loss to anybody who read here", async () => {
  const clock = new FakeClock();
  const store = await master();
  const replica = await joinReplica(store, { clock });
  await replica.markCaughtUp();
  await follow(store, replica);
  await store.write([set("a")]);
  await push(store, replica);
  const waits = replica.updates({ after: seq(1), limit: 1, maxBytes: 1000, waitMs: 1000, signal: never });
  await replica.cutAfter(seq(1));
  await kept(replica, 1);
  expect(await isSettled(waits)).toBe(false);
  await follow(store, replica);
  expect((await waits).events).toHaveLength(1);
  await Promise.all([store.close(), replica.close()]);
});

function thrown(act: () => unknown): StoreError {
  try {
    act();
  } catch (error) {
    return error as StoreError;
  }
  throw new Error("nothing was thrown");
}

test("a cut that lies further back than the state can be told from changes nothing", async () => {
  const disk = new MemoryFileSystem();
  const store = await master({ fileSystem: disk });
  await store.write([set("a")]);
  const { end } = await store.createSnapshot();
  await store.write([set("b")]);
  store.endMastership();
  await expect(store.cutAfter(seq(end.to - 1))).rejects.toMatchObject({ code: "out_of_range" });
  expect(store.readPoint().position.seq).toBe(3);
  expect(await disk.list("snapshots")).toHaveLength(1);
  await store.close();
});
