/** A snapshot's bytes: any of them that is not as it was written is seen before anything is made of the whole. */
import { expect, test } from "vitest";
import { clusterId, epochId, nodeId } from "../base/ids.js";
import { epoch, epochMs, type Seq, seq } from "../base/position.js";
import type { WalkedEntry } from "../engine/engine.js";
import { entryRunChecksum } from "../engine/entry-checksum.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { FormatError } from "./byte-codec.js";
import { RetryTable } from "./retries.js";
import { readSnapshot, type SnapshotContent, type SnapshotVisitor, writeSnapshot } from "./snapshot-file.js";
import { bytes, seededRandom } from "./testing/stores.js";

const FILE = "a.snapshot";
const IGNORING: SnapshotVisitor = {
  epochs: () => undefined,
  settings: () => undefined,
  members: () => undefined,
  records: () => undefined,
  entries: entryRunChecksum,
  client: () => undefined,
};

async function written(engine = new MapEngine()): Promise<MemoryFileSystem> {
  for (let at = 1; at <= 20; at++) {
    const value = seededRandom(at).bytes(at * 3);
    const expiresAtMs = at % 3 === 0 ? { expiresAtMs: epochMs(1_800_000_000_000) } : {};
    engine.apply(seq(at), epochMs(1), { kind: "put", key: bytes(`key-${at}`), value, ...expiresAtMs });
  }
  const retries = new RetryTable();
  for (let at = 1; at <= 10; at++) {
    const clientId = `client ${at % 3}`;
    retries.apply({ kind: "remember", clientId, clientSeq: at, answer: bytes(`answer ${at}`) }, seq(at), epochMs(at));
  }
  const content: SnapshotContent = {
    header: {
      clusterId: clusterId("0123456789abcdef0123456789abcdef"),
      from: { epoch: epoch(2), seq: seq(20), chain: 12345 },
      fromTimestampMs: epochMs(1_700_000_000_000),
      salt: seededRandom().bytes(16),
    },
    epochs: [{ epoch: epoch(1), epochId: epochId("ab".repeat(8)), firstSeq: seq(1) }],
    settings: { commit: "majority", voters: "listed" },
    members: [
      { nodeId: nodeId("c".repeat(32)), address: "node:1", voter: true, source: "founder", removed: false },
      { nodeId: nodeId("d".repeat(32)), address: "node:2", voter: false, source: "added", removed: true },
    ],
    records: { start: 3, end: 9, chain: 777 },
    engine,
    retries,
    appliedSeq: () => seq(20),
  };
  const fileSystem = new MemoryFileSystem();
  await fileSystem.makeDirectory("");
  await writeSnapshot(fileSystem, FILE, content, new AbortController().signal);
  return fileSystem;
}

test("every single bit of a snapshot is covered: flipped, it is refused", async () => {
  const fileSystem = await written();
  const sound = fileSystem.bytes(FILE);
  expect((await readSnapshot(fileSystem, FILE, IGNORING)).end).toMatchObject({ entries: 20, members: 2, to: 20 });
  for (let bit = 0; bit < sound.length * 8; bit++) {
    const damaged = Buffer.from(sound);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    fileSystem.setBytes(FILE, damaged);
    const error: unknown = await readSnapshot(fileSystem, FILE, IGNORING).catch((reason: unknown) => reason);
    expect(error, `bit ${bit}`).toBeInstanceOf(FormatError);
    // Not even a flipped version sends anybody to look for a newer one.
    expect((error as FormatError).name, `bit ${bit}`).toBe("FormatError");
  }
});

test("a snapshot that is cut at any byte, or followed by anything, is refused", async () => {
  const fileSystem = await written();
  const sound = fileSystem.bytes(FILE);
  const harmed = [...sound.keys()].map((length) => sound.subarray(0, length));
  for (const image of [...harmed, Buffer.concat([sound, Buffer.alloc(1)])]) {
    fileSystem.setBytes(FILE, image);
    await expect(readSnapshot(fileSystem, FILE, IGNORING), `${image.length} bytes`).rejects.toThrow(FormatError);
  }
});

/** An engine in which an entry was damaged behind its checksum's back. */
class RottenEngine extends MapEngine {
  override *walk(createdUpTo: Seq): Generator<WalkedEntry, undefined> {
    for (const entry of { [Symbol.iterator]: () => super.walk(createdUpTo) }) {
      const value = new Uint8Array(entry.value);
      if (entry.createSeq === 7) value[0]! ^= 1;
      yield { ...entry, value };
    }
  }
}

test("a snapshot of an entry that had changed since it was written to the engine is refused", async () => {
  const fileSystem = await written(new RottenEngine());
  await expect(readSnapshot(fileSystem, FILE, IGNORING)).rejects.toThrow(
    /holds 20 entries and 2 members with checksum/,
  );
});
