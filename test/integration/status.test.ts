/** What an operator sees of a cluster: in `cambium status`, whichever node is asked, and while a replica lags. */
import { expect, onTestFinished, test } from "vitest";
import type { TestNode } from "../harness/node.js";
import { set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { Voters } from "../harness/voters.js";

interface Report {
  readonly problems: readonly string[];
  readonly nodes: readonly {
    readonly endpoint: string;
    readonly answered: boolean;
    readonly node?: {
      readonly role: string;
      readonly applied: { readonly epoch: number; readonly seq: number };
      readonly commitSeq: number;
      readonly keys: number;
      readonly dataBytes: number;
      readonly walBytes: number;
      readonly diskFreeBytes: number;
      readonly lagRecords?: number;
      readonly stalenessMs?: number;
    };
    readonly member?: {
      readonly state: string;
      readonly voter: boolean;
      readonly lagRecords: number;
      readonly lagMs: number;
    };
  }[];
}

test("any node shows all of them: role, vote, epoch, seqs, lag, keys, disk, and what is wrong while one hangs", async () => {
  const voters = await Voters.start();
  onTestFinished(() => voters.close());
  const [master, hanging, other] = [...voters.nodes] as [TestNode, TestNode, TestNode];
  for (let index = 0; index < 3; index++) await set(master.address, `key-${index}`, "value");
  await voters.equal(master);

  const report = async (...args: string[]): Promise<Report & { code: number | string }> => {
    const { code, stdout } = await voters.cambium("status", "--json", ...args);
    return { ...(JSON.parse(stdout) as Report), code };
  };
  const well = await report("--endpoints", other.address);
  expect(well).toMatchObject({ code: 0, problems: [] });
  expect(well.nodes.map(({ endpoint }) => endpoint).toSorted()).toEqual([...voters.addresses].toSorted());
  const { appliedSeq, epoch } = await status(master.address);
  for (const { endpoint, node, member } of well.nodes) {
    const isMaster = endpoint === master.address;
    expect({ endpoint, node, member }).toMatchObject({
      node: {
        role: isMaster ? "master" : "replica",
        applied: { epoch, seq: appliedSeq },
        commitSeq: appliedSeq,
        keys: 3,
        dataBytes: 3 * "key-0value".length,
      },
      member: { state: isMaster ? "self" : "streaming", voter: true, lagRecords: 0, lagMs: 0 },
    });
    expect(node!.walBytes).toBeGreaterThan(0);
    expect(node!.diskFreeBytes).toBeGreaterThan(0);
  }

  hanging.signal("SIGSTOP");
  onTestFinished(() => hanging.signal("SIGCONT"));
  for (let index = 0; index < 5; index++) await set(master.address, `later-${index}`, "value");
  const brief = ["--endpoints", master.address, "--timeout", "1s"];
  const unwell = await report(...brief);
  expect(unwell.code).toBe(1);
  const row = unwell.nodes.find(({ endpoint }) => endpoint === hanging.address)!;
  expect(row).toMatchObject({ answered: false, member: { voter: true, lagRecords: 5 } });
  expect(row.member!.lagMs).toBeGreaterThan(0);
  expect(unwell.problems).toContain(`${hanging.address} lacks 5 records`);
  const { stdout } = await voters.cambium("status", ...brief);
  expect(stdout).toMatch(new RegExp(`^${hanging.address} +- +yes +no answer `, "m"));
  expect(stdout).toContain(`${hanging.address} did not answer within 1000 ms`);

  hanging.signal("SIGCONT");
  await until("all is well again", async () => (await report("--endpoints", master.address)).code === 0);
});
