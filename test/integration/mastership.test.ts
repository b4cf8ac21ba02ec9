/** Masterships that change hands between real processes: promoted, handed over, forced, and remembered. */
import { expect, onTestFinished, test } from "vitest";
import { createClient } from "../../api/client/node.js";
import { AuditedLoad } from "../harness/audited-load.js";
import { TestCluster } from "../harness/cluster.js";
import type { TestNode } from "../harness/node.js";
import { type ProgramResult, runProgram } from "../harness/programs.js";
import { call, get, set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { Voters, type VotersOptions } from "../harness/voters.js";

async function startVoters(
  options?: VotersOptions,
): Promise<{ voters: Voters; nodes: [TestNode, TestNode, TestNode] }> {
  const voters = await Voters.start(options);
  onTestFinished(() => voters.close());
  return { voters, nodes: [...voters.nodes] as [TestNode, TestNode, TestNode] };
}

test("three listed nodes found one cluster of three voters, which commits by majority", async () => {
  const { voters, nodes } = await startVoters();
  for (const node of nodes) {
    const { members, commit } = await status(node.address);
    expect(commit).toBe("majority");
    expect(members.map(({ address, voter }) => ({ address, voter }))).toEqual(
      voters.addresses.map((address) => ({ address, voter: true })),
    );
  }
  const { code, stdout } = await voters.cambium("status", "--endpoints", nodes[2].address);
  expect(code).toBe(0);
  expect(stdout).toContain("commit majority, 3 voters");
  for (const { address } of nodes) expect(stdout).toMatch(new RegExp(`^${address} +(master|replica) +yes`, "m"));
});

test("a killed master is replaced by a promoted replica with everything acknowledged, and follows when it is back", async () => {
  const { voters, nodes } = await startVoters();
  const [old, heir, other] = nodes;
  const load = new AuditedLoad({ writers: 4, producers: 2 });
  load.start(old.address);
  await until("the load is on", () => load.counts.acknowledged > 500);
  await old.kill();
  await load.ended();

  const alone = await voters.cambium("status");
  expect(alone.code).toBe(1);
  expect(alone.stdout).toContain("no node that answers is the master");

  // Whichever of the two has more must become it; the other one is refused, and says which.
  const [first, second] = [heir, other];
  const tried = await voters.cambium("promote", first.address);
  const master = tried.code === 0 ? first : second;
  const promoted = tried.code === 0 ? tried : await voters.cambium("promote", second.address);
  expect(promoted).toMatchObject({ code: 0, stderr: "" });
  expect(promoted.stdout).toMatch(new RegExp(`^${master.address} is master of epoch \\d+, from seq \\d+ on\\n$`));
  await load.audit(master.address);
  load.start(master.address);
  await until("writes go on", () => load.counts.acknowledged > 700);
  await load.stop();

  await old.start();
  await voters.settled(master);
  await voters.equal(master);
  for (const node of voters.nodes) await load.audit(node.address);
  expect((await voters.cambium("status")).code).toBe(0);
});

test("a node remembers over a restart what it has become, whatever program starts it", async () => {
  const { voters, nodes } = await startVoters();
  const [founder, heir] = nodes;
  await set(founder.address, "before", "1");
  expect((await voters.cambium("transfer", heir.address)).code).toBe(0);
  await voters.settled(heir);
  expect(await Promise.all(nodes.map((node) => node.stop()))).toEqual([0, 0, 0]);
  await Promise.all(nodes.map((node) => node.start()));
  await voters.settled(heir);
  await set(heir.address, "after", "2");
  await voters.equal(heir);
  for (const node of nodes)
    expect([await get(node.address, "before"), await get(node.address, "after")]).toEqual(["1", "2"]);
  expect(founder.log.some(({ msg }) => msg.startsWith("the data directory decides the role"))).toBe(true);
});

test("a switchover under load neither loses a write nor does one twice, and says how long it took", async () => {
  const { voters, nodes } = await startVoters();
  const [old, heir] = nodes;
  const client = createClient({ endpoints: voters.addresses });
  onTestFinished(() => client.close());
  const acknowledged: string[] = [];
  const failures: unknown[] = [];
  let isOver = false;
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let turn = 0; !isOver; turn++) {
      const record = `writer ${writer}, turn ${turn}`;
      try {
        await client.produce(record);
        acknowledged.push(record);
      } catch (error) {
        failures.push(error);
      }
    }
  });
  const written = async (count: number): Promise<unknown> => {
    const enough = acknowledged.length + count;
    return until("the load is on", () => acknowledged.length >= enough);
  };
  await written(300);
  const there = await voters.cambium("transfer", heir.address);
  await written(300);
  const back = await voters.cambium("transfer", old.address, "--json");
  await written(300);
  isOver = true;
  await Promise.all(writers);

  expect(there).toMatchObject({ code: 0, stderr: "" });
  expect(there.stdout).toMatch(
    new RegExp(`^${heir.address} is master of epoch \\d+; no writes were taken for \\d+(\\.\\d+)? m?s\\n$`),
  );
  expect(JSON.parse(back.stdout)).toMatchObject({ address: old.address, pauseMs: expect.any(Number) as number });
  expect(failures).toEqual([]);
  const found: string[] = [];
  for await (const { record } of client.consume({ offset: 0, follow: false }))
    found.push(Buffer.from(record).toString());
  expect(found.toSorted()).toEqual(acknowledged.toSorted());
});

