/** One job on a data directory, in a process of its own, as cold as a server that starts: `recovery-process.js JOB`, the job as JSON. */
import { open } from "node:fs/promises";
import { crc32 } from "../../internal/base/crc32.js";
import { beginServing, openStore } from "./bench-store.js";
import type { RecoveryJob, RecoveryResult } from "./recovery-job.js";
import { work } from "./worker.js";
import { keyOf, VALUE } from "./workload.js";

/** Writes in flight while a directory is filled. */
const IN_FLIGHT = 2000;
const READ_BYTES = 1 << 20;

async function fill(directory: string, entries: number): Promise<void> {
  const store = await openStore(directory);
  await beginServing(store);
  const encoder = new TextEncoder();
  for (let at = 0; at < entries;) {
    const writes: Promise<unknown>[] = [];
    for (; at < entries && writes.length < IN_FLIGHT; at++) {
      writes.push(store.write([{ kind: "set", key: encoder.encode(keyOf(at)), value: VALUE }]));
    }
    await Promise.all(writes);
  }
  await store.close();
}

async function openAndCount(directory: string, entries: number): Promise<RecoveryResult> {
  const taken = stopwatch();
  const store = await openStore(directory);
  const result = taken();
  const { keys } = store.status();
  await store.close();
  if (keys !== entries) throw new Error(`${keys} keys were recovered, instead of ${entries}`);
  return result;
}

/** What was taken since, whenever it is asked. */
function stopwatch(): (bytes?: number) => RecoveryResult {
  const startMs = performance.now();
  const start = process.cpuUsage();
  return (bytes = 0) => {
    const elapsedMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(start);
    return { elapsedMs, cpuMs: (user + system) / 1000, bytes };
  };
}

async function readAll(files: readonly string[]): Promise<RecoveryResult> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let bytes = 0;
  let crc = 0;
  const taken = stopwatch();
  for (const path of files) {
    const file = await open(path);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
      if (bytesRead === 0) break;
      crc = crc32(buffer.subarray(0, bytesRead), crc);
      bytes += bytesRead;
    }
    await file.close();
  }
  return taken(bytes);
}

async function run(job: RecoveryJob): Promise<RecoveryResult> {
  const taken = stopwatch();
  switch (job.kind) {
    case "fill":
      await fill(job.directory, job.entries);
      return taken();
    case "snapshot": {
      const store = await openStore(job.directory);
      await store.createSnapshot();
      await store.close();
      return taken();
    }
    case "open":
      return openAndCount(job.directory, job.entries);
    case "read":
      return readAll(job.files);
  }
}

work((job) => run(job as RecoveryJob));
