/** A replica whose disk is lost under load: it comes back empty, and fetches everything by itself while the load goes on. */
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { TestCluster } from "../harness/cluster.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import type { TestNode } from "../harness/node.js";
import { call, set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { Voters } from "../harness/voters.js";

const ROUNDS = 5;
/** Written before anything is lost, so that a replica which serves must have them. */
const OLD_KEYS = 200;

async function nodeIdOf(node: TestNode): Promise<string> {
  const [, body = ""] = (await readFile(path.join(node.dataDirectory, "node.json"), "utf8")).split("\n");
  return (JSON.parse(body) as { nodeId: string }).nodeId;
}

/** Asks a node for old keys all the time: whatever it has of its state, it gives all of what was there before or nothing. */
function watchForGaps(node: TestNode): { stop: () => Promise<{ served: number; refused: number; gaps: string[] }> } {
  const seen = { served: 0, refused: 0, gaps: [] as string[] };
  let isOver = false;
  const running = (async () => {
    while (!isOver) {
      const key = `old-${Math.floor(Math.random() * OLD_KEYS)}`;
      // Nothing listens, for a part of the time.
      const answer = await call(node.address, "KVStore/Get", { key }).catch(() => undefined);
      if (answer?.status !== 200) seen.refused++;
      else if (answer.body["exists"] === true) seen.served++;
      else seen.gaps.push(key);
      await pause(1);
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await running;
      return seen;
    },
  };
}

/** Loses the disk of a replica under load, and waits until it is ready and has all that the master had by then. */
async function loseDisk(replica: TestNode, master: TestNode, load: AuditedLoad): Promise<void> {
  const before = await nodeIdOf(replica);
  const watch = watchForGaps(replica);
  await replica.kill();
  await rm(replica.dataDirectory, { recursive: true });
  const { acknowledged } = load.counts;
  await until("the load goes on", () => load.counts.acknowledged > acknowledged + 50);
  await replica.start();
  await replica.ready();
  const { appliedSeq } = await status(master.address);
  await replica.applied(appliedSeq);
  const { served, gaps } = await watch.stop();
  expect(gaps).toEqual([]);
  expect(served).toBeGreaterThan(0);
  expect(await nodeIdOf(replica)).not.toBe(before);
}

async function fill(master: TestNode): Promise<void> {
  for (let key = 0; key < OLD_KEYS; key++) await set(master.address, `old-${key}`, "x".repeat(500));
}

test(`a replica that registers itself loses its disk ${ROUNDS} times under load, and fetches everything by itself`, async () => {
  const cluster = await TestCluster.start({ replicas: 2, masterConfig: SMALL_FILES, replicaConfig: SMALL_FILES });
  onTestFinished(() => cluster.close());
  const { master, replicas } = cluster;
  await fill(master);
  const load = new AuditedLoad({ valueBytesMax: 8 * 1024 });
  load.start(master.address);
  for (let round = 0; round < ROUNDS; round++) await loseDisk(replicas[round % 2]!, master, load);
  await load.stop();
  expect(load.counts.unknown, "nobody who writes was disturbed").toBe(0);
  const last = await set(master.address, "last", "1");
  for (const node of cluster.nodes) {
    await node.applied(last);
    await load.audit(node.address);
    expect(node.stderr).toBe("");
  }
  console.log(`a disk was lost ${ROUNDS} times: ${load.counts.acknowledged} writes acknowledged, all on every node`);
});

test("a voter that loses its disk under load fetches everything by itself, and votes once it is admitted again", async () => {
  const voters = await Voters.start({ config: SMALL_FILES });
  onTestFinished(() => voters.close());
  const [master, lost, other] = [...voters.nodes] as [TestNode, TestNode, TestNode];
  await fill(master);
  const load = new AuditedLoad({ valueBytesMax: 8 * 1024 });
  load.start(master.address);

  const before = await nodeIdOf(lost);
  const watch = watchForGaps(lost);
  await lost.kill();
  await rm(lost.dataDirectory, { recursive: true });
  await lost.start();
  const votes = async (): Promise<string[]> =>
    (await status(master.address)).members.filter(({ voter }) => voter).map(({ nodeId = "" }) => nodeId);
  const after = await nodeIdOf(lost);
  expect(after).not.toBe(before);
  expect(await votes()).not.toContain(after);
  await until("it is admitted", async () => (await voters.cambium("members", "add", lost.address)).code === 0);
  await until("it has a vote", async () => {
    const found = await votes();
    return found.includes(after) && !found.includes(before) && found.length === 3;
  });
  await lost.ready();
  const { gaps, served } = await watch.stop();
  expect([gaps, served > 0]).toEqual([[], true]);

  // Its vote counts: with the third one gone, it and the master are the majority.
  await other.kill();
  const { acknowledged } = load.counts;
  await until("writes go on", () => load.counts.acknowledged > acknowledged + 200);
  await load.stop();
  await other.start();
  await voters.settled(master);
  await set(master.address, "last", "1");
  await voters.equal(master);
  for (const node of voters.nodes) {
    await load.audit(node.address);
    expect(node.stderr).toBe("");
  }
  const { acknowledged: all, unknown } = load.counts;
  expect(unknown, "nobody who writes was disturbed").toBe(0);
  console.log(`a voter lost its disk and came back: ${all} writes acknowledged, all on every node`);
});
