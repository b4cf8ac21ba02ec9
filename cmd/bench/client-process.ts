/** A program that calls a node through a client library, in a process of its own: it takes jobs from the bench, one after the other. */
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { createClient as createCambiumClient } from "../../api/client/node.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { ClientJob, ClientReport, ClientResult } from "./client-job.js";
import { percentile } from "./statistics.js";
import { KEY_COUNT, keyOf, VALUE } from "./workload.js";

const keys = Array.from({ length: KEY_COUNT }, (_, n) => keyOf(n));

interface Calls {
  readonly get: (key: string) => Promise<{ readonly value: Uint8Array } | undefined>;
  readonly set: (key: string) => Promise<unknown>;
  readonly close: () => void;
}

function open({ client, address }: ClientJob): Calls {
  if (client === "stock-http1" || client === "stock-http2") {
    const httpVersion = client === "stock-http1" ? "1.1" : "2";
    const store = createClient(KVStore, createConnectTransport({ baseUrl: `http://${address}`, httpVersion }));
    return {
      get: (key) => store.get({ key }),
      set: (key) => store.set({ key, value: VALUE }),
      close: () => undefined,
    };
  }
  const kv = createCambiumClient({
    endpoints: [address],
    batch: client !== "single",
    httpVersion: client === "cambium-http2" ? "2" : "1.1",
  });
  return { get: (key) => kv.get(key), set: (key) => kv.set(key, VALUE), close: () => kv.close() };
}

async function run(job: ClientJob, measuring: () => void): Promise<ClientResult> {
  const { operation, callers, warmupMs, measureMs } = job;
  const calls = open(job);
  let isMeasuring = false;
  let isOver = false;
  let next = 0;
  const latencies: number[] = [];
  const one = async (): Promise<void> => {
    while (!isOver) {
      const key = keys[next++ % KEY_COUNT]!;
      const beganMs = performance.now();
      if (operation === "set") await calls.set(key);
      else if ((await calls.get(key))?.value.length !== VALUE.length) throw new Error(`${key} is not there`);
      if (isMeasuring) latencies.push((performance.now() - beganMs) * 1000);
    }
  };
  const all = Promise.all(Array.from({ length: callers }, one));
  const pass = (ms: number): Promise<unknown> => Promise.race([all, new Promise((resolve) => setTimeout(resolve, ms))]);
  await pass(warmupMs);
  measuring();
  isMeasuring = true;
  const beganMs = performance.now();
  const began = process.cpuUsage();
  await pass(measureMs);
  const { user, system } = process.cpuUsage(began);
  const elapsedMs = performance.now() - beganMs;
  isMeasuring = false;
  isOver = true;
  await all;
  calls.close();
  const sorted = Float64Array.from(latencies).sort();
  return {
    calls: sorted.length,
    elapsedMs,
    p50Us: percentile(sorted, 0.5),
    p99Us: percentile(sorted, 0.99),
    cpuUs: user + system,
  };
}

function report(message: ClientReport): void {
  process.send?.(message);
}

process.on("message", (job: ClientJob) => {
  run(job, () => report({ kind: "measuring" })).then(
    (result) => report({ kind: "measured", result }),
    (error: unknown) => report({ kind: "failed", message: error instanceof Error ? error.message : String(error) }),
  );
});
// The bench is gone: nobody is left to measure for.
process.on("disconnect", () => process.exit(1));
