/** What counts as a credential on the wire, what does not, and what becomes of those who try many. */
import { connect as connectHttp2 } from "node:http2";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { FakeClock } from "../base/clock.js";
import { epoch, seq } from "../base/position.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import type { IdentityEntry } from "../identity/identity-file.js";
import type { WatchBatch } from "../watch/watch-types.js";
import { callJson, send, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const [reader, web] = [bearerToken(new Uint8Array(32).fill(1)), bearerToken(new Uint8Array(32).fill(2))];
const entries: readonly IdentityEntry[] = [
  { name: "r", roles: ["reader"], credential: { kind: "token", sha256: bearerTokenHash(reader) } },
  { name: "web", roles: ["writer"], credential: { kind: "token", sha256: bearerTokenHash(web) }, prefixes: ["web/"] },
];

async function start(
  options: Parameters<typeof startTestServer>[0] = {},
): Promise<TestServer & { identities: Identities }> {
  const identities = new Identities(entries, () => 0);
  const running = await startTestServer({ identities, ...options });
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return { ...running, identities };
}

const GET = "cambium.v1.KVStore/Get";

describe("a credential", () => {
  test("is a bearer token in the authorization header, whatever the case of its scheme", async () => {
    const { port } = await start();
    for (const scheme of ["Bearer", "bearer", "BEARER"]) {
      expect(await callJson(port, GET, { key: "k" }, { authorization: `${scheme} ${reader}` })).toMatchObject({
        status: 200,
      });
    }
  });

  test("is never a cookie, and never in a URL", async () => {
    const { port } = await start();
    const cookies = [`authorization=Bearer ${reader}`, `token=${reader}`, reader];
    for (const cookie of cookies)
      expect(await callJson(port, GET, { key: "k" }, { cookie })).toMatchObject({ status: 401 });
    const query = `?connect=v1&encoding=json&message=${encodeURIComponent('{"key":"k"}')}`;
    for (const name of ["token", "access_token", "authorization", "Authorization"]) {
      const answer = await send(port, `/${GET}${query}&${name}=${encodeURIComponent(`Bearer ${reader}`)}`, {
        method: "GET",
      });
      expect(answer.status).toBe(401);
    }
    // The same question with the header, so that it was the credential that was missing.
    const headers = { authorization: `Bearer ${reader}` };
    expect(await send(port, `/${GET}${query}`, { method: "GET", headers })).toMatchObject({ status: 200 });
    expect(await callJson(port, GET, { key: "k" }, { "x-authorization": `Bearer ${reader}` })).toMatchObject({
      status: 401,
    });
  });

  test("that is missing or wrong is asked for, and one that is not enough is refused", async () => {
    const { port } = await start();
    const missing = await callJson(port, GET, { key: "k" });
    expect(missing).toMatchObject({ status: 401, json: { code: "unauthenticated" } });
    expect(missing.headers["www-authenticate"]).toBe("Bearer");
    const weak = await callJson(port, "cambium.v1.KVStore/Set", { key: "k" }, { authorization: `Bearer ${reader}` });
    expect(weak).toMatchObject({ status: 403, json: { code: "permission_denied" } });
    const outside = await callJson(port, "cambium.v1.KVStore/Set", { key: "k" }, { authorization: `Bearer ${web}` });
    expect(outside).toMatchObject({
      status: 403,
      json: {
        code: "permission_denied",
        message: expect.stringContaining("the identity web may use the keys below its prefixes only"),
      },
    });
    const within = await callJson(port, "cambium.v1.KVStore/Set", { key: "web/k" }, { authorization: `Bearer ${web}` });
    expect(within.status).toBe(200);
  });

  test("is not needed for what orchestrators ask", async () => {
    const { port } = await start();
    for (const path of ["/livez", "/readyz"])
      expect(await send(port, path, { method: "GET" })).toMatchObject({ status: 200 });
    expect(await callJson(port, "grpc.health.v1.Health/Check", {})).toMatchObject({ status: 200 });
  });

  test("does for a whole connection what it does for one call: nothing that comes without it", async () => {
    const { port } = await start();
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    cleanups.push(() => session.destroy());
    const ask = (headers: Record<string, string>): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const stream = session.request({
          ":method": "POST",
          ":path": `/${GET}`,
          "content-type": "application/json",
          ...headers,
        });
        stream.on("response", (answer) => resolve(answer[":status"]));
        stream.on("error", reject);
        stream.resume().end('{"key":"k"}');
      });
    expect(await ask({ authorization: `Bearer ${reader}` })).toBe(200);
    expect(await ask({})).toBe(401);
  });
});

test("a stream ends when its identity is revoked, and others go on", async () => {
  const { url, records, identities } = await start();
  await records.produce([Buffer.from("a")]);
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "2",
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${reader}`);
        return next(request);
      },
    ],
  });
  const stream = createClient(Log, transport).consumeStream({})[Symbol.asyncIterator]();
  expect((await stream.next()).done).toBe(false);
  identities.replace(entries.filter(({ name }) => name !== "r"));
  await records.produce([Buffer.from("b")]);
  await expect(
    (async () => {
      for (;;) if ((await stream.next()).done === true) return "ended";
    })(),
  ).rejects.toMatchObject({ rawMessage: expect.stringContaining("expired or was revoked") });
});

test("a watch, whose frames go past the protocol library, ends like that too", async () => {
  const { url, watches, identities } = await start();
  const position = (at: number): WatchBatch => ({ events: [], position: { epoch: epoch(1), seq: seq(at) } });
  const headers = { authorization: `Bearer ${reader}` };
  const kv = createClient(KVStore, createConnectTransport({ baseUrl: url, httpVersion: "2" }));
  const stream = kv.watch({}, { headers })[Symbol.asyncIterator]();
  watches.onOpen = (watch) => void watch.give(position(1), position(2));
  for (const at of [1n, 2n]) expect((await stream.next()).value).toMatchObject({ position: { seq: at } });
  identities.replace(entries.filter(({ name }) => name !== "r"));
  watches.opened[0]!.give(position(3));
  const refusal = { code: Code.Unauthenticated, rawMessage: expect.stringContaining("expired or was revoked") };
  await expect(stream.next()).rejects.toMatchObject(refusal);
  expect(watches.openCount).toBe(0);
});

test("whoever tries many credentials waits for the answers, is cut off in the end, and holds up nobody with a good one", async () => {
  const clock = new FakeClock();
  const { port } = await start({ clock });
  const wrong = (n: number): Promise<number> =>
    callJson(port, GET, { key: "k" }, { authorization: `Bearer wrong-${n}` }).then(
      ({ status }) => status,
      () => 0,
    );
  const first = await Promise.all(Array.from({ length: 10 }, (_, n) => wrong(n)));
  expect(first).toEqual(Array.from({ length: 10 }, () => 401));
  let answered = 0;
  const later = Array.from({ length: 40 }, (_, n) => wrong(n).finally(() => answered++));
  // Those beyond the twentieth are cut off at once; the others wait.
  await expect.poll(() => answered).toBe(20);
  expect(await callJson(port, GET, { key: "k" }, { authorization: `Bearer ${reader}` })).toMatchObject({ status: 200 });
  expect(answered).toBe(20);
  clock.advance(5000);
  const statuses = await Promise.all(later);
  expect(statuses.filter((status) => status === 401)).toHaveLength(20);
  expect(statuses.filter((status) => status === 0)).toHaveLength(20);
});
