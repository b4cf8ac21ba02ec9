/**
 * Loaded into a server before its own code (`node --import`), to watch it from inside between a `begin` and an `end` that come
 * over the channel to the bench.
 */
import { LoopWatch } from "./loop-watch.js";

export type ProbeRequest = "begin" | "end";

const watch = new LoopWatch();

process.on("message", (request: ProbeRequest) => {
  if (request === "begin") watch.begin();
  else watch.end();
  process.send?.(watch.report());
});
// The channel alone keeps no server alive.
process.channel?.unref();
