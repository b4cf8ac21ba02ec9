/** A real browser that loads a page from one origin and talks to the nodes, which are others, with no gateway between. */
import type { Server } from "node:http";
import type { Browser, Page as BrowserPage } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { launchBrowser } from "../harness/browser.js";
import { TestCluster } from "../harness/cluster.js";
import { servePage } from "../harness/page-server.js";
import { get } from "../harness/rpc.js";

/** A name that its owner has made to mean this machine. */
const REBOUND = "rebound.example";

let server: Server;
let browser: Browser;
let cluster: TestCluster;
let origin: string;
/** The same page under an origin that the nodes do not know. */
let strangeOrigin: string;

beforeAll(async () => {
  const page = await servePage("page.ts");
  const { port } = page;
  ({ server, origin } = page);
  strangeOrigin = `http://localhost:${port}`;
  const cors = { server: { cors_origins: [origin] } };
  [browser, cluster] = await Promise.all([
    launchBrowser({ names: [REBOUND] }),
    TestCluster.start({ replicas: 1, masterConfig: cors, replicaConfig: cors }),
  ]);
});

afterAll(async () => {
  await browser?.close();
  await cluster?.close();
  server?.close();
});

async function openPage(from = origin): Promise<BrowserPage> {
  const page = await browser.newPage();
  onTestFinished(() => page.close());
  await page.goto(from);
  return page;
}

/** Calls a function of page.ts inside the browser. */
async function inPage(page: BrowserPage, name: string, ...args: unknown[]): Promise<unknown> {
  return page.evaluate(`page.${name}(...${JSON.stringify(args)})`);
}

test.each(["connect", "connect by GET", "grpc-web"])(
  "a page of another origin writes and reads over %s",
  async (protocol) => {
    const page = await openPage();
    const replica = cluster.replicas[0]!.address;
    const read = await inPage(page, "roundTrip", protocol, cluster.master.address, replica, `page ${protocol}`);
    expect(read).toEqual({ exists: true, value: `from a page over ${protocol}` });
  },
);

test.each(["connect", "grpc-web"])("a page is told over %s that a replica takes no writes", async (protocol) => {
  const page = await openPage();
  const failedPrecondition = 9;
  expect(await inPage(page, "codeOfWrite", protocol, cluster.replicas[0]!.address)).toEqual({
    code: failedPrecondition,
    details: ["cambium.v1.NotMaster"],
  });
});

test("the client of this repository works in a page, and finds the master", async () => {
  const page = await openPage();
  const endpoints = [cluster.replicas[0]!.address, cluster.master.address];
  expect(await inPage(page, "roundTripOfClient", endpoints, "page client")).toMatchObject({
    seq: expect.any(Number),
  });
  await cluster.setEverywhere("after", "1");
  expect(await inPage(page, "roundTripOfClient", endpoints, "page client")).toMatchObject({ value: "from a page" });
});

test("calls that a page makes at once travel together, and each ends for itself", async () => {
  const page = await openPage();
  expect(await inPage(page, "callsAtOnce", [cluster.master.address])).toEqual({
    sums: Array.from({ length: 60 }, (_, i) => i + 1),
    outcomes: ["60", "canceled", "invalid_argument", undefined],
    batches: 2,
  });
});

test("a page produces records, and follows the record log from another node", async () => {
  const page = await openPage();
  const endpoints = [cluster.replicas[0]!.address, cluster.master.address];
  const records = ["first", "second", "third"];
  expect(await inPage(page, "followOfClient", endpoints, records)).toEqual(records);
});

test("a page of an origin that is not on the list gets nothing", async () => {
  const page = await openPage(strangeOrigin);
  await expect(
    inPage(page, "roundTrip", "connect", cluster.master.address, cluster.master.address, "stranger"),
  ).rejects.toThrow(/fetch/i);
});

test("a page gets nothing by what browsers send without asking, and changes nothing", async () => {
  await cluster.setEverywhere("blind", "before");
  const page = await openPage(strangeOrigin);
  const { address } = cluster.master;
  const query = `connect=v1&encoding=json&message=${encodeURIComponent('{"key":"blind"}')}`;
  const seen = await page.evaluate(`(async () => {
    const [set, get] = ["http://${address}/cambium.v1.KVStore/Set", "http://${address}/cambium.v1.KVStore/Get?${query}"];
    const body = JSON.stringify({ key: "blind", value: "ZXZpbA==" });
    const outcomes = [];
    const attempt = (url, init) =>
      fetch(url, init).then(({ type, status }) => type + " " + status, () => "failed").then((it) => outcomes.push(it));
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
      await attempt(set, { method: "POST", mode: "no-cors", headers: { "content-type": type }, body });
    }
    navigator.sendBeacon(set, body);
    await attempt(get, {});
    outcomes.push(await new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = get;
      script.onload = () => resolve("loaded");
      script.onerror = () => resolve("refused");
      document.head.append(script);
    }));
    return outcomes;
  })()`);
  // What is opaque tells the page nothing, not even whether it was an error.
  expect(seen).toEqual(["opaque 0", "opaque 0", "opaque 0", "failed", "refused"]);
  expect(await get(address, "blind")).toBe("before");
});

test("a page under a name that was made to mean this machine gets nothing", async () => {
  const page = await browser.newPage();
  onTestFinished(() => page.close());
  // Probes are answered under every name; from here on all is of one origin, as the browser sees it.
  await page.goto(`http://${REBOUND}:${cluster.master.port}/livez`);
  const query = `connect=v1&encoding=json&message=${encodeURIComponent('{"key":"rebound"}')}`;
  const statuses = await page.evaluate(`(async () => {
    const ask = (method, message) =>
      fetch("/cambium.v1." + method, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(message) });
    const answers = await Promise.all([
      ask("KVStore/Set", { key: "rebound", value: "ZXZpbA==" }),
      ask("KVStore/Get", { key: "rebound" }),
      ask("Cluster/Status", {}),
      fetch("/cambium.v1.KVStore/Get?${query}"),
    ]);
    return answers.map(({ status }) => status);
  })()`);
  expect(statuses).toEqual([403, 403, 403, 403]);
  expect(await get(cluster.master.address, "rebound")).toBeUndefined();
});
