/** Reads with a promise, and writes by way of a replica, over the wire between real processes. */
import { beforeAll, afterAll, describe, expect, onTestFinished, test } from "vitest";
import { health } from "../harness/grpc.js";
import type { TestNode } from "../harness/node.js";
import { call, get, request, set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { Voters } from "../harness/voters.js";

/** A heartbeat ten times as frequent, so that staleness shows soon. */
const quick = {
  replication: { sync_interval: "100ms", write_timeout: "2s" },
  limits: { max_read_wait: "1s" },
  server: { ready_max_staleness: "1s", forward_writes: true },
};

async function startQuick(): Promise<{ voters: Voters; nodes: [TestNode, TestNode, TestNode] }> {
  const voters = await Voters.start({ config: quick });
  return { voters, nodes: [...voters.nodes] as [TestNode, TestNode, TestNode] };
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

describe("while all is well", () => {
  let voters: Voters;
  let nodes: [TestNode, TestNode, TestNode];
  beforeAll(async () => ({ voters, nodes } = await startQuick()));
  afterAll(() => voters.close());

  test("a token of a write, given to any node, sees that write there", async () => {
    for (let turn = 0; turn < 50; turn++) {
      const { body } = await call(nodes[0].address, "KVStore/Set", { key: "turn", value: base64(String(turn)) });
      for (const node of nodes) {
        const read = await call(node.address, "KVStore/Get", { key: "turn", consistency: { atLeast: body["token"] } });
        expect(read.body).toMatchObject({ exists: true, value: base64(String(turn)) });
      }
    }
  });

  test("a linearizable read on a replica sees what was just written on the master", async () => {
    for (let turn = 0; turn < 50; turn++) {
      await set(nodes[0].address, "linear", String(turn));
      const read = await call(nodes[1 + (turn % 2)]!.address, "KVStore/Get", {
        key: "linear",
        consistency: { linearizable: true },
      });
      expect(read.body).toMatchObject({ exists: true, value: base64(String(turn)) });
    }
  });

  test("a read that may be a little old is answered by every node, with its age", async () => {
    await set(nodes[0].address, "aged", "1");
    for (const node of nodes) {
      const read = await call(node.address, "KVStore/Get", { key: "aged", consistency: { maxStalenessMs: "60000" } });
      expect(read.status).toBe(200);
      expect(Number(read.body["stalenessMs"] ?? 0)).toBeLessThanOrEqual(60_000);
    }
  });

  test("a token that is none is refused, and so is a seq that never comes", async () => {
    const bad = await call(nodes[1].address, "KVStore/Get", { key: "k", consistency: { atLeast: base64("none") } });
    expect(bad.body).toMatchObject({ code: "invalid_argument" });
    const late = await call(nodes[1].address, "KVStore/Get", { key: "k", consistency: { atLeastSeq: "1000000" } });
    expect(late.body).toMatchObject({ code: "unavailable", details: [{ type: "cambium.v1.NotFreshEnough" }] });
  });

  test("a write by way of a replica is the master's, and is seen by its token at once", async () => {
    const written = await call(nodes[2].address, "KVStore/Set", { key: "forwarded", value: base64("yes") });
    expect(written.status).toBe(200);
    expect(await get(nodes[0].address, "forwarded")).toBe("yes");
    const read = await call(nodes[2].address, "KVStore/Get", {
      key: "forwarded",
      consistency: { atLeast: written.body["token"] },
    });
    expect(read.body).toMatchObject({ value: base64("yes") });
    const refused = await call(nodes[2].address, "KVStore/Set", { key: "", value: "" });
    expect(refused.body).toMatchObject({ code: "invalid_argument" });
  });

  test("a write may be answered when the master keeps it, when it is committed, or when all voters have it", async () => {
    for (const acknowledge of ["ACKNOWLEDGE_MASTER", "ACKNOWLEDGE_COMMITTED", "ACKNOWLEDGE_ALL"]) {
      const { status: code, body } = await call(nodes[0].address, "KVStore/Set", {
        key: acknowledge,
        value: base64("v"),
        acknowledge,
      });
      expect({ code, body }).toMatchObject({ code: 200 });
      const read = await call(nodes[1].address, "KVStore/Get", {
        key: acknowledge,
        consistency: { atLeast: body["token"] },
      });
      expect(read.body).toMatchObject({ exists: true });
    }
  });

  test("the command line asks for all of them", async () => {
    const written = await voters.cambium("set", "cli", "1", "--json", "--acknowledge", "all");
    const { token } = JSON.parse(written.stdout) as { token: string };
    const replica = ["--endpoints", nodes[1].address];
    for (const flags of [["--at-least", token], ["--linearizable"], ["--max-staleness", "60s"]]) {
      expect(await voters.cambium("get", "cli", ...flags, ...replica)).toMatchObject({ code: 0, stdout: "1" });
    }
  });
});

test("a replica whose master is silent says how old it is, is not ready beyond the limit, and gets well by itself", async () => {
  const { voters, nodes } = await startQuick();
  onTestFinished(() => voters.close());
  const [master, replica] = nodes;
  const readyz = async (): Promise<number> => (await request(replica.address, "/readyz")).status;
  await until("the replica is ready", async () => (await readyz()) === 200);
  master.signal("SIGSTOP");
  onTestFinished(() => master.signal("SIGCONT"));
  await until("the replica is not ready any more", async () => (await readyz()) === 503);
  expect((await request(replica.address, "/readyz")).text).toContain("server.ready_max_staleness");
  expect(await health(replica.address)).toBe("NOT_SERVING");
  expect((await request(replica.address, "/livez")).status).toBe(200);
  expect((await call(replica.address, "KVStore/Get", { key: "k" })).status).toBe(200);
  const fresh = await call(replica.address, "KVStore/Get", { key: "k", consistency: { maxStalenessMs: "500" } });
  expect(fresh.body).toMatchObject({ code: "unavailable", details: [{ type: "cambium.v1.NotFreshEnough" }] });
  master.signal("SIGCONT");
  await until("the replica is ready again", async () => (await readyz()) === 200);
  await until("gRPC health says so too", async () => (await health(replica.address)) === "SERVING");
});

test("without a majority a write ends as of unknown outcome with its place, and no linearizable read is answered", async () => {
  const { voters, nodes } = await startQuick();
  onTestFinished(() => voters.close());
  const [master, ...others] = nodes;
  await set(master.address, "k", "1");
  await Promise.all(others.map((node) => node.kill()));
  const [written, read] = await Promise.all([
    call(master.address, "KVStore/Set", { key: "k", value: base64("2") }),
    call(master.address, "KVStore/Get", { key: "k", consistency: { linearizable: true } }),
  ]);
  expect(written.body).toMatchObject({
    code: "unavailable",
    details: [{ type: "cambium.v1.OutcomeUnknown", debug: { position: { seq: expect.any(String) as string } } }],
  });
  expect(read.status).not.toBe(200);
  expect(await get(master.address, "k")).toBe("1");
  await others[0].start();
  await until("the write is committed after all", async () => (await get(master.address, "k")) === "2");
});

test("a token of a write that a forced failover lost is told so, on every node", async () => {
  const { voters, nodes } = await startQuick();
  onTestFinished(() => voters.close());
  const [master, heir, other] = nodes;
  await set(master.address, "kept", "1");
  await voters.equal(master);
  await Promise.all([heir.kill(), other.kill()]);
  const kept = await call(master.address, "KVStore/Set", { key: "lost", value: "", acknowledge: "ACKNOWLEDGE_MASTER" });
  expect(kept.status).toBe(200);
  await master.kill();
  await Promise.all([heir.start(), other.start()]);
  expect((await voters.cambium("promote", heir.address)).code).toBe(0);
  await master.start();
  await voters.settled(heir);
  expect((await status(master.address)).divergedRecords).toBe(1);
  for (const node of nodes) {
    const read = await call(node.address, "KVStore/Get", { key: "lost", consistency: { atLeast: kept.body["token"] } });
    expect(read.body).toMatchObject({ code: "aborted", details: [{ type: "cambium.v1.LineageLost" }] });
  }
});
