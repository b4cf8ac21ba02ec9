/** Masters that are killed under load, and others that are promoted in their place. */
import { setTimeout as pause } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import type { TestNode } from "../harness/node.js";
import { status } from "../harness/rpc.js";
import { Voters } from "../harness/voters.js";
import { Producers } from "./support/producers.js";

const ROUNDS = 20;

test(`a master is killed and another one promoted ${ROUNDS} times under load, and nothing acknowledged is lost on any node`, async () => {
  const voters = await Voters.start({ config: { ...SMALL_FILES, replication: { sync_interval: "200ms" } } });
  onTestFinished(() => voters.close());
  const load = new AuditedLoad({ valueBytesMax: 8 * 1024, producers: 0 });
  const producers = new Producers(voters.addresses);
  let master = voters.nodes[0]!;
  let longestMs = 0;
  let refused = 0;
  for (let round = 0; round < ROUNDS; round++) {
    await producers.more(20);
    load.start(master.address);
    await pause(50 + Math.random() * 800);
    await master.kill();
    const killedMs = performance.now();
    await load.ended();
    const others = voters.nodes.filter((node) => node !== master) as [TestNode, TestNode];
    const old = master;
    // Who has less than the other one is refused, and who keeps both must be the other.
    const [first, second] = Math.random() < 0.5 ? others : (others.toReversed() as typeof others);
    const tried = await voters.cambium("promote", first.address);
    master = first;
    if (tried.code !== 0) {
      refused++;
      expect(tried.stderr).not.toBe("");
      expect(await voters.cambium("promote", second.address)).toMatchObject({ code: 0, stderr: "" });
      master = second;
    }
    longestMs = Math.max(longestMs, performance.now() - killedMs);
    await load.audit(master.address);
    await producers.more(20);
    await old.start();
    await voters.settled(master);
    await voters.equal(master);
    for (const node of voters.nodes) await load.audit(node.address);
  }
  await producers.stop();
  await voters.equal(master);
  for (const node of voters.nodes) {
    expect(await producers.missingIn(node.address)).toEqual({ missing: [], twice: [] });
    expect(node.stderr).toBe("");
  }
  const { epoch } = await status(master.address);
  expect(epoch).toBeGreaterThan(ROUNDS);
  const { acknowledged, unknown } = load.counts;
  console.log(
    `killed and replaced ${ROUNDS} times, epoch ${epoch}: ${acknowledged + producers.counts.acknowledged} writes acknowledged, all on every node; ${unknown} of unknown outcome, each there as a whole or not at all; ${producers.counts.failed} told to try again; ${refused} candidates refused for having less; from the kill to the next master ${Math.round(longestMs)} ms at most, two commands included`,
  );
});
