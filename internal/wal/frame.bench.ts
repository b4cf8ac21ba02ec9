/** What a record costs on its way into the log and out of it, apart from the disk. */
import { bench, describe } from "vitest";
import type { Epoch, EpochMs, Seq } from "../base/position.js";
import { decodeFrameHeader, encodeFrameHeader, FRAME_HEADER_BYTES, frameSeed } from "./frame.js";
import { FrameGroup } from "./frame-group.js";
import { encodeRecord, followRecord, type MovingLogEnd, RECORD_HEADER_BYTES, recordAt } from "./record.js";

const PAYLOAD_BYTES = 140;
const RECORD_BYTES = RECORD_HEADER_BYTES + PAYLOAD_BYTES;
const SALT_CRC = 0x1234567;

const payload = Buffer.alloc(PAYLOAD_BYTES, "a set of one key");
const numbers = { epoch: 1 as Epoch, timestampMs: 1_700_000_000_000 as EpochMs };

/** Records that follow one another, from seq 1 on. */
function recordsOf(count: number): Buffer {
  const bytes = Buffer.alloc(count * RECORD_BYTES);
  let chain = 0;
  for (let n = 0; n < count; n++) {
    chain = encodeRecord(bytes, n * RECORD_BYTES, { ...numbers, seq: (n + 1) as Seq }, chain, payload);
  }
  return bytes;
}

describe(`a record of ${RECORD_BYTES} bytes`, () => {
  const bytes = recordsOf(1);
  const into = Buffer.alloc(RECORD_BYTES);
  const first = { ...numbers, seq: 1 as Seq };
  bench("encoded, both CRCs included", () => void encodeRecord(into, 0, first, 0, payload));
  const log: MovingLogEnd = { ...numbers, seq: 0 as Seq, chain: 0 };
  bench("found to follow the one before", () => {
    log.seq = 0 as Seq;
    log.chain = 0;
    if (followRecord(bytes, 0, bytes.length, log)) throw new Error("a sound record is refused");
  });
  bench("decoded", () => void recordAt(bytes, 0));
});

describe("a frame's header", () => {
  const into = Buffer.alloc(FRAME_HEADER_BYTES);
  const header = { bodyLength: RECORD_BYTES, bodyCrc: 1, recordCount: 1, flags: 0, syncedSeq: 9, appliedSeq: 8 };
  bench("encoded", () => encodeFrameHeader(into, 0, header, frameSeed(SALT_CRC, 4096)));
  const encoded = Buffer.alloc(FRAME_HEADER_BYTES);
  encodeFrameHeader(encoded, 0, header, frameSeed(SALT_CRC, 4096));
  bench("decoded", () => {
    if (!decodeFrameHeader(encoded, 0, frameSeed(SALT_CRC, 4096))) throw new Error("a sound header is refused");
  });
});

describe.each([1, 16, 256, 1024])("a group of %i records", (count) => {
  const records = recordsOf(count);
  const group = new FrameGroup();
  bench("made into one write", () => {
    group.begin(SALT_CRC, 4096);
    group.add(records, 1, count, { flags: 0, syncedSeq: 0, appliedSeq: 0 });
  });
});
