import { expect, test } from "vitest";
import { epoch, seq } from "../base/position.js";
import type { Watch, WatchBatch, Watches, WatchRequest } from "../watch/watch-types.js";
import { WatchStreams } from "./watch-streams.js";

const COUNT = 20_000;

/** Watches that give a batch at once, and then nothing until they are ended. */
class EndlessWatches implements Watches {
  count = 0;

  open({ signal }: WatchRequest): Watch {
    this.count++;
    signal.addEventListener("abort", () => this.count--, { once: true });
    return watch(signal);
  }
}

async function* given(signal: AbortSignal): AsyncGenerator<WatchBatch, undefined> {
  yield { events: [], position: { epoch: epoch(1), seq: seq(1) }, token: new Uint8Array(1) };
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  return undefined;
}

function watch(signal: AbortSignal): Watch {
  return given(signal) as unknown as Watch;
}

test("a stream ends with all its watches, however many have something to tell that nobody took", async () => {
  const watches = new EndlessWatches();
  const streams = new WatchStreams(watches);
  const stream = streams.open(undefined);
  for (let i = 0; i < COUNT; i++) {
    stream.add({ watchId: BigInt(i), watch: { after: "now" } });
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect([watches.count, streams.count]).toEqual([COUNT, 1]);
  stream.close();
  expect([watches.count, streams.count]).toEqual([0, 0]);
  const { value, done } = await stream.news().next();
  expect([value, done]).toEqual([undefined, true]);
});
