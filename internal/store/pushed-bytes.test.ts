/** Records travel as they stand in the log: their master neither copies nor decodes them, and a replica decodes each once. */
import { beforeEach, expect, test, vi } from "vitest";
import { must } from "../base/assert.js";
import type * as ChangeModule from "./change.js";
import { applied, beginMastership, bytes, joinReplica, kept, openStore, seq } from "./testing/stores.js";

const KIND_PUT = 2;
/** Payloads of puts that were decoded. */
const counts = vi.hoisted(() => ({ decoded: 0, encoded: 0 }));

vi.mock("./change.js", async (importOriginal) => {
  const real = await importOriginal<typeof ChangeModule>();
  class LonePut extends real.LonePut {
    override read(...range: Parameters<ChangeModule.LonePut["read"]>): boolean {
      const isPut = super.read(...range);
      if (isPut) counts.decoded++;
      return isPut;
    }
  }
  const counted: Pick<typeof ChangeModule, "decodeChanges" | "encodeChanges" | "LonePut"> = {
    LonePut,
    decodeChanges: (payload) => {
      if (payload[0] === KIND_PUT) counts.decoded++;
      return real.decodeChanges(payload);
    },
    encodeChanges: (changes) => {
      if (changes[0]?.kind === "put") counts.encoded++;
      return real.encodeChanges(changes);
    },
  };
  return { ...real, ...counted };
});

beforeEach(() => {
  counts.decoded = counts.encoded = 0;
});

test("a write is encoded once and decoded never on its master, and decoded once on a replica, which keeps the same bytes", async () => {
  const master = await openStore();
  await beginMastership(master);
  const writes = Array.from({ length: 100 }, (_, i) =>
    master.write([{ kind: "set", key: bytes(`key ${i}`), value: bytes(`value ${i}`) }]),
  );
  await Promise.all(writes);
  const pushed = must(master.readTail(seq(0), 1 << 20), "it is in memory");
  expect(counts).toEqual({ encoded: 100, decoded: 0 });

  const again = must(master.readTail(seq(0), 1 << 20), "it is in memory");
  expect([again.buffer === pushed.buffer, again.byteOffset]).toEqual([true, pushed.byteOffset]);

  const replica = await joinReplica(master);
  replica.appendRecords(pushed);
  await kept(replica, master.last.seq);
  replica.commit(master.last.seq);
  await applied(replica, master.last.seq);
  expect(counts).toEqual({ encoded: 100, decoded: 100 });
  expect(Buffer.compare(must(replica.readTail(seq(0), 1 << 20), "it is in memory"), pushed)).toBe(0);
  await replica.close();
  await master.close();
});
