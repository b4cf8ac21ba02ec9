import { expect, test } from "vitest";
import { epoch, seq } from "../base/position.js";
import { WalError } from "../wal/wal-error.js";
import { readUpdates } from "./updates.js";

test("a place that is compacted away while it is read is out of range, with what is left", async () => {
  let compactSeq = seq(0);
  const page = readUpdates({
    request: { after: seq(3), limit: 10, maxBytes: 1000, waitMs: 0, signal: new AbortController().signal },
    source: {
      compactSeq: () => compactSeq,
      appliedSeq: () => seq(20),
      forks: () => [],
      positionAt: (at) => ({ epoch: epoch(1), seq: at }),
      tokenAt: () => new Uint8Array(0),
      read: () => {
        compactSeq = seq(12);
        return Promise.reject(new WalError("out_of_range", "seq 3 is not in the log, which holds 13 to 20"));
      },
      nextApplied: () => Promise.resolve(),
      monotonicMs: () => 0,
    },
  });
  await expect(page).rejects.toMatchObject({ code: "out_of_range", range: { compactSeq: 12, appliedSeq: 20 } });
});
