#!/usr/bin/env node
/**
 * `npm start`: runs a master and two replicas until ctrl-C.
 *
 * Exit codes: 0 when all three left cleanly, 1 when one could not start, crashed or was killed, 2 for bad flags.
 */
import path from "node:path";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { Demo, type DemoOptions } from "./demo.js";

/** Signals that are closer together than this are one wish. */
const sameKeystrokeMs = 500;

async function main(): Promise<number> {
  const options = parseFlags();
  const demo = new Demo(options);
  const interrupted = interruptOf(demo);
  say("Starting a master and two replicas …");
  try {
    const started = await Promise.race([demo.start(), interrupted, demo.crashed]);
    if (started === true) showScreen(demo.addresses, options);
    const reason = await Promise.race([interrupted, demo.crashed]);
    if (reason !== undefined) complain(`${reason}. Its log is in ${shown(options.directory)}.`);
    say("Stopping … (ctrl-C again to stop at once)");
    const clean = await demo.stop();
    if (clean && reason === undefined) say("Stopped. The data stays for the next start.");
    else if (reason === undefined) complain("Not all of them stopped cleanly. Nothing that was acknowledged is lost.");
    return clean && reason === undefined ? 0 : 1;
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
    await demo.stop();
    return 1;
  }
}

/**
 * Resolves at the first signal to stop; a later one kills. One ctrl-C may come as two signals: the terminal sends it to
 * the whole process group, and npm passes its own on.
 */
function interruptOf(demo: Demo): Promise<undefined> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const interrupt = (): void => {
      firstMs ??= performance.now();
      if (performance.now() - firstMs > sameKeystrokeMs) demo.kill();
      resolve(undefined);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, interrupt);
  });
}

function showScreen(addresses: readonly string[], options: DemoOptions): void {
  const [master, replica] = addresses;
  const post = `-w '\\n' -H 'content-type: application/json'`;
  const commands = [
    `curl -s http://${master}/cambium.v1.KVStore/Set ${post} -d '{"key":"greeting","value":"aGVsbG8="}'`,
    `curl -s http://${replica}/cambium.v1.KVStore/Get ${post} -d '{"key":"greeting"}'`,
    `npx cambium status --endpoints ${addresses.join(",")}`,
  ];
  say(`
${pc.bold(pc.green("Cambium is running:"))} one master takes the writes, every node answers reads.

${addresses.map((address, index) => `  ${index === 0 ? "master " : "replica"}  http://${address}`).join("\n")}

Paste these into another terminal, in this folder: a write to the master, a read from a replica, and the cluster's state.

${commands.map((command) => `  ${pc.cyan(command)}`).join("\n\n")}

Data, configurations and logs are in ${shown(options.directory)}. Ctrl-C stops all three; the data stays.`);
}

function parseFlags(): DemoOptions {
  const command = new Command("npm start --")
    .description("Runs a master and two replicas on this machine until ctrl-C.")
    .option(
      "--base-port <port>",
      "port of the master; the replicas take the next two; 0: any free ones",
      parsePort,
      8080,
    )
    .option("--data <folder>", "where data, configurations and logs are kept", "data/demo")
    .exitOverride();
  try {
    const flags = command.parse().opts<{ basePort: number; data: string }>();
    return { basePort: flags.basePort, directory: path.resolve(flags.data) };
  } catch (error) {
    // Commander has said what is wrong already.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  // The replicas need two more above it.
  if (/^\d+$/.test(text) && port <= 65_533) return port;
  throw new InvalidArgumentError("A port is a whole number from 1 to 65533, or 0 for any.");
}

/** A folder as a person here would name it. */
function shown(directory: string): string {
  const relative = path.relative(process.cwd(), directory);
  return relative.startsWith("..") || path.isAbsolute(relative) ? directory : relative;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  process.stderr.write(`${pc.red("cambium demo:")} ${text}\n`);
}

process.exitCode = await main();
