import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";
import type { CambiumClient } from "./client.js";
import { createClient } from "./node.js";
import { FakeCluster } from "./testing/fake-cluster.js";

test.each([
  ["a read", (kv: CambiumClient) => kv.get("k")],
  ["a write", (kv: CambiumClient) => kv.set("k", "v")],
  ["a watch", (kv: CambiumClient) => kv.watch().batches().next()],
])("%s whose time ends in the pause after a try says what the nodes said in it", async (_, call) => {
  const cluster = await new FakeCluster().start(1);
  const [node] = cluster.nodes;
  node!.before = () => {
    throw new ConnectError("shutting down", Code.Unavailable);
  };
  const kv = createClient({ endpoints: [node!.address], retryDelayMs: 1000, timeoutMs: 60_000 });
  // The pause, of 500 to 1000 ms, lasts longer than the call's time: so late may timers of a busy program be.
  const setTimer = setTimeout;
  const now = performance.now.bind(performance);
  let lateMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now() + lateMs);
  const timers = vi.spyOn(globalThis, "setTimeout").mockImplementation(((callback: () => void, ms: number) => {
    if (ms < 500 || ms > 1000) return setTimer(callback, ms);
    lateMs = 60_000;
    return setTimer(callback, 0);
  }) as typeof setTimeout);
  try {
    await expect(call(kv)).rejects.toMatchObject({ code: "unavailable", message: "shutting down" });
  } finally {
    timers.mockRestore();
    clock.mockRestore();
    kv.close();
    await cluster.close();
  }
  expect(lateMs).toBe(60_000);
  expect(node!.requests).toHaveLength(1);
});
