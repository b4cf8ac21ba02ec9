import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { CambiumClient } from "./client.js";
import type { ClientOptions } from "./options.js";
import { createClient } from "./node.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A server that only listens to what is asked of it. */
async function listen(): Promise<{ endpoint: string; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    response.writeHead(200, { "content-type": "application/proto" }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(
    () => server.closeAllConnections(),
    () => server.close(),
  );
  return { endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

const ways: [string, (options: ClientOptions) => CambiumClient][] = [
  ["Node's HTTP", createClient],
  ["fetch", (options) => new CambiumClient(options)],
];

test.each(ways)("a token goes with every call, in its header and nowhere else, over %s", async (_name, open) => {
  const { endpoint, seen } = await listen();
  let n = 0;
  const client = open({ endpoints: [endpoint], token: async () => `token-${++n}` });
  cleanups.push(() => client.close());
  await client.get("k");
  await client.get("other");
  const fixed = open({ endpoints: [endpoint], token: "cambium_x" });
  cleanups.push(() => fixed.close());
  await fixed.get("k");
  expect(seen.map(({ headers }) => headers.authorization)).toEqual([
    "Bearer token-1",
    "Bearer token-2",
    "Bearer cambium_x",
  ]);
  expect(seen.filter(({ url, headers }) => /token|cambium_x/.test(`${url}${headers.cookie}`))).toEqual([]);
});

test("what is no token is refused before anything is sent", async () => {
  const { endpoint, seen } = await listen();
  expect(() => createClient({ endpoints: [endpoint], token: "two words" })).toThrow("without blanks or line breaks");
  const client = createClient({ endpoints: [endpoint], token: () => "a\r\nb: c" });
  cleanups.push(() => client.close());
  await expect(client.get("k")).rejects.toMatchObject({ code: "invalid_argument" });
  expect(seen).toEqual([]);
});