test("a rolling restart, the mastership handed over first, fails no call of a session and shows it nothing stale", async () => {
  const { voters, nodes } = await startVoters();
  const client = createClient({ endpoints: voters.addresses });
  onTestFinished(() => client.close());
  const session = client.session();
  const failures: unknown[] = [];
  const stale: unknown[] = [];
  let turns = 0;
  let isOver = false;
  const users = Array.from({ length: 4 }, async (_, user) => {
    for (let turn = 0; !isOver; turn++) {
      try {
        await session.set(`user ${user}`, String(turn));
        const found = await session.getText(`user ${user}`);
        if (found !== String(turn)) stale.push({ user, turn, found });
        turns++;
      } catch (error) {
        failures.push(error);
      }
    }
  });
  for (const [index, node] of nodes.entries()) {
    const next = nodes[(index + 1) % nodes.length]!;
    const { role } = await status(node.address);
    if (role === "NODE_ROLE_MASTER") expect((await voters.cambium("transfer", next.address)).code).toBe(0);
    expect(await node.stop()).toBe(0);
    await node.start();
    await node.ready();
    const enough = turns + 20;
    await until("all go on", () => turns >= enough);
  }
  isOver = true;
  await Promise.all(users);
  expect({ failures, stale }).toEqual({ failures: [], stale: [] });
});

test("with one node left a promotion needs --force, which says what it costs; the others come back and follow", async () => {
  const { voters, nodes } = await startVoters();
  const [master, second, last] = nodes;
  await set(master.address, "kept", "1");
  await voters.equal(master);
  await Promise.all([master.kill(), second.kill()]);

  const refused = await voters.cambium("promote", last.address);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain("there is no majority: 2 of 3 voters must agree, and 1 can");
  const unasked = await voters.cambium("promote", last.address, "--force");
  expect(unasked.code).toBe(2);
  expect(unasked.stderr).toContain("An old master that is only out of reach may still be acknowledging writes");
  expect(unasked.stderr).toMatch(/standard input is no terminal; give --yes/);

  const forced = await voters.cambium("promote", last.address, "--force", "--yes");
  expect(forced.stdout).toMatch(new RegExp(`^${last.address} is master of epoch 1000\\d\\d\\d, from seq \\d+ on\\n`));
  expect(forced.stdout).toContain(`not reached: ${master.address}, ${second.address}`);
  expect(forced.code).toBe(0);
  await set(last.address, "alone", "2");

  await Promise.all([master.start(), second.start()]);
  await voters.settled(last);
  await voters.equal(last);
  for (const node of nodes)
    expect([await get(node.address, "kept"), await get(node.address, "alone")]).toEqual(["1", "2"]);
  const votes = async (): Promise<number> => (await status(last.address)).members.filter(({ voter }) => voter).length;
  expect(await votes()).toBe(1);
  for (const node of [master, second]) {
    const added = await voters.cambium("members", "add", node.address);
    expect(added).toMatchObject({ code: 0, stdout: expect.stringContaining(`${node.address} is a `) as string });
  }
  await until("all three vote again", async () => (await votes()) === 3);
});

test("without cluster.nodes the one vote goes with the mastership, and a lost tail is saved and told of", async () => {
  const cluster = await TestCluster.start({ replicas: 2 });
  onTestFinished(() => cluster.close());
  const [heir, other] = cluster.replicas as [TestNode, TestNode];
  await cluster.setEverywhere("kept", "1");
  await Promise.all([heir.kill(), other.kill()]);
  await set(cluster.master.address, "on one disk only", "1");
  await cluster.master.kill();
  await Promise.all([heir.start(), other.start()]);

  const promote = (...flags: string[]): Promise<ProgramResult> =>
    runProgram("cambium", ["promote", heir.address, ...flags]);
  expect((await promote()).code).toBe(1);
  expect((await promote("--force", "--yes")).code).toBe(0);
  await set(heir.address, "after", "2");
  await cluster.master.start();
  await until("the old master follows", async () => (await get(cluster.master.address, "after")) === "2");
  expect(await get(cluster.master.address, "on one disk only")).toBeUndefined();
  const state = await status(cluster.master.address);
  expect(state.divergedRecords).toBeGreaterThan(0);
  expect((await call(cluster.master.address, "KVStore/Set", { key: "k", value: "" })).body).toMatchObject({
    code: "failed_precondition",
    details: [{ debug: { masterAddress: heir.address } }],
  });
});
