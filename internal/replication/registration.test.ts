import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { clusterId, nodeId } from "../base/ids.js";
import { silentLogger } from "../base/logger.js";
import { epoch } from "../base/position.js";
import type { PeerNetwork, RegisterReply } from "./peer.js";
import { Registration } from "./registration.js";

const REPLY: RegisterReply = {
  clusterId: clusterId("c1".repeat(16)),
  masterNodeId: nodeId("01".repeat(16)),
  epoch: epoch(1),
};

let clock: FakeClock;
let calls: {
  atMs: number;
  signal: AbortSignal;
  resolve: (reply: RegisterReply) => void;
  reject: (error: Error) => void;
}[];
let warnings: string[];
let registration: Registration;

beforeEach(() => {
  clock = new FakeClock();
  calls = [];
  warnings = [];
  const never = (): never => {
    throw new Error("a registration asks for nothing else");
  };
  const network: PeerNetwork = {
    connect: never,
    survey: never,
    requestPromise: never,
    readIndex: never,
    register: (_, __, signal) =>
      new Promise((resolve, reject) => {
        calls.push({ atMs: clock.monotonicMs(), signal, resolve, reject });
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      }),
  };
  registration = new Registration({
    network,
    clock,
    logger: { ...silentLogger, warn: (_, fields) => void warnings.push(String(fields?.["reason"])) },
    masterAddress: "m:1",
    request: () => ({ nodeId: nodeId("02".repeat(16)), address: "r:1" }),
    random: { bytes: (length) => new Uint8Array(length).fill(255) },
  });
});

/** What follows from a call's end happens within this. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function answer(how: RegisterReply | Error): Promise<void> {
  const call = calls.at(-1);
  if (how instanceof Error) call?.reject(how);
  else call?.resolve(how);
  await turn();
}

describe("registering", () => {
  test("goes on until a master pushes", async () => {
    registration.start();
    clock.advance(0);
    for (let i = 0; i < 8; i++) {
      await answer(new Error("refused"));
      clock.advance(5000);
    }
    expect(calls).toHaveLength(9);
    await answer(REPLY);
    registration.followed();
    clock.advance(60_000);
    expect(calls).toHaveLength(9);
    await registration.close();
  });

  test("pauses 200 ms first, then twice as long each time, up to five seconds", async () => {
    registration.start();
    clock.advance(0);
    const pauses: number[] = [];
    for (let i = 0; i < 7; i++) {
      await answer(new Error("refused"));
      const from = clock.monotonicMs();
      const count = calls.length;
      while (calls.length === count) clock.advance(1);
      pauses.push(clock.monotonicMs() - from);
    }
    expect(pauses).toEqual([200, 400, 800, 1600, 3200, 5000, 5000]);
    await registration.close();
  });

  test("that was answered is asked for again when the master does not come", async () => {
    registration.start();
    clock.advance(0);
    await answer(REPLY);
    clock.advance(200);
    expect(calls).toHaveLength(2);
    await registration.close();
  });

  test("begins again a while after the master has gone", async () => {
    registration.start();
    clock.advance(0);
    registration.followed();
    await answer(REPLY);
    registration.orphaned();
    clock.advance(999);
    expect(calls).toHaveLength(1);
    clock.advance(1);
    expect(calls).toHaveLength(2);
    await registration.close();
  });

  test("is not repeated when the master comes back by itself meanwhile", async () => {
    registration.orphaned();
    clock.advance(500);
    registration.followed();
    clock.advance(60_000);
    expect(calls).toHaveLength(0);
    await registration.close();
  });

  test("gives up on an answer that does not come", async () => {
    registration.start();
    clock.advance(0);
    clock.advance(5000);
    await turn();
    expect(warnings).toEqual(["no answer within 5000 ms"]);
    clock.advance(200);
    expect(calls).toHaveLength(2);
    await registration.close();
  });

  test("complains once about what stays the same, and again about what changes", async () => {
    registration.start();
    clock.advance(0);
    for (const complaint of ["refused", "refused", "removed", "removed", "refused"]) {
      await answer(new Error(complaint));
      clock.advance(5000);
    }
    expect(warnings).toEqual(["refused", "removed", "refused"]);
    await registration.close();
  });

  test("ends at close, and leaves no timer", async () => {
    registration.start();
    clock.advance(0);
    await registration.close();
    expect(calls[0]?.signal.aborted).toBe(true);
    expect(clock.pendingTimers).toBe(0);
    registration.orphaned();
    expect(clock.pendingTimers).toBe(0);
    expect(warnings).toEqual([]);
  });
});
