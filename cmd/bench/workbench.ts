/** What a run of the bench starts and makes; all of it ends and goes with the run, whatever happens. */
import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { BaselineKind } from "./baseline-kinds.js";
import { LoadProcess } from "./load-process.js";
import { type PeerKind, peerOptions } from "./peers.js";
import { type ServerOptions, ServerProcess } from "./server-process.js";
import type { WorkerReport } from "./worker.js";

export type ConfigSections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** None but those that are asked for: one that comes when it likes would be counted with whatever is measured then. */
const NO_SNAPSHOTS = { interval: "0s", log_bytes: 0 };

export interface NodeOptions {
  /** Laid over the defaults of its configuration. */
  readonly sections?: ConfigSections;
  /** Has its event loop and its memory watched from inside. */
  readonly probed?: true;
}

export class Workbench {
  /** On the disk that is measured. */
  readonly directory: string;
  /** Every program that was started, in order. */
  readonly commands: string[] = [];
  readonly #servers = new Set<ServerProcess>();
  readonly #loads = new Set<LoadProcess>();
  readonly #workers = new Set<ChildProcess>();

  constructor(parent: string) {
    mkdirSync(parent, { recursive: true });
    this.directory = mkdtempSync(path.join(parent, "run-"));
  }

  /** A load generator of its own. */
  load(): LoadProcess {
    const load = new LoadProcess();
    this.#loads.add(load);
    return load;
  }

  async start(options: ServerOptions): Promise<ServerProcess> {
    this.commands.push(options.command.join(" "));
    const server = await ServerProcess.start(options);
    this.#servers.add(server);
    return server;
  }

  startBaseline(kind: BaselineKind): Promise<ServerProcess> {
    return this.start({
      name: `the baseline ${kind}`,
      command: [process.execPath, fileOf("bench/baseline.js"), kind],
      readiness: { message: "listening" },
    });
  }

  /** Another store, in the directory `name`; undefined when it is not installed. */
  async startPeer(kind: PeerKind, name: string, args: readonly string[] = []): Promise<ServerProcess | undefined> {
    const directory = path.join(this.directory, name);
    mkdirSync(directory, { recursive: true });
    const options = await peerOptions(kind, directory, args);
    return options && this.start(options);
  }

  /** Starts a master on the data directory `name`. */
  startMaster(name: string, options: NodeOptions = {}): Promise<ServerProcess> {
    // It listens before its mastership has begun.
    return this.#startNode("master", name, options);
  }

  /** Starts a replica on the data directory `name`, which may have no master yet. */
  startReplica(name: string, options: NodeOptions = {}): Promise<ServerProcess> {
    return this.#startNode("replica", name, options);
  }

  /** Has `program` do a job, in a process of its own. It is a file of this folder that calls `work`. */
  work<Result>(program: string, job: { readonly kind: string }, execArgv: readonly string[] = []): Promise<Result> {
    const file = fileOf(`bench/${program}`);
    this.commands.push([process.execPath, ...execArgv, file, JSON.stringify(job)].join(" "));
    return new Promise((resolve, reject) => {
      const child = fork(file, [JSON.stringify(job)], { execArgv: [...execArgv] });
      this.adopt(child);
      child.once("message", (report: WorkerReport) => {
        if (report.kind === "done") resolve(report.result as Result);
        else reject(new Error(`${job.kind}: ${report.message}`));
      });
      child.once("exit", (code, signal) => reject(new Error(`${job.kind}: the process ended (${code ?? signal})`)));
    });
  }

  /** Has a process ended with all the others that run on the bench. */
  adopt(child: ChildProcess): void {
    this.#workers.add(child);
    child.once("exit", () => this.#workers.delete(child));
  }

  async stop(server: ServerProcess): Promise<void> {
    await server.stop();
    this.#servers.delete(server);
  }

  /** Ends all that runs: the servers in their own way, the others at once. */
  async clear(): Promise<void> {
    this.#endClients();
    await Promise.all([...this.#servers].map((server) => this.stop(server)));
  }

  /** Ends and removes all that is left, at once. */
  leave(): void {
    for (const server of this.#servers) server.kill();
    this.#endClients();
    // A server that was told to end a moment ago may write a last file meanwhile.
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  #endClients(): void {
    for (const load of this.#loads) load.close();
    this.#loads.clear();
    for (const worker of this.#workers) worker.kill("SIGKILL");
    this.#workers.clear();
  }

  #startNode(kind: "master" | "replica", name: string, { sections, probed }: NodeOptions): Promise<ServerProcess> {
    const config = path.join(this.directory, `${name}.yaml`);
    const all: ConfigSections = {
      ...sections,
      server: { port: 0, ...sections?.server },
      wal: { directory: path.join(this.directory, name), ...sections?.wal },
      log: { format: "json", ...sections?.log },
      snapshots: { ...NO_SNAPSHOTS, ...sections?.snapshots },
    };
    // JSON is YAML too.
    writeFileSync(config, JSON.stringify(all));
    // What a user has set for nodes of their own is none of the bench's business.
    const environment = Object.fromEntries(
      Object.entries(process.env).flatMap(([name, value]) =>
        value === undefined || name.startsWith("CAMBIUM_") ? [] : [[name, value] as const],
      ),
    );
    const probe = probed ? ["--import", new URL("./loop-probe.js", import.meta.url).href] : [];
    return this.start({
      name: `the ${kind} ${name}`,
      // It leaves with this program, however that ends.
      command: [process.execPath, ...probe, fileOf(`${kind}/main.js`), "--config", config, "--until-stdin-ends"],
      readiness: { message: "started" },
      environment,
      ...(probed && { probed }),
    });
  }
}

/** A compiled program, by its path below cmd/. */
function fileOf(program: string): string {
  return fileURLToPath(new URL(`../${program}`, import.meta.url));
}

/** Asks again and again until it is so; gives up after a minute. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 60_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`a minute has passed, and still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
