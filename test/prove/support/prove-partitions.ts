/** The proof by partitions: whoever is cut off from whom, nothing that was acknowledged is lost, and all are equal afterwards. */
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "vitest";
import { AuditedLoad } from "../../harness/audited-load.js";
import { call, get, set, status } from "../../harness/rpc.js";
import { until } from "../../harness/until.js";
import type { Network } from "./networks.js";
import { PartitionedVoters } from "./partitioned.js";

const RANDOM_ROUNDS = 12;

export async function provePartitions(network: Network): Promise<void> {
  const voters = await PartitionedVoters.start(network);
  try {
    const load = new AuditedLoad({ valueBytesMax: 8 * 1024 });
    let master = await isolateTheMaster(voters, load);
    const seen = new Map<string, number>();
    for (let round = 0; round < RANDOM_ROUNDS; round++) {
      const [what, next] = await cutSomething(voters, load, master);
      seen.set(what, (seen.get(what) ?? 0) + 1);
      master = next;
      await healAndAudit(voters, load, master);
    }
    for (const node of voters.nodes) expect(node.stderr).toBe("");
    const { acknowledged, unknown } = load.counts;
    console.log(
      `cut ${RANDOM_ROUNDS + 1} times: ${acknowledged} writes acknowledged, all on every node afterwards; ${unknown} of unknown outcome, each there as a whole or not at all; ${[...seen].map(([what, times]) => `${what} ${times} times`).join(", ")}; epoch ${(await status(voters.address(master))).epoch}`,
    );
  } finally {
    await voters.close();
  }
}

/** A master that reaches nobody acknowledges nothing; the others go on with one of them; healed, it follows. */
async function isolateTheMaster(voters: PartitionedVoters, load: AuditedLoad): Promise<number> {
  const [old, ...others] = voters.nodes.map((_, node) => node) as [number, ...number[]];
  load.start(voters.address(old));
  await until("the load is on", () => load.counts.acknowledged > 300);
  await voters.isolate(old);
  await load.ended();

  const refusal = await call(voters.address(old), "KVStore/Set", { key: "cut off", value: "AQ==" });
  expect(refusal.body).toMatchObject({ code: "unavailable", details: [{ type: "cambium.v1.OutcomeUnknown" }] });
  const read = { key: "cut off", consistency: { linearizable: true } };
  expect((await call(voters.address(old), "KVStore/Get", read)).status).not.toBe(200);

  const master = await voters.promoteOneOf(others);
  await load.audit(voters.address(master));
  const { acknowledged } = load.counts;
  load.start(voters.address(master));
  await until("writes go on", () => load.counts.acknowledged > acknowledged + 300);
  await set(voters.address(master), "cut off", "written by the new master");
  // The old one still takes itself for the master, and still acknowledges nothing.
  const again = await call(voters.address(old), "KVStore/Set", { key: "cut off", value: "Ag==" });
  expect(again.body).toMatchObject({ code: "unavailable" });
  expect((await call(voters.address(old), "KVStore/Get", read)).status).not.toBe(200);
  expect((await status(voters.address(old))).role).toBe("NODE_ROLE_MASTER");
  await load.stop();
  await healAndAudit(voters, load, master);
  for (const node of voters.nodes.keys()) {
    expect(await get(voters.address(node), "cut off")).toBe("written by the new master");
  }
  expect((await status(voters.address(old))).divergedRecords, "what it wrote alone is saved").toBeGreaterThan(0);
  return master;
}

/** Cuts some way under load, for a while; gives what it was, and who is master then. */
async function cutSomething(voters: PartitionedVoters, load: AuditedLoad, master: number): Promise<[string, number]> {
  const replicas = [...voters.nodes.keys()].filter((node) => node !== master);
  const [replica, other] = Math.random() < 0.5 ? replicas : replicas.toReversed();
  if (replica === undefined || other === undefined) throw new Error("there are three nodes");
  const before = load.counts.acknowledged;
  load.start(voters.address(master));
  await until("the load is on", () => load.counts.acknowledged > before + 50);
  const chance = Math.random();
  let next = master;
  let what: string;
  if (chance < 0.4) {
    what = "the master was isolated and replaced";
    await voters.isolate(master);
    next = await voters.promoteOneOf(replicas);
    await load.ended();
  } else if (chance < 0.6) {
    what = "a replica was isolated";
    await voters.isolate(replica);
    await stillAcknowledges(load);
  } else if (chance < 0.8) {
    what = "the master was not heard by a replica";
    await voters.network.cut(master, replica);
    await stillAcknowledges(load);
  } else {
    what = "a replica was not heard by the master";
    await voters.network.cut(replica, master);
    await stillAcknowledges(load);
  }
  await pause(Math.random() * 1000);
  await load.stop();
  return [what, next];
}

/** With two of three, writes go on; those that were on their way when it happened may wait longer than they may. */
async function stillAcknowledges(load: AuditedLoad): Promise<void> {
  const { acknowledged } = load.counts;
  await until("writes go on", () => load.counts.acknowledged > acknowledged + 50);
}

async function healAndAudit(voters: PartitionedVoters, load: AuditedLoad, master: number): Promise<void> {
  await voters.network.heal();
  await voters.settled(master);
  // Once it is committed, so is everything before it that ever will be.
  await set(voters.address(master), "healed", "1");
  await voters.equal(master);
  await load.audit(voters.address(master));
  for (const node of voters.nodes.keys()) await load.audit(voters.address(node));
}
