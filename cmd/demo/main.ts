#!/usr/bin/env node
/**
 * `npm start`: runs three nodes until ctrl-C.
 *
 * Exit codes: 0 when all three left cleanly, 1 when one could not start, crashed or was killed, 2 for bad flags.
 */
import path from "node:path";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import pc from "picocolors";
import { Demo, type DemoOptions } from "./demo.js";
import type { ServerProcess } from "./server-process.js";

/** Signals that are closer together than this are one wish. */
const sameKeystrokeMs = 500;

async function main(): Promise<number> {
  const options = parseFlags();
  let isRunning = false;
  let crashes = 0;
  const demo: Demo = new Demo(options, (server, reason) => {
    crashes++;
    complain(`${reason}. Its log is in ${shown(options.directory)}.`);
    // What the others are there for, and worth trying out.
    if (isRunning && demo.servers.some((other) => !other.hasEnded)) showWayOn(demo, server);
  });
  const interrupted = interruptOf(demo);
  say("Starting three nodes …");
  try {
    isRunning = (await Promise.race([demo.start(), interrupted])) === true;
    if (isRunning) {
      showScreen(demo, await demo.master(), options);
      await Promise.race([interrupted, Promise.all(demo.servers.map((server) => server.exited))]);
    }
    say("Stopping … (ctrl-C again to stop at once)");
    isRunning = false;
    const clean = await demo.stop();
    if (clean) say("Stopped. The data stays for the next start.");
    else if (crashes === 0) complain("Not all of them stopped cleanly. Nothing that was acknowledged is lost.");
    return clean ? 0 : 1;
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

function showScreen(demo: Demo, master: ServerProcess, options: DemoOptions): void {
  const [first, second] = demo.servers.filter((server) => server !== master) as [ServerProcess, ServerProcess];
  const all = addressesOf(demo.servers);
  const post = `-w '\\n' -H 'content-type: application/json'`;
  const commands = [
    `curl -s http://${master.spec.address}/cambium.v1.KVStore/Set ${post} -d '{"key":"greeting","value":"aGVsbG8="}'`,
    `curl -s http://${first.spec.address}/cambium.v1.KVStore/Get ${post} -d '{"key":"greeting"}'`,
    `npx cambium status --endpoints ${all}`,
    `npx cambium transfer ${first.spec.address} --endpoints ${all}`,
  ];
  const nodes = demo.servers.map(({ spec, pid }) => {
    const role = spec.address === master.spec.address ? "master " : "replica";
    return `  ${role}  http://${spec.address}  (${spec.name}, process ${pid})`;
  });
  const takeover = `kill -9 ${first.pid}; npx cambium promote ${second.spec.address}`;
  say(`
${pc.bold(pc.green("Cambium is running:"))} one master takes the writes, every node answers reads, and any two keep what was written.

${nodes.join("\n")}

Paste these into another terminal, in this folder: a write to the master, a read from a replica, the cluster's state, and
the mastership handed over to ${first.spec.name}.

${commands.map((command) => `  ${pc.cyan(command)}`).join("\n\n")}

Then end the new master, and let the last one take over: nothing that was acknowledged is lost.

  ${pc.cyan(takeover)}

Data, configurations and logs are in ${shown(options.directory)}. Ctrl-C stops all three; the data stays.`);
}

/** After a node has gone. */
function showWayOn(demo: Demo, gone: ServerProcess): void {
  const left = demo.servers.filter((server) => !server.hasEnded);
  const { program, configFile } = gone.spec;
  say(`
The others go on. Bring it back in another terminal, in this folder, and it follows whoever is master then:

  ${pc.cyan(`npx cambium-${program} --config ${shown(configFile)}`)}

Where the master was lost, make another one (${pc.cyan(`npx cambium status --endpoints ${addressesOf(left)}`)} says which):

${left.map(({ spec }) => `  ${pc.cyan(`npx cambium promote ${spec.address}`)}`).join("\n")}
`);
}

function addressesOf(servers: readonly ServerProcess[]): string {
  return servers.map(({ spec }) => spec.address).join(",");
}

function parseFlags(): DemoOptions {
  const command = new Command("npm start --")
    .description("Runs three nodes on this machine until ctrl-C: a master, and two replicas that can take its place.")
    .option(
      "--base-port <port>",
      "port of the first node; the others take the next two; 0: any free ones (default: those of the last start, or 8080)",
      parsePort,
    )
    .option("--data <folder>", "where data, configurations and logs are kept", "data/demo")
    .exitOverride();
  try {
    const flags = command.parse().opts<{ basePort?: number; data: string }>();
    return { basePort: flags.basePort, directory: path.resolve(flags.data) };
  } catch (error) {
    // Commander has said what is wrong already.
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  // The others need two more above it.
  if (/^\d+$/.test(text) && port <= 65_533) return port;
  throw new InvalidArgumentError("A port is a whole number from 1 to 65533, or 0 for any.");
}

/** A path as a person here would name it. */
function shown(name: string): string {
  const relative = path.relative(process.cwd(), name);
  return relative.startsWith("..") || path.isAbsolute(relative) ? name : relative;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  process.stderr.write(`${pc.red("cambium demo:")} ${text}\n`);
}

process.exitCode = await main();
