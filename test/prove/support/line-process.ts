/** A process of a test's own that is asked by lines, and answers each by one. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { childEnvironment, root } from "../../harness/programs.js";

export class LineProcess {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #stderr = "";

  /** Runs a script of `test/prove/support`. */
  constructor(script: string, ...args: readonly (string | number)[]) {
    const file = path.join(root, "test/prove/support", script);
    const argv = ["--import", "tsx", file, ...args.map(String)];
    this.#child = spawn(process.execPath, argv, {
      cwd: root,
      env: childEnvironment(),
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.#stderr += text));
    this.#child.stdin!.on("error", () => undefined);
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Rejects when the process ends without an answer. */
  async ask(question: string): Promise<unknown> {
    this.#child.stdin!.write(`${question}\n`);
    const { done, value } = await this.#answers.next();
    if (done === true) throw new Error(`the process ended: ${this.#stderr}`);
    return JSON.parse(value) as unknown;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}
