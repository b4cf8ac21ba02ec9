/** A server under measurement: a process of its own on a free port of this machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import type { ProbeRequest } from "./loop-probe.js";
import type { LoopReport } from "./loop-watch.js";

type Child = ChildProcess & { readonly stdin: Writable; readonly stdout: Readable; readonly stderr: Readable };

/** Lines of output that are kept to explain a server that died. */
const KEPT_LINES_MAX = 20;
const POLL_MS = 20;

export interface ServerOptions {
  /** What a message calls it. */
  readonly name: string;
  readonly command: readonly string[];
  /**
   * How one knows that it serves. A program of this repository says so in its log, where it has said its address before; any
   * other is asked until it answers.
   */
  readonly readiness:
    { readonly message: string } | { readonly address: string; readonly isReady: () => Promise<boolean> };
  readonly environment?: Readonly<Record<string, string>>;
  /** It was started with the probe and can be asked; see `probe`. */
  readonly probed?: boolean;
}

export class ServerProcess {
  readonly name: string;
  /** `host:port` */
  readonly address: string;
  readonly #child: Child;
  readonly #exited: Promise<number | null>;

  private constructor(name: string, address: string, child: Child, exited: Promise<number | null>) {
    this.name = name;
    this.address = address;
    this.#child = child;
    this.#exited = exited;
  }

  /** Resolves once it serves. */
  static async start({ name, command, readiness, environment, probed }: ServerOptions): Promise<ServerProcess> {
    const [file, ...args] = command;
    const child = spawn(file!, args, {
      stdio: probed ? ["pipe", "pipe", "pipe", "ipc"] : ["pipe", "pipe", "pipe"],
      env: environment ?? process.env,
    }) as Child;
    const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
    const lines: string[] = [];
    let hasEnded = false;
    try {
      const address = await new Promise<string>((resolve, reject) => {
        let address: string | undefined;
        for (const output of [child.stdout, child.stderr]) {
          createInterface({ input: output }).on("line", (line) => {
            const said = logLine(line);
            if (said?.msg === "listening") address = said.address;
            if ("message" in readiness && said?.msg === readiness.message && address !== undefined) resolve(address);
            if (lines.push(line) > KEPT_LINES_MAX) lines.shift();
          });
        }
        child.once("error", reject);
        void exited.then((code) => {
          hasEnded = true;
          reject(new Error(`${name} ended with exit code ${code}:\n${lines.join("\n")}`));
        });
        if ("address" in readiness) {
          const ask = async (): Promise<void> => {
            while (!hasEnded && !(await readiness.isReady())) await pause(POLL_MS);
            resolve(readiness.address);
          };
          ask().catch(reject);
        }
      });
      return new ServerProcess(name, address, child, exited);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }

  /** The CPU time that all its threads have used, in µs; undefined where the system does not tell. */
  cpuUs(): number | undefined {
    try {
      const tasks = `/proc/${this.#child.pid}/task`;
      let nanoseconds = 0;
      // The first number is the time on a processor, exact where /proc/PID/stat counts in hundredths of a second.
      for (const task of readdirSync(tasks)) {
        nanoseconds += Number(readFileSync(`${tasks}/${task}/schedstat`, "latin1").split(" ", 1)[0]);
      }
      return nanoseconds / 1000;
    } catch {
      return undefined;
    }
  }

  /** What it has in memory, in bytes; NaN where the system does not tell. */
  residentBytes(): number {
    try {
      const status = readFileSync(`/proc/${this.#child.pid}/status`, "latin1");
      return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    } catch {
      return NaN;
    }
  }

  /** Asks the probe in a server that was started with one: `begin` watches from now on, `end` tells what was seen. */
  async probe(request: ProbeRequest): Promise<LoopReport> {
    this.#child.send(request);
    const [report] = (await Promise.race([
      once(this.#child, "message"),
      this.#exited.then(() => Promise.reject(new Error(`${this.name} ended`))),
    ])) as [LoopReport];
    return report;
  }

  /** Asks it to leave, and waits until it has. */
  async stop(): Promise<void> {
    this.#child.stdin.end();
    this.#child.kill("SIGTERM");
    await this.#exited;
  }

  /** Ends it now. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** What matters of a line of a server's log, such as `{"msg":"listening","address":"127.0.0.1:8080"}`; undefined of any other. */
export function logLine(line: string): { msg?: string; address?: string } | undefined {
  try {
    return JSON.parse(line) as { msg?: string; address?: string };
  } catch {
    return undefined;
  }
}
