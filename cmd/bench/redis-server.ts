/** A Redis server to compare with, where one is installed. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { redisCommand } from "./redis-wire.js";
import { openSocket } from "./socket.js";

const ASK_AGAIN_MS = 20;
const PATIENCE_MS = 10_000;

export class RedisServer {
  /** `host:port` */
  readonly address: string;
  readonly #child: ChildProcess;

  private constructor(address: string, child: ChildProcess) {
    this.address = address;
    this.#child = child;
  }

  /**
   * Starts one that keeps its files in `directory`; `options` are given on its command line. Resolves once it answers, and to
   * undefined where Redis is not installed.
   */
  static async start(directory: string, options: readonly string[]): Promise<RedisServer | undefined> {
    mkdirSync(directory, { recursive: true });
    const port = await freePort();
    const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", ...options];
    const child = spawn("redis-server", args, { stdio: "ignore" });
    const isThere = await new Promise<boolean>((resolve, reject) => {
      child.once("spawn", () => resolve(true));
      child.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") resolve(false);
        else reject(error);
      });
    });
    if (!isThere) return undefined;
    const server = new RedisServer(`127.0.0.1:${port}`, child);
    try {
      await server.until(["PING"], (answer) => answer.startsWith("+PONG"));
      return server;
    } catch (error) {
      server.kill();
      throw error;
    }
  }

  /** Sends a command again and again, until its answer is as wanted. */
  async until(command: readonly string[], isWanted: (answer: string) => boolean): Promise<void> {
    for (const startMs = performance.now(); performance.now() - startMs < PATIENCE_MS; await sleep(ASK_AGAIN_MS)) {
      if (this.#child.exitCode !== null) throw new Error(`redis-server ended with exit code ${this.#child.exitCode}`);
      try {
        if (isWanted(await this.#ask(command))) return;
      } catch {
        // It does not listen yet.
      }
    }
    throw new Error(`redis-server does not come so far (${command.join(" ")})`);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async #ask(command: readonly string[]): Promise<string> {
    const socket = await openSocket(this.address);
    try {
      const answer = new Promise<string>((resolve, reject) => {
        socket.once("data", (chunk: Buffer) => resolve(chunk.toString("latin1")));
        socket.once("error", reject);
      });
      socket.write(redisCommand(...command));
      return await answer;
    } finally {
      socket.destroy();
    }
  }
}

/** A port that was free a moment ago, for programs that must be told one. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
