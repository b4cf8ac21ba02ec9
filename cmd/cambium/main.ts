#!/usr/bin/env node
/** `cambium`: the operator's command line. */
import { EXIT_INTERRUPTED } from "./cli-error.js";
import { runCambium } from "./program.js";

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    // The first asks the command to end in order; whoever asks again wants out.
    if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
    interrupted.abort();
  });
}
// A reader that went away reaches the command as a failed write; without listeners it would end the process with a stack.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

// Not process.exit: what has been written may still be on its way into a pipe.
process.exitCode = await runCambium(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
  platform: process.platform,
  signal: interrupted.signal,
});
