/** A data directory with noise in it: whatever a file is made to say, a store opens or says in words why not. */
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { FileSystemError } from "../wal/file-system.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { RecordLogError } from "../records/record-log-error.js";
import { FormatError } from "./byte-codec.js";
import { NodeFileError } from "./node-file.js";
import { SnapshotError } from "./snapshots.js";
import { type Store, StoreError, WalError } from "./store.js";
import { beginMastership, bytes, openStore } from "./testing/stores.js";

const RUNS = 200;
/** What an operator is told in words. All else would be a bug. */
const told = [WalError, StoreError, SnapshotError, NodeFileError, FormatError, RecordLogError, FileSystemError];
const options = { segmentBytesMax: 4096, recordSegmentBytesMax: 4096 };

/** Everything that a directory can have: segments and their indexes, a snapshot, records, the node's file. */
let sound: MemoryFileSystem;

beforeAll(async () => {
  sound = new MemoryFileSystem();
  const store = await openStore({ ...options, fileSystem: sound });
  await beginMastership(store);
  const write = async (n: number): Promise<void> => {
    await store.write([{ kind: "set", key: bytes(`key-${n % 20}`), value: bytes("v".repeat(n % 300)) }]);
    if (n % 5 === 0) await store.produce([bytes(`record ${n}`.repeat(n % 20))]);
  };
  for (let n = 0; n < 60; n++) await write(n);
  await store.createSnapshot();
  for (let n = 60; n < 120; n++) await write(n);
  await store.close();
});

interface Change {
  readonly kind: "set" | "flip" | "cut" | "double" | "insert" | "end";
  readonly at: number;
  readonly length: number;
  readonly noise: Uint8Array;
}

/** Not at random alone: numbers stand at multiples of four, and the greatest of them are the worst. */
const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("set", "flip", "cut", "double", "insert", "end"),
  at: fc.oneof(fc.nat(64), fc.nat(4096)),
  length: fc.integer({ min: 1, max: 40 }),
  noise: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 8 }),
    fc.constantFrom(0x00, 0x7f, 0xff).map((byte) => new Uint8Array(8).fill(byte)),
  ),
});

function changed(before: Buffer, { kind, at, length, noise }: Change): Buffer {
  const from = before.length === 0 ? 0 : at % before.length;
  const [head, middle, tail] = [
    before.subarray(0, from),
    before.subarray(from, from + length),
    before.subarray(from + length),
  ];
  switch (kind) {
    case "set":
      return Buffer.concat([head, noise.subarray(0, middle.length), middle.subarray(noise.length), tail]);
    case "flip":
      return Buffer.concat([head, middle.map((byte, n) => (n === 0 ? byte ^ (1 << (length & 7)) : byte)), tail]);
    case "cut":
      return Buffer.concat([head, tail]);
    case "double":
      return Buffer.concat([head, middle, middle, tail]);
    case "insert":
      return Buffer.concat([head, noise, middle, tail]);
    case "end":
      return Buffer.from(head);
  }
}

async function outcomeOf(fileSystem: MemoryFileSystem): Promise<void> {
  let store: Store;
  try {
    store = await openStore({ ...options, fileSystem });
  } catch (error) {
    const isTold = told.some((kind) => error instanceof kind);
    expect(isTold, error instanceof Error ? error.stack : String(error)).toBe(true);
    expect((error as Error).message.length).toBeGreaterThan(10);
    return;
  }
  store.status();
  await store.close();
}

test("files of every kind are there to be damaged", () => {
  const kinds = new Set(sound.paths().map((path) => path.replace(/\d{6,}|[0-9a-f]{16,}/g, "N")));
  expect([...kinds]).toMatchInlineSnapshot(`
    [
      "node.json",
      "records/N.wal",
      "snapshots/N-N.snapshot",
      "wal/N.index",
      "wal/N.wal",
    ]
  `);
});

test("a file that is changed anywhere is told of, or makes no difference", async () => {
  const paths = sound.paths();
  const damage = fc.tuple(fc.constantFrom(...paths), fc.array(change, { minLength: 1, maxLength: 3 }));
  await fc.assert(
    fc.asyncProperty(damage, async ([path, changes]) => {
      const fileSystem = sound.copy();
      fileSystem.setBytes(path, changes.reduce(changed, sound.bytes(path)));
      await outcomeOf(fileSystem);
    }),
    { numRuns: RUNS },
  );
});

test("files that have each other's bytes, none, or noise are told of", async () => {
  const paths = sound.paths();
  const other = fc.oneof(
    fc.constantFrom(...paths).map((path) => (): Uint8Array => sound.bytes(path)),
    fc.uint8Array({ maxLength: 300 }).map((noise) => (): Uint8Array => noise),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...paths), other), { minLength: 1, maxLength: 3 }),
      async (all) => {
        const fileSystem = sound.copy();
        for (const [path, content] of all) fileSystem.setBytes(path, content());
        await outcomeOf(fileSystem);
      },
    ),
    { numRuns: RUNS },
  );
});
