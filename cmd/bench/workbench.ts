/** What a run of the bench starts and makes; all of it ends and goes with the run, whatever happens. */
import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { LoadProcess } from "./load-process.js";
import type { RecoveryJob, RecoveryReport, RecoveryResult } from "./recovery-job.js";
import { ServerProcess } from "./server-process.js";

export type Sections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

interface NodeOptions {
  readonly sections?: Sections;
  /** See `ServerProcess.start`. */
  readonly probed?: true;
}

export class Workbench {
  /** On the disk that is measured. */
  readonly directory: string;
  readonly #servers = new Set<ServerProcess>();
  readonly #loads: LoadProcess[] = [];
  readonly #workers = new Set<ChildProcess>();
  readonly #ends: (() => void)[] = [];

  constructor(parent: string) {
    mkdirSync(parent, { recursive: true });
    this.directory = mkdtempSync(path.join(parent, "run-"));
  }

  load(): LoadProcess {
    const load = new LoadProcess();
    this.#loads.push(load);
    return load;
  }

  async start(options: Parameters<typeof ServerProcess.start>[0]): Promise<ServerProcess> {
    const server = await ServerProcess.start(options);
    this.#servers.add(server);
    return server;
  }

  /** Starts a master on the data directory `name`; `sections` are laid over the defaults of its configuration. */
  startMaster(name: string, options: NodeOptions = {}): Promise<ServerProcess> {
    return this.#startNode("master", name, options);
  }

  /** The same with a replica, which may have no master yet. */
  startReplica(name: string, options: NodeOptions = {}): Promise<ServerProcess> {
    return this.#startNode("replica", name, options);
  }

  #startNode(program: "master" | "replica", name: string, options: NodeOptions): Promise<ServerProcess> {
    const config = path.join(this.directory, `${name}.yaml`);
    const sections: Sections = {
      server: { port: 0 },
      wal: { directory: path.join(this.directory, name) },
      log: { format: "json" },
      ...options.sections,
    };
    // JSON is YAML too.
    writeFileSync(config, JSON.stringify(sections));
    // What a user has set for nodes of their own is none of the bench's business.
    const environment = Object.fromEntries(
      Object.entries(process.env).flatMap(([name, value]) =>
        value === undefined || name.startsWith("CAMBIUM_") ? [] : [[name, value] as const],
      ),
    );
    return this.start({
      name: `the ${program}`,
      program: `${program}/main.js`,
      args: ["--config", config],
      // It listens before its mastership has begun.
      readyMessage: "started",
      environment,
      ...(options.probed && { probed: true }),
    });
  }

  /** Does a job on a data directory, in a process of its own. */
  run(job: RecoveryJob): Promise<RecoveryResult> {
    return new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(new URL("./recovery-process.js", import.meta.url)), [JSON.stringify(job)]);
      this.#workers.add(child);
      child.once("message", (report: RecoveryReport) => {
        if (report.kind === "done") resolve(report.result);
        else reject(new Error(`${job.kind}: ${report.message}`));
      });
      child.once("exit", (code, signal) => {
        this.#workers.delete(child);
        reject(new Error(`${job.kind}: the process ended (${code ?? signal})`));
      });
    });
  }

  /** Ends a process with the run that ends not before. */
  adopt(child: ChildProcess): void {
    this.#workers.add(child);
    child.once("exit", () => this.#workers.delete(child));
  }

  /** Asks the servers to leave, and waits until they have. */
  async stopServers(): Promise<void> {
    await Promise.all([...this.#servers].map((server) => server.stop()));
    this.#servers.clear();
  }

  /** Has something else ended, at once, with all the rest. */
  onLeave(end: () => void): void {
    this.#ends.push(end);
  }

  /** Ends and removes all that is left, at once. */
  leave(): void {
    for (const end of this.#ends) end();
    for (const server of this.#servers) server.kill();
    for (const load of this.#loads) load.close();
    for (const worker of this.#workers) worker.kill("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }
}
