/** A page in a real browser, over HTTP/1.1, that watches more than a browser opens connections for. */
import type { Server } from "node:http";
import path from "node:path";
import type { Browser, Page as BrowserPage } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createClient, type UpdateEvent } from "../../api/client/node.js";
import { launchBrowser } from "../harness/browser.js";
import { CountedWay } from "../harness/counted-way.js";
import { TestNode } from "../harness/node.js";
import { servePage } from "../harness/page-server.js";
import { until } from "../harness/until.js";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";

const WATCHES = 12;
/** A browser opens no more to one host over HTTP/1.1. */
const BROWSER_CONNECTIONS_MAX = 6;
/** The first whole number that a double cannot tell from its neighbour. */
const BEYOND_DOUBLES = 2n ** 53n + 1n;

let server: Server;
let browser: Browser;
let master: TestNode;
let directory: string;
let way: CountedWay;
let origin: string;

beforeAll(async () => {
  ({ server, origin } = await servePage("watches.ts"));
  directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  master = new TestNode({
    program: "master",
    directory: path.join(directory, "master"),
    config: { server: { cors_origins: [origin] } },
  });
  [browser, way] = await Promise.all([launchBrowser(), CountedWay.to(() => master.port), master.start()]);
});

afterAll(async () => {
  await browser?.close();
  await way?.close();
  await master?.kill();
  server?.close();
  if (directory) await rm(directory, { recursive: true, force: true });
});

async function openPage(): Promise<BrowserPage> {
  const page = await browser.newPage();
  await page.goto(origin);
  return page;
}

/** Calls a function of watches.ts inside the browser. */
async function inPage<T>(page: BrowserPage, name: string, ...args: unknown[]): Promise<T> {
  return (await page.evaluate(`page.${name}(...${JSON.stringify(args)})`)) as T;
}

const prefixOf = (watch: number): string => `watched ${watch}/`;

/** An event as the page tells of it. */
function told({ type, key, value, position }: UpdateEvent): string {
  return `${position.seq} ${type} ${key} ${Buffer.from(value).toString()}`;
}

test("twelve watches of a page take one connection, leave the others free, and miss nothing when the master starts again", async () => {
  const page = await openPage();
  const client = createClient({ endpoints: [master.address], timeoutMs: 60_000 });
  onTestFinished(() => client.close());
  // What was there before is not told; what comes after has to be.
  for (let watch = 0; watch < WATCHES; watch++) await client.set(`${prefixOf(watch)}before`, "0");
  const prefixes = Array.from({ length: WATCHES }, (_, watch) => prefixOf(watch));
  await inPage(page, "watch", way.address, prefixes);
  const begun = (await client.get(`${prefixOf(0)}before`))!.position.seq;

  const writeAll = async (turns: number): Promise<void> => {
    for (let turn = 0; turn < turns; turn++) {
      await Promise.all(
        prefixes.map((prefix) => client.increment(`${prefix}number`, 1n, { initial: BEYOND_DOUBLES - 1n })),
      );
    }
    await client
      .txn()
      .do(...prefixes.map((prefix) => ({ kind: "set" as const, key: `${prefix}together`, value: "1" })))
      .commit();
    await client.deleteRange({ start: `${prefixOf(1)}together`, end: `${prefixOf(1)}together0` });
  };
  await writeAll(5);
  // All but two of the connections are held: one is left to the watches, all twelve of them, and one to the reads.
  await inPage(page, "holdConnections", BROWSER_CONNECTIONS_MAX - 2);
  await until("the connections are held", () => way.open >= BROWSER_CONNECTIONS_MAX - 1);
  const read = await inPage(page, "readTogether", `${prefixOf(3)}number`, 30);
  expect(read).toEqual(Array(30).fill(String(BEYOND_DOUBLES + 4n)));
  expect(way.openMax).toBeLessThanOrEqual(BROWSER_CONNECTIONS_MAX);
  await inPage(page, "releaseConnections");

  const writing = writeAll(20);
  await master.kill();
  await master.start();
  await writing;
  expect(await master.stop()).toBe(0);
  await master.start();
  await writeAll(5);

  const all: UpdateEvent[] = [];
  let upTo = begun;
  for await (const { events, next } of client.updates({ after: begun, follow: false })) {
    all.push(...events);
    upTo = next;
  }
  const expected = prefixes.map((prefix) => all.filter(({ key }) => key.startsWith(prefix)).map(told));
  expect(expected.every((events) => events.length > 30)).toBe(true);
  const lastSeqs = prefixes.map((prefix) => all.findLast(({ key }) => key.startsWith(prefix))!.position.seq);
  expect(Math.max(...lastSeqs)).toBeLessThanOrEqual(upTo);
  await until("the page has come to the end", async () => {
    const reached = await inPage<number[]>(page, "reached");
    return reached.every((seq, watch) => seq >= lastSeqs[watch]!);
  });
  expect(await inPage(page, "events")).toEqual(expected);
  expect(way.openMax).toBeLessThanOrEqual(BROWSER_CONNECTIONS_MAX);

  await page.close();
  await until("the page's connections are given back", () => way.open === 0);
});

test("numbers beyond 2^53 are exact in a page", async () => {
  const page = await openPage();
  onTestFinished(() => page.close());
  const max = 2n ** 63n - 1n;
  const sums = await inPage(page, "countUp", way.address, "large", String(max - 3n), 3);
  expect(sums).toEqual([max - 2n, max - 1n, max].map(String));
  // The next one passes 64 bits, and the page is told the numbers as they are.
  expect(await inPage(page, "refusalOfIncrement", way.address, "large")).toEqual({
    code: "out_of_bounds",
    value: String(max),
  });
});
