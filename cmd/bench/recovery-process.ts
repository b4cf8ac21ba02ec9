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

async function openAndCount(directory: string, entries: number): Promise<number> {
  const startMs = performance.now();
  const store = await openStore(directory);
  const elapsedMs = performance.now() - startMs;
  const { keys } = store.status();
  await store.close();
  if (keys !== entries) throw new Error(`${keys} keys were recovered, instead of ${entries}`);
  return elapsedMs;
}

async function readAll(files: readonly string[]): Promise<RecoveryResult> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let bytes = 0;
  let crc = 0;
  const startMs = performance.now();
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
  return { elapsedMs: performance.now() - startMs, bytes };
}

async function run(job: RecoveryJob): Promise<RecoveryResult> {
  const startMs = performance.now();
  const done = (): RecoveryResult => ({ elapsedMs: performance.now() - startMs, bytes: 0 });
  switch (job.kind) {
    case "fill":
      await fill(job.directory, job.entries);
      return done();
    case "snapshot": {
      const store = await openStore(job.directory);
      await store.createSnapshot();
      await store.close();
      return done();
    }
    case "open":
      return { elapsedMs: await openAndCount(job.directory, job.entries), bytes: 0 };
    case "read":
      return readAll(job.files);
  }
}

work((job) => run(job as RecoveryJob));
