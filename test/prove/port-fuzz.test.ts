/** Much noise on the port of a real process: it stays up, answers, and takes no more memory for the second half than for the first. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { normalCall } from "../../internal/rpc/testing/abuse.js";
import { fuzz } from "../../internal/rpc/testing/fuzz.js";
import { TestNode } from "../harness/node.js";
import { until } from "../harness/until.js";
import { processOf, residentBytes } from "./support/node-processes.js";

const RUNS = 50_000;
/** Those together are one run, of which there is a whole number: with a part of one fast-check would never end. */
const AT_ONCE = 250;
/**
 * Five thousand connections are let in at once, and what the sessions of HTTP/2 among them took the allocator keeps for the next; the
 * first half of the noise brings that up, the second adds little to it.
 */
const GROWTH_BYTES_MAX = 80 * 1024 * 1024;
const RESIDENT_BYTES_MAX = 450 * 1024 * 1024;

test.each(Object.entries(fuzz))("%s", async (_name, { input, send }) => {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-fuzz-"));
  const config = { limits: { request_timeout: "1s", header_timeout: "1s", unread_timeout: "1s" } };
  const node = new TestNode({ program: "master", directory, config });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  await node.start();
  const target = { host: "127.0.0.1", port: node.port };
  const pid = await processOf(node);
  await normalCall(target);
  await makeNoise(RUNS / 2);
  const halfway = await residentBytes(pid);
  await makeNoise(RUNS / 2);
  await until("memory comes back", async () => (await residentBytes(pid)) - halfway < GROWTH_BYTES_MAX);
  expect(await residentBytes(pid)).toBeLessThan(RESIDENT_BYTES_MAX);
  expect(node.log.filter(({ level }) => level === "error")).toEqual([]);
  expect(await node.stop()).toBe(0);

  async function makeNoise(runs: number): Promise<void> {
    await fc.assert(
      fc.asyncProperty(fc.array(input, { minLength: AT_ONCE, maxLength: AT_ONCE }), async (all) => {
        await Promise.all(all.map((bytes) => send(target, bytes)));
        expect(node.running).toBe(true);
      }),
      { numRuns: runs / AT_ONCE, endOnFailure: true },
    );
    // What has just come from this address may be all that is let in from one, for a moment.
    await until("it answers", () =>
      normalCall(target).then(
        () => true,
        () => false,
      ),
    );
  }
});
