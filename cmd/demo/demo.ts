/**
 * Three nodes on this machine, each a process of its own, with their configurations, data and logs in one folder. They vote:
 * a write counts once two of them keep it, and any of them can be master. What is written stays there for the next start.
 */
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { makeFolder } from "../make-folder.js";
import { ServerProcess } from "./server-process.js";

const host = "127.0.0.1";
const NODES = 3;
const POLL_MS = 50;
/** Where nobody chose one, and there are no nodes of an earlier start. */
const BASE_PORT = 8080;

export interface DemoOptions {
  /** Of the first node; the others take the two after it. 0: any three that are free. Absent: those of the last start. */
  readonly basePort: number | undefined;
  /** Folder of the data, the configurations and the logs; made when it is not there. */
  readonly directory: string;
}

export class Demo {
  readonly #options: DemoOptions;
  readonly #servers: ServerProcess[] = [];
  #stopping = false;
  readonly #crashed: (server: ServerProcess, reason: string) => void;

  /** `crashed` is told of each server that ends without being asked to, and why, in words. */
  constructor(options: DemoOptions, crashed: (server: ServerProcess, reason: string) => void) {
    this.#options = options;
    this.#crashed = crashed;
  }

  /** In the order of their ports. */
  get servers(): readonly ServerProcess[] {
    return this.#servers;
  }

  /** All of them serve when it resolves. It resolves early, to false, when it is stopped or a server crashes. */
  async start(): Promise<boolean> {
    await makeFolder(this.#options.directory);
    const ports = await this.#choosePorts();
    const addresses = ports.map((port) => `${host}:${port}`);
    const files = ports.map((_, index) => path.join(this.#options.directory, `node-${index + 1}`));
    for (const [index, base] of files.entries())
      await writeFile(`${base}.yaml`, configOf(ports[index]!, base, addresses));
    if (this.#stopping) return false;
    // All at once: the first founds the cluster when it sees that all are there.
    for (const [index, base] of files.entries()) this.#startServer(index, base, addresses[index]!);
    const ready = Promise.all(this.#servers.map((server) => server.ready()));
    const oneGone = Promise.race(this.#servers.map((server) => server.exited));
    return await Promise.race([ready.then((all) => all.every(Boolean)), oneGone.then(() => false)]);
  }

  /** The server that is master, once all of them agree on one. */
  async master(): Promise<ServerProcess> {
    for (;;) {
      const known = await Promise.all(this.#servers.map((server) => server.masterAddress()));
      const master = this.#servers.find(({ spec }) => known.every((address) => address === spec.address));
      if (master) return master;
      if (this.#servers.some((server) => server.hasEnded))
        throw new Error("a node has ended before the others agreed on a master");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Lets each server answer what it has begun and close its log. Resolves to whether all of them left cleanly. */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    for (const server of this.#servers) server.signal("SIGTERM");
    const codes = await Promise.all(this.#servers.map((server) => server.exited));
    return codes.every((code) => code === 0);
  }

  /** Ends all of them now. Nothing acknowledged is lost by that either. */
  kill(): void {
    this.#stopping = true;
    for (const server of this.#servers) server.signal("SIGKILL");
  }

  #startServer(index: number, base: string, address: string): void {
    const server = new ServerProcess({
      name: `node ${index + 1}`,
      // What an empty directory becomes. From then on the directory knows, also after another one became master.
      program: index === 0 ? "master" : "replica",
      address,
      configFile: `${base}.yaml`,
      logFile: `${base}.log`,
    });
    this.#servers.push(server);
    void server.exited.then(async () => {
      const reason = await server.epitaph();
      if (!this.#stopping) this.#crashed(server, reason);
    });
  }

  /** Nodes know each other by their addresses, so that data goes with its ports. */
  async #choosePorts(): Promise<number[]> {
    const { basePort, directory } = this.#options;
    const file = path.join(directory, "ports.json");
    const known = await readPorts(file);
    if (known && basePort !== undefined && basePort !== 0 && basePort !== known[0]) {
      throw new Error(
        `the nodes of ${directory} have the ports ${known.join(", ")}; leave --base-port out, or name another folder with --data`,
      );
    }
    const ports = known ? await takePorts(known) : await takePorts(portsFrom(basePort ?? BASE_PORT));
    await writeFile(file, `${JSON.stringify(ports)}\n`);
    return ports;
  }
}

function portsFrom(base: number): number[] {
  return Array.from({ length: NODES }, (_, index) => (base === 0 ? 0 : base + index));
}

async function readPorts(file: string): Promise<number[] | undefined> {
  try {
    const ports = JSON.parse(await readFile(file, "utf8")) as number[];
    if (Array.isArray(ports) && ports.length === NODES && ports.every((port) => Number.isInteger(port))) return ports;
    throw new SyntaxError("it does not hold three ports");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (error instanceof SyntaxError) throw new Error(`${file} is damaged: ${error.message}`, { cause: error });
    throw error;
  }
}

/** A configuration file; each value is JSON, which is YAML too. */
function configOf(port: number, directory: string, nodes: readonly string[]): string {
  const lines = [
    "# Written by the demonstration at each start; see configs/ for all that can be set.",
    // With forwarding, every line that the demonstration shows works whoever is master.
    `server: { address: ${JSON.stringify(host)}, port: ${port}, forward_writes: true }`,
    `wal: { directory: ${JSON.stringify(path.resolve(directory))} }`,
    `cluster: { nodes: ${JSON.stringify(nodes)} }`,
  ];
  return `${lines.join("\n")}\n`;
}

/** Ports that are free now, 0 for any. A server that finds its port taken later says so itself. */
async function takePorts(ports: readonly number[]): Promise<number[]> {
  const holders = [];
  try {
    for (const port of ports) holders.push(await hold(port));
    return holders.map((holder) => holder.port);
  } finally {
    await Promise.all(holders.map((holder) => holder.release()));
  }
}

function hold(port: number): Promise<{ port: number; release: () => Promise<void> }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = `port ${port} of ${host} is in use; stop the program that has it, or take others with --base-port`;
      reject(error.code === "EADDRINUSE" ? new Error(taken) : error);
    });
    server.listen(port, host, () => {
      const address = server.address();
      const release = (): Promise<void> => new Promise((released) => server.close(() => released()));
      resolve({ port: typeof address === "object" && address ? address.port : port, release });
    });
  });
}
