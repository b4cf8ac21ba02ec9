/**
 * Ten thousand watches on one node, half of them on streams of their own, half of them many on a stream, by real clients over
 * HTTP/2: all get what they watch, the node answers others meanwhile, and it is told what they cost.
 */
import { readFile } from "node:fs/promises";
import { expect, onTestFinished, test } from "vitest";
import { setTimeout as pause } from "node:timers/promises";
import { type CambiumClient, createClient, type Watch } from "../../api/client/node.js";
import { TestCluster } from "../harness/cluster.js";
import { processesWith } from "../harness/processes.js";
import { until } from "../harness/until.js";

const WATCHES = 10_000;
const CLIENTS = 10;
/** A key that every fifth of them watches; the others have one each. */
const MANY = "many";
const IDLE_MS = 20_000;
const MIB = 2 ** 20;

interface Follower {
  readonly watch: Watch;
  readonly got: string[];
}

/** What the system says of a process. */
async function costOf(id: number): Promise<{ rssMiB: number; cpuMs: number }> {
  const status = await readFile(`/proc/${id}/status`, "utf8");
  const stat = await readFile(`/proc/${id}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // Of a hundredth of a second each, in user mode and in the kernel.
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { rssMiB: (Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1024) / MIB, cpuMs: ticks * 10 };
}

test(`${WATCHES} watches on one node all get what they watch`, async () => {
  const cluster = await TestCluster.start({ replicas: 0 });
  onTestFinished(() => cluster.close());
  const { address } = cluster.master;
  const [id] = await processesWith("master", cluster.directory);
  const clients = Array.from({ length: CLIENTS }, (_, i) =>
    createClient({ endpoints: [address], httpVersion: "2", sharedWatches: i % 2 === 0, timeoutMs: 120_000 }),
  );
  const caller = createClient({ endpoints: [address], timeoutMs: 60_000 });
  onTestFinished(() => [caller, ...clients].forEach((client: CambiumClient) => client.close()));
  await caller.set("warm", "1");
  const before = await costOf(id!);

  const beganMs = performance.now();
  const followers: Follower[] = [];
  const failures: unknown[] = [];
  let begun = 0;
  for (let i = 0; i < WATCHES; i++) {
    const watch = clients[i % CLIENTS]!.watch({ key: isOfMany(i) ? MANY : name(i) });
    const follower: Follower = { watch, got: [] };
    followers.push(follower);
    void (async () => {
      try {
        let isFirst = true;
        for await (const { events } of watch.batches()) {
          if (isFirst) begun++;
          isFirst = false;
          for (const { key, value } of events) follower.got.push(`${key}=${Buffer.from(value).toString()}`);
        }
      } catch (error) {
        failures.push(error);
      }
    })();
  }
  await until("all watches have begun", () => begun === WATCHES || failures.length > 0, 300_000);
  expect(failures).toEqual([]);
  const openMs = performance.now() - beganMs;
  const open = await costOf(id!);

  await pause(IDLE_MS);
  const idle = await costOf(id!);

  // One record for many of them.
  const fanMs = performance.now();
  await caller.set(MANY, "1");
  await until("they have it", () => followers.every(({ got }, i) => !isOfMany(i) || got.length === 1), 60_000);
  const fannedMs = performance.now() - fanMs;

  // And one for each.
  const eachMs = performance.now();
  let longestGetMs = 0;
  let isOver = false;
  const gets = (async () => {
    while (!isOver) {
      const startMs = performance.now();
      await caller.get("warm");
      longestGetMs = Math.max(longestGetMs, performance.now() - startMs);
    }
  })();
  for (let at = 0; at < WATCHES; at += 100) {
    await caller.write(
      Array.from({ length: 100 }, (_, i) => ({ kind: "set" as const, key: name(at + i), value: String(at + i) })),
    );
  }
  await until("all have theirs", () => followers.every(({ got }) => got.length === 1), 300_000);
  isOver = true;
  await gets;
  const toldMs = performance.now() - eachMs;
  const told = await costOf(id!);

  for (const [i, { got }] of followers.entries()) expect(got).toEqual([isOfMany(i) ? `${MANY}=1` : `${name(i)}=${i}`]);
  expect(failures).toEqual([]);
  expect(cluster.master.stderr).toBe("");
  for (const client of clients) client.close();
  await caller.get("warm");
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  console.log(
    [
      `${WATCHES} watches open after ${seconds(openMs)} (${seconds(open.cpuMs - before.cpuMs)} of the node's CPU)`,
      `memory ${before.rssMiB.toFixed(0)} -> ${open.rssMiB.toFixed(0)} MiB: ${(((open.rssMiB - before.rssMiB) * MIB) / WATCHES / 1024).toFixed(1)} KiB a watch`,
      `idle: ${((100 * (idle.cpuMs - open.cpuMs)) / IDLE_MS).toFixed(1)} % of a core`,
      `one record told to ${WATCHES / 5} watches after ${fannedMs.toFixed(0)} ms`,
      `${WATCHES} changes told after ${seconds(toldMs)}, ${seconds(told.cpuMs - idle.cpuMs)} of the node's CPU; the longest get meanwhile ${longestGetMs.toFixed(0)} ms; ${told.rssMiB.toFixed(0)} MiB then`,
    ].join("\n"),
  );
});

const isOfMany = (i: number): boolean => Math.floor(i / CLIENTS) % 5 === 0;

const name = (i: number): string => `k${String(i).padStart(5, "0")}`;
