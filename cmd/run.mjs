/**
 * `node cmd/run.mjs PROGRAM [arguments]` sets the clone up (see setup.mjs) and runs one of its programs in this very
 * process, so that signals and exit codes are the program's own.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { orExit, prepare, root, SetupError } from "./setup.mjs";

const [program, ...rest] = process.argv.slice(2);
await orExit(async () => {
  prepare();
  const main = path.join(root, "dist", "cmd", program ?? "", "main.js");
  if (!program || !existsSync(main)) throw new SetupError(`there is no program ${program ?? ""} under cmd/`);
  process.argv = [process.execPath, main, ...rest];
  await import(pathToFileURL(main).href);
});
