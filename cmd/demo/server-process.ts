/** One server of the demonstration: a child process, its log file, and how it ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { CambiumError, createClient } from "../../api/client/node.js";

export interface ServerSpec {
  /** What a person calls it: `node 1`, … */
  readonly name: string;
  readonly program: "master" | "replica";
  readonly configFile: string;
  readonly logFile: string;
  /** `host:port` */
  readonly address: string;
}

/** How long a server may take until it serves reads; recovery of a large log is the slow part. */
const readyTimeoutMs = 120_000;
const readyPollMs = 50;
const STATUS_TIMEOUT_MS = 2000;

export class ServerProcess {
  readonly spec: ServerSpec;
  /** Resolves once the process is gone, to its exit code, or the signal's name; never rejects. */
  readonly exited: Promise<number | string>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  /** The last line that it wrote to standard error: why it died, where it did. */
  #lastError = "";
  #started = false;
  #gone = false;

  constructor(spec: ServerSpec) {
    this.spec = spec;
    // The log of this run only, so that it does not grow from start to start.
    this.#log = createWriteStream(spec.logFile);
    const program = fileURLToPath(new URL(`../${spec.program}/main.js`, import.meta.url));
    this.#child = spawn(process.execPath, [program, "--config", spec.configFile, "--until-stdin-ends"], {
      // The standard input ends with this process, however it ends, so that no server is left behind.
      stdio: ["pipe", "pipe", "pipe"],
      // Out of the terminal's process group: a ctrl-C reaches the demonstration alone, and it stops each server once.
      detached: true,
    });
    // A server that is gone reads nothing more.
    this.#child.stdin!.on("error", () => undefined);
    this.#keepLines(this.#child.stdout!, (line) => (this.#started ||= line.includes('"msg":"started"')));
    this.#keepLines(this.#child.stderr!, (line) => (this.#lastError = line));
    this.exited = new Promise((resolve) => {
      const end = (how: number | string): void => {
        this.#gone = true;
        this.#log.end();
        resolve(how);
      };
      this.#child.once("error", (error) => end(error.message));
      this.#child.once("close", (code, signal) => end(code ?? signal ?? "unknown"));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get hasEnded(): boolean {
    return this.#gone;
  }

  /** Where the master is, as far as this server knows. */
  async masterAddress(): Promise<string | undefined> {
    const client = createClient({ endpoints: [this.spec.address], timeoutMs: STATUS_TIMEOUT_MS });
    try {
      return (await client.status()).node.masterAddress;
    } catch (error) {
      // It does not answer, so it knows none.
      if (error instanceof CambiumError) return undefined;
      throw error;
    } finally {
      client.close();
    }
  }

  /** Why it is gone, in words. */
  async epitaph(): Promise<string> {
    const how = await this.exited;
    const why = this.#lastError === "" ? "" : `: ${this.#lastError}`;
    return `${this.spec.name} ended by itself (${typeof how === "number" ? `exit code ${how}` : how})${why}`;
  }

  /** Resolves to true once the server serves reads, and a master writes; to false when it is gone before that. */
  async ready(): Promise<boolean> {
    const deadlineMs = performance.now() + readyTimeoutMs;
    while (!this.#gone) {
      if (this.#started && (await answersReady(this.spec.address))) return !this.#gone;
      if (performance.now() > deadlineMs) {
        throw new Error(
          `${this.spec.name} was not ready after ${readyTimeoutMs / 1000} s; its log: ${this.spec.logFile}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, readyPollMs));
    }
    return false;
  }

  /** Sends a signal; harmless once the process is gone. */
  signal(signal: "SIGTERM" | "SIGKILL"): void {
    this.#child.kill(signal);
  }

  #keepLines(output: Readable, see?: (line: string) => void): void {
    createInterface({ input: output }).on("line", (line) => {
      this.#log.write(`${line}\n`);
      see?.(line);
    });
  }
}

async function answersReady(address: string): Promise<boolean> {
  try {
    const response = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(1000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    // Nothing listens yet, or it is too busy to answer: the caller asks again.
    return false;
  }
}
