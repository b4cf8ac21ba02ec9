/**
 * A master and two replicas on this machine, each a process of its own, with their configurations, data and logs in one
 * folder. What is written stays there for the next start.
 */
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { makeFolder } from "../make-folder.js";
import { ServerProcess, type ServerSpec } from "./server-process.js";

const host = "127.0.0.1";

export interface DemoOptions {
  /** The master's port; the replicas take the two after it. 0: any three that are free. */
  readonly basePort: number;
  /** Folder of the data, the configurations and the logs; made when it is not there. */
  readonly directory: string;
}

export class Demo {
  readonly #options: DemoOptions;
  readonly #servers: ServerProcess[] = [];
  #stopping = false;
  #tellCrash: (reason: string) => void = () => undefined;
  /** Resolves, to the reason in words, when a server ends that nobody asked to. */
  readonly crashed: Promise<string>;

  constructor(options: DemoOptions) {
    this.#options = options;
    this.crashed = new Promise((resolve) => (this.#tellCrash = resolve));
  }

  /** `host:port` of the master and the replicas, once it is started. */
  get addresses(): string[] {
    // They start at once, in whatever order their folders are made; the master's name comes first.
    return this.#servers
      .map(({ spec }) => spec)
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map(({ address }) => address);
  }

  /** All three serve reads when it resolves. It resolves early, to false, when it is stopped or a server crashes. */
  async start(): Promise<boolean> {
    const [masterPort, ...replicaPorts] = await takePorts(this.#options.basePort, 3);
    const master = `${host}:${masterPort}`;
    if (!(await this.#startServer("master", "master", master))) return false;
    const replicas = replicaPorts.map((port, index) =>
      this.#startServer(`replica ${index + 1}`, "replica", `${host}:${port}`, master),
    );
    return (await Promise.all(replicas)).every((ready) => ready);
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

  async #startServer(
    name: string,
    program: ServerSpec["program"],
    address: string,
    masterAddress?: string,
  ): Promise<boolean> {
    const base = path.join(this.#options.directory, name.replace(" ", "-"));
    const spec = { name, program, address, configFile: `${base}.yaml`, logFile: `${base}.log` };
    await makeFolder(this.#options.directory);
    await writeFile(spec.configFile, configOf(address, base, masterAddress));
    if (this.#stopping) return false;
    const server = new ServerProcess(spec);
    this.#servers.push(server);
    void server.exited.then(async () => {
      if (!this.#stopping) this.#tellCrash(await server.epitaph());
    });
    return server.ready();
  }
}

/** A configuration file; each value is JSON, which is YAML too. */
function configOf(address: string, directory: string, masterAddress?: string): string {
  const port = address.slice(host.length + 1);
  const lines = [
    "# Written by the demonstration at each start; see configs/ for all that can be set.",
    `server: { address: ${JSON.stringify(host)}, port: ${port} }`,
    `wal: { directory: ${JSON.stringify(path.resolve(directory))} }`,
    ...(masterAddress === undefined ? [] : [`master: { address: ${JSON.stringify(masterAddress)} }`]),
  ];
  return `${lines.join("\n")}\n`;
}

/** Ports that are free now, `base` and those after it, or any. A server that finds its port taken later says so itself. */
async function takePorts(base: number, count: number): Promise<number[]> {
  const holders = [];
  try {
    for (let index = 0; index < count; index++) holders.push(await hold(base === 0 ? 0 : base + index));
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
