/** The proof that the log does not grow without end: keys are overwritten again and again, and the directory is measured. */
import { lstat, mkdtemp, readdir, rm } from "node:fs/promises";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { TestNode } from "./node.js";
import { until } from "./until.js";

const VALUE_BYTES = 1000;
/** Operations in a batch. */
const BATCH = 500;

export interface OverwriteOptions {
  readonly keys: number;
  readonly rounds: number;
}

/**
 * Overwrites keys on a node with the default configuration; its directory takes at most three times the live data, and next to nothing
 * once they are deleted.
 */
export async function proveOverwriting({ keys, rounds }: OverwriteOptions): Promise<void> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const node = new TestNode({ program: "master", directory });
  const agent = new http.Agent({ keepAlive: true });
  try {
    await node.start();
    const emptyBytes = await diskBytes(node.dataDirectory);
    const names = Array.from({ length: keys }, (_, key) => `key-${String(key).padStart(6, "0")}`);
    const liveBytes = names.reduce((sum, name) => sum + name.length + VALUE_BYTES, 0);
    let mostBytes = 0;
    for (let round = 0; round < rounds; round++) {
      const value = Buffer.from(`round ${round}:`.padEnd(VALUE_BYTES, "x")).toString("base64");
      for (let at = 0; at < keys; at += BATCH) {
        const operations = names.slice(at, at + BATCH).map((key) => ({ set: { key, value } }));
        await write(node.address, agent, operations);
      }
      mostBytes = Math.max(mostBytes, await diskBytes(node.dataDirectory));
    }
    const atEnd = await diskBytes(node.dataDirectory);
    // A snapshot and the compaction after it may still be under way.
    const rested = await until("the directory is at most three times the live data", async () => {
      const bytes = await diskBytes(node.dataDirectory);
      return bytes <= 3 * liveBytes && bytes;
    });
    for (let at = 0; at < keys; at += BATCH) {
      const operations = names.slice(at, at + BATCH).map((key) => ({ delete: { key } }));
      await write(node.address, agent, operations);
    }
    const deleted = await until("the directory takes next to nothing once all keys are deleted", async () => {
      const bytes = await diskBytes(node.dataDirectory);
      return bytes <= emptyBytes + liveBytes / 10 && bytes;
    });
    const times = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB (${(bytes / liveBytes).toFixed(2)} times)`;
    console.log(
      `${keys} keys overwritten ${rounds} times, ${((liveBytes * rounds) / 1e6).toFixed(0)} MB in all, ${(liveBytes / 1e6).toFixed(1)} MB alive: the directory took ${times(mostBytes)} at most after a round, ${times(atEnd)} at the end, ${times(rested)} at rest, and with all keys deleted ${(deleted / 1e6).toFixed(2)} MB, ${(emptyBytes / 1e6).toFixed(2)} MB when it was new`,
    );
    expect(rested).toBeLessThanOrEqual(3 * liveBytes);
  } finally {
    agent.destroy();
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

function write(address: string, agent: http.Agent, operations: readonly unknown[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const outgoing = http.request(
      `http://${address}/cambium.v1.KVStore/Write`,
      { method: "POST", headers, agent },
      (incoming) => {
        incoming.on("error", reject);
        incoming.on("end", () =>
          incoming.statusCode === 200 ? resolve() : reject(new Error(`a batch answered ${incoming.statusCode}`)),
        );
        incoming.resume();
      },
    );
    outgoing.on("error", reject);
    outgoing.end(JSON.stringify({ operations }));
  });
}

/** What a directory takes on the disk, as `du` counts it. */
async function diskBytes(directory: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    // Compaction may remove a file between the listing and the look at it.
    const stats = await lstat(path.join(entry.parentPath, entry.name)).catch(() => undefined);
    sum += (stats?.blocks ?? 0) * 512;
  }
  return sum;
}
