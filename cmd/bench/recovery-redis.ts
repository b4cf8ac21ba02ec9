/**
 * How fast redis loads the same entries, from its log and from its snapshot, as far as it is installed here: the measure that
 * recovery is held to. It runs without a port, on a socket of its own, and with nothing else to do.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { redisCommand } from "./redis-wire.js";
import type { RecoverySource } from "./recovery-job.js";
import type { Workbench } from "./workbench.js";
import { keyOf, VALUE } from "./workload.js";

export interface RedisLoad {
  /** As redis itself says. */
  readonly loadMs: number;
  /** Of the whole process up to the end of the load. */
  readonly cpuMs: number;
}

const PROGRAM = "redis-server";
const COMMANDS_A_WRITE = 10_000;
const LOADED = /DB loaded from (?:disk|append only file): ([\d.]+) seconds/;
const READY = /ready to accept connections/i;
/** Of answers, only as much is kept as tells whether they are whole. */
const TEXT_MAX = 64 * 1024;
const OK_BYTES = "+OK\r\n".length;

/** What is installed, as in "redis 7.0.15"; undefined where nothing is. */
export function redisVersion(): string | undefined {
  const { stdout, error } = spawnSync(PROGRAM, ["--version"], { encoding: "utf8" });
  const version = error ? undefined : /v=([\d.]+)/.exec(stdout)?.[1];
  return version && `redis ${version}`;
}

/** A data directory of redis that holds so many entries both ways: its log has a SET for each, as ours has a record. */
export class RedisData {
  readonly #bench: Workbench;
  readonly #directory: string;
  readonly #entries: number;

  private constructor(bench: Workbench, directory: string, entries: number) {
    this.#bench = bench;
    this.#directory = directory;
    this.#entries = entries;
  }

  static async fill(bench: Workbench, directory: string, entries: number): Promise<RedisData> {
    mkdirSync(directory);
    const data = new RedisData(bench, directory, entries);
    const server = await RedisServer.start(bench, directory, "log");
    await server.set(entries);
    await server.ask("SAVE");
    await server.stop();
    return data;
  }

  /** Starts redis on the directory, and tells how long it took to load. */
  async load(from: RecoverySource): Promise<RedisLoad> {
    const server = await RedisServer.start(this.#bench, this.#directory, from);
    const cpu = await server.ask("INFO cpu");
    const keys = await server.ask("DBSIZE");
    await server.stop();
    if (keys.trim() !== `:${this.#entries}`) throw new Error(`redis loaded ${keys.trim()} keys, not ${this.#entries}`);
    const seconds = (name: string): number => Number(new RegExp(`${name}:([\\d.]+)`).exec(cpu)?.[1]);
    return { loadMs: server.loadMs, cpuMs: (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1000 };
  }
}

/** One process of it, and a connection to that. */
class RedisServer {
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #socketFolder: string;
  /** How long it said that it took to load what was there; NaN when there was nothing. */
  readonly loadMs: number;

  private constructor(child: ChildProcess, socket: Socket, socketFolder: string, loadMs: number) {
    this.#child = child;
    this.#socket = socket;
    this.#socketFolder = socketFolder;
    this.loadMs = loadMs;
  }

  static async start(bench: Workbench, directory: string, from: RecoverySource): Promise<RedisServer> {
    // The path of a socket must be short.
    const socketFolder = mkdtempSync(path.join(os.tmpdir(), "cambium-bench-"));
    const socketPath = path.join(socketFolder, "redis");
    const settings = {
      port: "0",
      unixsocket: socketPath,
      dir: directory,
      save: "",
      appendonly: from === "log" ? "yes" : "no",
      appendfsync: "no",
      // Else a log that was rewritten would begin with a snapshot.
      "aof-use-rdb-preamble": "no",
      "auto-aof-rewrite-percentage": "0",
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const child = spawn(PROGRAM, args, { stdio: ["ignore", "pipe", "ignore"] });
    bench.adopt(child);
    const loadMs = await readyAfter(child.stdout);
    const socket = connect(socketPath);
    await once(socket, "connect");
    return new RedisServer(child, socket, socketFolder, loadMs);
  }

  /** Sets as many keys as the other side has, and waits for all answers: then they are written. */
  async set(entries: number): Promise<void> {
    const answered = this.#answers((bytes) => bytes >= entries * OK_BYTES);
    for (let at = 0; at < entries; at += COMMANDS_A_WRITE) {
      const commands: Uint8Array[] = [];
      for (let n = at; n < Math.min(entries, at + COMMANDS_A_WRITE); n++)
        commands.push(redisCommand("SET", keyOf(n), VALUE));
      if (!this.#socket.write(Buffer.concat(commands))) await once(this.#socket, "drain");
    }
    await answered;
  }

  /** The answer to one command, as it comes over the wire. */
  ask(command: string): Promise<string> {
    const answer = this.#answers((_bytes, text) => isWhole(text));
    this.#socket.write(`${command}\r\n`);
    return answer;
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#socket.destroy();
    this.#child.kill("SIGKILL");
    await ended;
    rmSync(this.#socketFolder, { recursive: true, force: true });
  }

  /** What comes until `isEnough`; of much, the last piece. Rejects when an error is among it, or redis ends. */
  #answers(isEnough: (bytes: number, text: string) => boolean): Promise<string> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      let bytes = 0;
      let text = "";
      const ended = (): void => reject(new Error("redis ended before it had answered"));
      const take = (piece: Buffer): void => {
        bytes += piece.length;
        text = text.length < TEXT_MAX ? text + piece.toString("latin1") : piece.toString("latin1");
        const error = /(?:^|\n)-[^\r]*/.exec(text)?.[0];
        if (error === undefined && !isEnough(bytes, text)) return;
        socket.off("data", take);
        socket.off("close", ended);
        if (error === undefined) resolve(text);
        else reject(new Error(`redis refused: ${error.trim()}`));
      };
      socket.on("data", take);
      socket.once("close", ended);
    });
  }
}

/** Reads what redis says until it takes commands; how long it says that the load took. */
async function readyAfter(output: Readable): Promise<number> {
  let loadMs = NaN;
  for await (const line of createInterface({ input: output })) {
    const seconds = LOADED.exec(line)?.[1];
    if (seconds !== undefined) loadMs = Number(seconds) * 1000;
    if (READY.test(line)) {
      // What it says later is read too, or it would wait for that.
      output.resume();
      return loadMs;
    }
  }
  throw new Error("redis ended before it was ready");
}

/** A status, a number, or a string behind its length. */
function isWhole(text: string): boolean {
  const length = /^\$(\d+)\r\n/.exec(text);
  return text.endsWith("\r\n") && (!length || text.length === length[0].length + Number(length[1]) + 2);
}
