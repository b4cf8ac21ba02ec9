/** `npm start`, from its screen to ctrl-C. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { freePortRun, takePort } from "../harness/ports.js";
import { processesWith } from "../harness/processes.js";
import { runProgram, spawnProgram } from "../harness/programs.js";
import { get, request, status } from "../harness/rpc.js";
import { paste } from "../harness/shell.js";
import { until } from "../harness/until.js";

let directory: string;
let basePort: number;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  basePort = await freePortRun(3);
});

class Demo {
  stdout = "";
  stderr = "";
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown[]>;

  constructor(args: readonly string[] = [], own = ["--base-port", String(basePort), "--data", directory]) {
    this.#child = spawnProgram("demo", [...own, ...args]);
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.#closed = once(this.#child, "close");
    onTestFinished(async () => {
      this.signal("SIGINT");
      await this.#closed;
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async exitCode(): Promise<unknown> {
    return (await this.#closed)[0];
  }

  /** Resolves once the screen is there, to the lines to paste. */
  async screen(): Promise<string[]> {
    await until(
      "the screen of the demonstration",
      () => this.stdout.includes("Ctrl-C stops") || this.#child.exitCode !== null,
    );
    return this.stdout
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => /^(curl|npx|kill) /.test(line));
  }
}

/** The servers that run with this test's configurations. */
const serversLeft = (): Promise<number[]> => processesWith(directory, "--config");

const addresses = (): string[] => [0, 1, 2].map((offset) => `127.0.0.1:${basePort + offset}`);

test("the lines that it prints work as they are, one after the other and the first ones once more", async () => {
  const demo = new Demo();
  const lines = await demo.screen();
  expect(lines).toHaveLength(5);
  const [set, read, show, transfer, takeover] = lines as [string, string, string, string, string];
  const [first, second, third] = addresses() as [string, string, string];
  const tryBoth = async (): Promise<void> => {
    expect(JSON.parse(await paste(set, directory))).toHaveProperty("position");
    await until("the replica has it", async () => (await get(second, "greeting")) === "hello");
    expect(JSON.parse(await paste(read, directory))).toMatchObject({ exists: true, value: "aGVsbG8=" });
  };
  await tryBoth();
  const table = await paste(show, directory);
  for (const address of addresses()) expect(table).toMatch(new RegExp(`^${address} +(master|replica) +yes`, "m"));
  expect(await paste(transfer, directory)).toContain(`${second} is master of epoch`);
  await tryBoth();
  expect(await paste(takeover, directory)).toContain(`${third} is master of epoch`);
  await until("the screen tells of the loss", () => demo.stderr.includes("node 2 ended by itself (SIGKILL)"));
  await until("the first node follows the third", async () => (await status(first)).masterAddress === third);
  expect(JSON.parse(await paste(set, directory))).toHaveProperty("position");
});

test("ctrl-C stops all three cleanly, and the data is there at the next start", async () => {
  const first = new Demo();
  const [set] = await first.screen();
  await paste(set!, directory);
  first.signal("SIGINT");
  expect(await first.exitCode()).toBe(0);
  expect(first.stderr).toBe("");
  expect(await serversLeft()).toEqual([]);

  const second = new Demo();
  await second.screen();
  for (const address of addresses()) {
    await until("every node has it", async () => (await get(address, "greeting")) === "hello");
  }
  second.signal("SIGTERM");
  expect(await second.exitCode()).toBe(0);
});

test("a port in use is one line that names it, exit code 1, and nothing is left running", async () => {
  const taken = await takePort(basePort + 1);
  onTestFinished(taken.release);
  const { code, stderr } = await runProgram("demo", ["--base-port", String(basePort), "--data", directory]);
  expect(stderr).toMatch(new RegExp(`^cambium demo: port ${basePort + 1} .*in use.*\\n$`));
  expect(code).toBe(1);
  expect(await serversLeft()).toEqual([]);
});

test("a node that crashes is named, the others go on, and the line that brings it back does so", async () => {
  const demo = new Demo();
  await demo.screen();
  const [victim] = await processesWith(path.join(directory, "node-3.yaml"));
  process.kill(victim!, "SIGKILL");
  await until("the way back is shown", () => demo.stdout.includes("npx cambium-replica --config"));
  expect(demo.stderr).toContain("node 3 ended by itself (SIGKILL)");
  const [, config] = /npx cambium-replica --config (\S+)/.exec(demo.stdout) ?? [];
  const back = spawnProgram("replica", ["--config", config!, "--until-stdin-ends"]);
  onTestFinished(() => void back.kill("SIGKILL"));
  const [first, , third] = addresses() as [string, string, string];
  await until("it follows again", async () => (await status(third)).masterAddress === first);
  back.stdin!.end();
  expect(await once(back, "close")).toEqual([0, null]);
  demo.signal("SIGINT");
  expect(await demo.exitCode()).toBe(1);
});

test("a demonstration that is killed leaves no server behind", async () => {
  const demo = new Demo();
  await demo.screen();
  expect(await serversLeft()).toHaveLength(3);
  demo.signal("SIGKILL");
  await until("all servers have left", async () => (await serversLeft()).length === 0);
});

test("data keeps its ports: no others can be asked for, and none need be", async () => {
  const first = new Demo();
  await first.screen();
  first.signal("SIGINT");
  expect(await first.exitCode()).toBe(0);
  const other = await runProgram("demo", ["--base-port", String(basePort === 9000 ? 9001 : 9000), "--data", directory]);
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("leave --base-port out") as string });
  const again = new Demo([], ["--data", directory]);
  await again.screen();
  expect(again.stdout).toContain(`http://127.0.0.1:${basePort}`);
});

test("a folder that cannot be used is one line that names it, exit code 1", async () => {
  const file = path.join(directory, "file");
  await writeFile(file, "");
  const { code, stderr } = await runProgram("demo", ["--base-port", "0", "--data", path.join(file, "data")]);
  expect(stderr).toMatch(/^cambium demo: [^\n]*file[^\n]*\n$/);
  expect(code).toBe(1);
});

test("bad flags are refused with exit code 2", async () => {
  expect((await runProgram("demo", ["--base-port", "70000"])).code).toBe(2);
  expect((await runProgram("demo", ["--colour"])).code).toBe(2);
});

test("with base port 0 it takes ports that are free; one ctrl-C that arrives twice, from the terminal and from npm, is one", async () => {
  const demo = new Demo(["--base-port", "0"]);
  await demo.screen();
  const [, port] = /http:\/\/127\.0\.0\.1:(\d+)/.exec(demo.stdout) ?? [];
  expect((await request(`127.0.0.1:${port}`, "/readyz")).status).toBe(200);
  demo.signal("SIGINT");
  demo.signal("SIGINT");
  expect(await demo.exitCode()).toBe(0);
  expect(demo.stderr).toBe("");
});
