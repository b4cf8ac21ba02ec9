/** Noise on the port. Whatever comes, the node answers the next caller, and no assertion fails. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fuzz, type FuzzTarget } from "./testing/fuzz.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";

let running: TestServer;
let target: FuzzTarget;

beforeAll(async () => {
  running = await startTestServer({ serverLimits: { requestTimeoutMs: 1000, headersTimeoutMs: 1000 } });
  target = { host: "127.0.0.1", port: running.port };
});
afterAll(async () => {
  await running.server.close();
});

describe("noise", () => {
  test.each(Object.entries(fuzz))("%s", async (_name, { input, send }) => {
    await fc.assert(
      fc.asyncProperty(input, async (bytes) => {
        await send(target, bytes);
        expect(running.bugs).toEqual([]);
      }),
      { numRuns: 60 },
    );
    expect(await callJson(running.port, "cambium.v1.KVStore/Get", { key: "k" })).toMatchObject({ status: 200 });
    expect(running.errors).toEqual([]);
  });
});
