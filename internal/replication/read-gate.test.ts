import { describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { type Seq, seq } from "../base/position.js";
import { StoreError } from "../store/store.js";
import { ReadGate, type ReadGateReplicator, type ReadGateStore } from "./read-gate.js";
import { ReplicationError } from "./replication-error.js";

/** Waits that can be let go one by one, and that leave when their signal is aborted. */
class Waits<T> {
  readonly #open = new Set<{ resolve: (value: T) => void; reject: (error: unknown) => void }>();

  get count(): number {
    return this.#open.size;
  }

  add(signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = (): void => wait.reject(signal.reason);
      const leave = (): void => {
        this.#open.delete(wait);
        signal.removeEventListener("abort", abort);
      };
      const wait = {
        resolve: (value: T) => {
          leave();
          resolve(value);
        },
        reject: (error: unknown) => {
          leave();
          reject(error);
        },
      };
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      this.#open.add(wait);
      signal.addEventListener("abort", abort);
    });
  }

  release(value: T): void {
    for (const { resolve } of this.#open) resolve(value);
  }

  fail(error: unknown): void {
    for (const { reject } of this.#open) reject(error);
  }
}

/** Tokens are one byte: the seq. */
class FakeStore implements ReadGateStore {
  appliedSeq: Seq = seq(10);
  /** Thrown by `reachToken`. */
  lost: StoreError | undefined;
  readonly waits = new Waits<void>();

  apply(upTo: number): void {
    this.appliedSeq = seq(upTo);
    this.waits.release();
  }

  whenApplied(_seq: Seq, signal: AbortSignal): Promise<void> {
    return this.waits.add(signal);
  }

  reachToken(token: Uint8Array, signal: AbortSignal): Promise<void> | undefined {
    if (this.lost) throw this.lost;
    return (token[0] ?? 0) <= this.appliedSeq ? undefined : this.waits.add(signal);
  }
}

class FakeReplicator implements ReadGateReplicator {
  staleness: number | undefined = 0;
  readonly confirmations = new Waits<Seq>();

  stalenessMs(): number | undefined {
    return this.staleness;
  }

  linearizableSeq(signal: AbortSignal): Promise<Seq> {
    return this.confirmations.add(signal);
  }
}

function start() {
  const store = new FakeStore();
  const replicator = new FakeReplicator();
  const clock = new FakeClock();
  const call = new AbortController();
  const gate = new ReadGate({ store, replicator, clock, maxWaitMs: 5000 });
  const waiters = (): number => store.waits.count + replicator.confirmations.count + clock.pendingTimers;
  return { store, replicator, clock, call, gate, waiters };
}

const token = (at: number): Uint8Array => new Uint8Array([at]);
const outcomeOf = (admitted: Promise<void> | undefined): Promise<unknown> =>
  (admitted ?? expect.fail("the read was admitted at once")).then(
    () => "admitted",
    (error: unknown) => error,
  );
/** Lets every promise that can go on do so. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a read that need not wait", () => {
  test.each([
    ["asks for nothing", undefined],
    ["asks for nothing in particular", {}],
    ["has a token that is reached", { atLeast: token(10) }],
    ["has a seq that is reached", { atLeastSeq: seq(10) }],
    ["allows the staleness that there is", { maxStalenessMs: 0 }],
    ["has all of that together", { atLeast: token(1), atLeastSeq: seq(2), maxStalenessMs: 3, linearizable: false }],
  ])("is admitted at once, and leaves nothing behind, when it %s", async (_what, consistency) => {
    const { gate, call, waiters } = start();
    expect(gate.admit(consistency, call.signal)).toBeUndefined();
    expect(waiters()).toBe(0);
  });

  test("is admitted at once on a node that is behind, for it asks for nothing", () => {
    const { gate, call, replicator } = start();
    replicator.staleness = undefined;
    expect(gate.admit({ atLeastSeq: seq(10) }, call.signal)).toBeUndefined();
  });
});

describe("a read that must wait", () => {
  test("for a token is admitted once the node has what it stands for", async () => {
    const { gate, store, call, waiters } = start();
    const outcome = outcomeOf(gate.admit({ atLeast: token(12) }, call.signal));
    expect(store.waits.count).toBe(1);
    store.apply(12);
    expect(await outcome).toBe("admitted");
    expect(waiters()).toBe(0);
  });

  test("for a seq is admitted once it is applied", async () => {
    const { gate, store, call, waiters } = start();
    const outcome = outcomeOf(gate.admit({ atLeastSeq: seq(11) }, call.signal));
    store.apply(11);
    expect(await outcome).toBe("admitted");
    expect(waiters()).toBe(0);
  });

  test("for the master's confirmation is admitted once what was confirmed is applied, and not before", async () => {
    const { gate, store, replicator, call, waiters } = start();
    let isOver = false;
    const outcome = outcomeOf(gate.admit({ linearizable: true }, call.signal)).finally(() => (isOver = true));
    replicator.confirmations.release(seq(15));
    await settle();
    store.apply(14);
    await settle();
    expect(isOver).toBe(false);
    store.apply(15);
    expect(await outcome).toBe("admitted");
    expect(waiters()).toBe(0);
  });

  test("for several things at once is admitted when all of them hold together", async () => {
    const { gate, store, replicator, call } = start();
    const consistency = { linearizable: true, atLeast: token(12), atLeastSeq: seq(14), maxStalenessMs: 100 };
    const outcome = outcomeOf(gate.admit(consistency, call.signal));
    replicator.confirmations.release(seq(11));
    await settle();
    store.apply(12);
    await settle();
    // What was reached is gone again: a failover has cut the history of this node.
    store.apply(9);
    await settle();
    store.apply(14);
    replicator.staleness = 100;
    expect(await outcome).toBe("admitted");
  });
});

describe("a read that cannot be fresh enough", () => {
  test("is told so at once when the staleness is more than it allows, or not known", () => {
    const { gate, replicator, call } = start();
    for (const staleness of [100.5, undefined]) {
      replicator.staleness = staleness;
      expect(() => gate.admit({ maxStalenessMs: 100 }, call.signal)).toThrow(
        expect.objectContaining({ name: "ReplicationError", code: "too_stale" }),
      );
    }
  });

  test("is told so when the staleness has grown while the rest was waited for", async () => {
    const { gate, store, replicator, call } = start();
    const outcome = outcomeOf(gate.admit({ atLeastSeq: seq(11), maxStalenessMs: 100 }, call.signal));
    replicator.staleness = 101;
    store.apply(11);
    expect(await outcome).toMatchObject({ code: "too_stale" });
  });

  test("waits for so long in all and no longer, whatever it waits for, and leaves no waiter behind", async () => {
    for (const consistency of [{ atLeast: token(99) }, { atLeastSeq: seq(99) }, { linearizable: true }]) {
      const { gate, clock, call, waiters } = start();
      const outcome = outcomeOf(gate.admit(consistency, call.signal));
      clock.advance(4999);
      await settle();
      expect(waiters()).toBeGreaterThan(0);
      clock.advance(1);
      const error = await outcome;
      expect(error).toBeInstanceOf(ReplicationError);
      expect(error).toMatchObject({ code: "timeout", message: expect.stringContaining("limits.max_read_wait") });
      expect(waiters()).toBe(0);
    }
  });

  test("counts the time of its parts together", async () => {
    const { gate, clock, replicator, call, waiters } = start();
    const outcome = outcomeOf(gate.admit({ linearizable: true, atLeastSeq: seq(99) }, call.signal));
    clock.advance(3000);
    replicator.confirmations.release(seq(1));
    await settle();
    clock.advance(2000);
    expect(await outcome).toMatchObject({ code: "timeout", message: expect.stringContaining("has not applied yet") });
    expect(waiters()).toBe(0);
  });
});

describe("a read whose call ends", () => {
  test("while it waits rejects with the call's own reason, and leaves no waiter behind", async () => {
    const gone = new Error("the caller has left");
    for (const consistency of [{ atLeast: token(99) }, { atLeastSeq: seq(99) }, { linearizable: true }]) {
      const { gate, call, waiters } = start();
      const outcome = outcomeOf(gate.admit(consistency, call.signal));
      await settle();
      call.abort(gone);
      expect(await outcome).toBe(gone);
      expect(waiters()).toBe(0);
    }
  });

  test("before it waits is not begun", async () => {
    const { gate, call, waiters } = start();
    const gone = new Error("the caller has left");
    call.abort(gone);
    expect(await outcomeOf(gate.admit({ linearizable: true }, call.signal))).toBe(gone);
    expect(waiters()).toBe(0);
  });
});

describe("what goes wrong below", () => {
  test("a token of a lost history, or one that is none, is refused before anything is waited for", () => {
    for (const code of ["lineage_lost", "invalid_token"] as const) {
      const { gate, store, call, waiters } = start();
      store.lost = new StoreError(code, "no");
      expect(() => gate.admit({ atLeast: token(1) }, call.signal)).toThrow(store.lost);
      expect(waiters()).toBe(0);
    }
  });

  test("a history that is lost while the read waits ends it", async () => {
    const { gate, store, call, waiters } = start();
    const outcome = outcomeOf(gate.admit({ atLeast: token(12) }, call.signal));
    await settle();
    const lost = new StoreError("lineage_lost", "no");
    store.waits.fail(lost);
    expect(await outcome).toBe(lost);
    expect(waiters()).toBe(0);
  });

  test("a history that is lost after the token was reached ends it too, while the rest is waited for", async () => {
    const { gate, store, call } = start();
    const outcome = outcomeOf(gate.admit({ atLeast: token(10), atLeastSeq: seq(11) }, call.signal));
    await settle();
    store.lost = new StoreError("lineage_lost", "no");
    store.apply(11);
    expect(await outcome).toBe(store.lost);
  });

  test("a master that cannot be confirmed ends it", async () => {
    const { gate, replicator, call, waiters } = start();
    const outcome = outcomeOf(gate.admit({ linearizable: true }, call.signal));
    const unknown = new ReplicationError("not_master", "no master is known");
    replicator.confirmations.fail(unknown);
    expect(await outcome).toBe(unknown);
    expect(waiters()).toBe(0);
  });
});
