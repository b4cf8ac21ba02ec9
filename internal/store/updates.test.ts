import { expect, test } from "vitest";
import { epoch, seq } from "../base/position.js";
import { WalError } from "../wal/wal-error.js";
import { StoreError } from "./store-error.js";
import { readUpdates, type UpdatesSource } from "./updates.js";
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
