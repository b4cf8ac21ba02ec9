/**
 * A server under test: a process with a directory and a configuration of its own, which can be stopped, killed and
 * started again at the same port.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { spawnProgram } from "./programs.js";
import * as rpc from "./rpc.js";
import { until } from "./until.js";

/** The sections of a configuration file. */
export type ConfigSections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface NodeOptions {
  readonly program: "master" | "replica";
  /** Holds the configuration and, in `data`, what the node keeps. */
  readonly directory: string;
  /** Laid over the defaults: 127.0.0.1, a port that the system picks, and the data directory. */
  readonly config?: ConfigSections;
}

export interface StartOptions {
  /** See `RunOptions.under`. */
  readonly under?: readonly string[];
}

interface LogLine {
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** How a process ended: its exit code, or the signal's name. */
export type Ending = number | string;

export class TestNode {
  readonly options: NodeOptions;
  /** Lines that the node logged, over all its runs. */
  readonly log: LogLine[] = [];
  /** What it wrote to standard error, over all its runs. */
  stderr = "";
  #child: ChildProcess | undefined;
  #ending: Promise<Ending> | undefined;
  #running = false;
  #port = 0;

  constructor(options: NodeOptions) {
    this.options = options;
  }

  get port(): number {
    if (this.#port === 0) throw new Error("the node has not listened yet");
    return this.#port;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get dataDirectory(): string {
    return path.join(this.options.directory, "data");
  }

  get running(): boolean {
    return this.#running;
  }

  /**
   * Starts the process and resolves once it has started: it listens, and a master takes writes. Later runs listen at the
   * port of the first.
   */
  async start(options: StartOptions = {}): Promise<this> {
    const earlier = this.log.length;
    await this.#spawn(options);
    const said = (msg: string): LogLine | undefined => this.log.slice(earlier).find((line) => line.msg === msg);
    try {
      await until(`the ${this.options.program} starts`, () => said("started") !== undefined || !this.#running);
    } catch (cause) {
      const lines = this.log.slice(earlier).map((line) => JSON.stringify(line));
      throw new Error(["it has not started; what it said:", ...lines, this.stderr].join("\n"), { cause });
    }
    const listening = said("listening");
    if (!this.#running || !listening) {
      throw new Error(`the ${this.options.program} ended before it had started: ${this.stderr}`);
    }
    this.#port = Number(/:(\d+)$/.exec(String(listening.address))?.[1]);
    return this;
  }

  /** Resolves once the node serves reads. */
  async ready(): Promise<this> {
    await until(`${this.options.program} is ready`, async () => (await rpc.status(this.address)).ready);
    return this;
  }

  /** Resolves once the node has applied `seq`. */
  async applied(seq: number): Promise<this> {
    await until(
      `${this.options.program} applies ${seq}`,
      async () => (await rpc.status(this.address)).appliedSeq >= seq,
    );
    return this;
  }

  /** Sends a signal to the process that runs. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Resolves, once the present run has ended, to how. */
  async ended(): Promise<Ending> {
    if (!this.#ending) throw new Error("the node was never started");
    return this.#ending;
  }

  /** Asks the node to leave, as an operator does. */
  async stop(): Promise<Ending> {
    this.signal("SIGTERM");
    return this.ended();
  }

  /** Ends the process as a crash does. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended();
  }

  async #spawn(options: StartOptions): Promise<void> {
    if (this.#running) throw new Error("the node runs already");
    const configFile = path.join(this.options.directory, "node.yaml");
    await mkdir(this.options.directory, { recursive: true });
    await writeFile(configFile, this.#configText());
    const child = spawnProgram(this.options.program, ["--config", configFile], options);
    this.#child = child;
    this.#running = true;
    createInterface({ input: child.stdout! }).on("line", (line) => this.log.push(parseLine(line)));
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.#ending = (async () => {
      const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
      this.#running = false;
      return code ?? signal ?? "unknown";
    })();
  }

  #configText(): string {
    const sections: Record<string, Record<string, unknown>> = {
      server: {
        address: "127.0.0.1",
        port: this.#port,
        // All tests hold either way; most runs have it on, as users do.
        ...(process.env["CAMBIUM_TEST_FAST_PATH"] === "off" && { fast_path: false }),
      },
      wal: { directory: this.dataDirectory },
    };
    for (const [name, section] of Object.entries(this.options.config ?? {})) {
      sections[name] = { ...sections[name], ...section };
    }
    // JSON is YAML, so that no quoting of ours comes between.
    return Object.entries(sections)
      .map(([name, section]) => `${name}: ${JSON.stringify(section)}\n`)
      .join("");
  }
}

function parseLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { msg: line };
  }
}
