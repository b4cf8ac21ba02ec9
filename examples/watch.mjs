/**
 * Keeps a copy of all keys of a prefix, and prints what changes. The copy and the token of the place that it stands for are
 * stored together, so that the program can be stopped at any time, and misses and repeats nothing.
 *
 *     node examples/watch.mjs [prefix]        ctrl-C stops it; in another terminal: npx cambium set demo:1 hello
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { CambiumError, createClient } from "cambium/client";

const prefix = process.argv[2] ?? "demo:";
const file = process.env.COPY_FILE ?? "copy.json";
const endpoints = (process.env.CAMBIUM_ENDPOINTS ?? "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082").split(",");
const kv = createClient({ endpoints });
const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());

const text = (bytes) => new TextDecoder().decode(bytes);

/** @returns the copy as it was stored, or undefined where there is none. */
async function stored() {
  try {
    const { token, entries } = JSON.parse(await readFile(file, "utf8"));
    return { token: new Uint8Array(Buffer.from(token, "base64")), copy: new Map(entries) };
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Reads everything. Pages come from different positions, so the watch goes on behind the first one. */
async function readAll() {
  const copy = new Map();
  let page = await kv.scanPage({ prefix });
  const { token } = page;
  for (;;) {
    for (const { key, value } of page.entries) copy.set(key, text(value));
    if (!page.nextPageToken) return { token, copy };
    page = await kv.scanPage({ prefix, pageToken: page.nextPageToken });
  }
}

/** Keys are in the order of their bytes, which is not quite that of JavaScript's strings. */
function isWithin(key, start, end) {
  const bytes = Buffer.from(key);
  return bytes.compare(Buffer.from(start)) >= 0 && (end === undefined || bytes.compare(Buffer.from(end)) < 0);
}

function apply(copy, { type, key, value, rangeEnd }) {
  if (type === "put") copy.set(key, text(value));
  else if (type !== "delete-range") copy.delete(key);
  else for (const each of copy.keys()) if (isWithin(each, key, rangeEnd)) copy.delete(each);
}

async function store(copy, token) {
  const entries = JSON.stringify({ token: Buffer.from(token).toString("base64"), entries: [...copy] });
  await writeFile(`${file}.tmp`, entries);
  await rename(`${file}.tmp`, file);
}

let state = await stored();
while (!interrupted.signal.aborted) {
  state ??= await readAll();
  const { copy, token: after } = state;
  console.log(`${copy.size} keys begin with ${prefix}`);
  try {
    for await (const { events, token } of kv.watch({ prefix, after, signal: interrupted.signal }).batches()) {
      for (const event of events) {
        apply(copy, event);
        console.log(event.type, event.key, event.type === "put" ? text(event.value) : "");
      }
      await store(copy, token);
    }
  } catch (error) {
    if (!(error instanceof CambiumError)) throw error;
    if (error.code === "canceled") break;
    if (error.code !== "out_of_range" && error.code !== "lineage_lost") throw error;
    // The log begins later, or a failover has lost what the copy stands on: the copy is made anew.
    state = undefined;
  }
}
kv.close();
