/** Masterships that are handed over under load. */
import { expect, onTestFinished, test } from "vitest";
import { SMALL_FILES } from "../harness/kill-proof.js";
import { Voters } from "../harness/voters.js";
import { Producers } from "./support/producers.js";

const ROUNDS = 20;

test(`a mastership is handed over ${ROUNDS} times under load, and no write fails, is lost or is done twice`, async () => {
  const voters = await Voters.start({ config: SMALL_FILES });
  onTestFinished(() => voters.close());
  const producers = new Producers(voters.addresses, 8);
  const pausesMs: number[] = [];
  let master = voters.nodes[0]!;
  for (let round = 1; round <= ROUNDS; round++) {
    await producers.more(100);
    const next = voters.nodes[round % voters.nodes.length]!;
    const { code, stdout, stderr } = await voters.cambium("transfer", next.address, "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { address, pauseMs } = JSON.parse(stdout) as { address: string; pauseMs: number };
    expect(address).toBe(next.address);
    pausesMs.push(pauseMs);
    master = next;
  }
  await producers.more(100);
  await producers.stop();
  await voters.settled(master);
  await voters.equal(master);
  expect(Object.fromEntries(producers.failures)).toEqual({});
  for (const node of voters.nodes) {
    expect(await producers.missingIn(node.address)).toEqual({ missing: [], twice: [] });
    expect(node.stderr).toBe("");
  }
  const sorted = pausesMs.toSorted((a, b) => a - b);
  const ms = (index: number): string => sorted[index]!.toFixed(0);
  console.log(
    `handed over ${ROUNDS} times: ${producers.counts.acknowledged} writes acknowledged, none failed; no writes were taken for ${ms(ROUNDS / 2)} ms in the middle, ${ms(ROUNDS - 1)} ms at most`,
  );
});
