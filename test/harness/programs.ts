/** The compiled programs, run as a user runs them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

export const root = path.resolve(import.meta.dirname, "..", "..");

export type Program = "master" | "replica" | "cambium" | "demo";

export interface ProgramResult {
  /** Exit code, or the name of the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Given to the program as its standard input, which is empty otherwise. */
  readonly input?: string | Uint8Array;
  /** Runs it as a user whom permissions bind, which they do not bind root. */
  readonly permissionsBind?: boolean;
  /** A command that runs the program instead of this process doing so: "strace" and its arguments, for instance. */
  readonly under?: readonly string[];
  /** Sees the child, to send it a signal for instance. */
  readonly started?: (child: ChildProcess) => void;
}

/** The environment of a child: ours, without what would change the child's configuration or colour its output. */
export function childEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("CAMBIUM_") && name !== "FORCE_COLOR");
  return { ...Object.fromEntries(own), NO_COLOR: "1", ...extra };
}

export function spawnProgram(program: Program, args: readonly string[], options: RunOptions = {}): ChildProcess {
  const command = [process.execPath, path.join(root, "dist", "cmd", program, "main.js"), ...args];
  if (options.permissionsBind && process.getuid?.() === 0) {
    command.unshift("setpriv", `--bounding-set=${rootsPower}`, `--inh-caps=${rootsPower}`);
  }
  command.unshift(...(options.under ?? []));
  const [file, ...rest] = command as [string, ...string[]];
  return spawn(file, rest, { cwd: root, env: childEnvironment(options.env), stdio: ["pipe", "pipe", "pipe"] });
}

/** The capabilities by which root passes over permissions, taken away. */
const rootsPower = "-dac_override,-dac_read_search";

/** Runs a program to its end. */
export async function runProgram(
  program: Program,
  args: readonly string[],
  options: RunOptions = {},
): Promise<ProgramResult> {
  const child = spawnProgram(program, args, options);
  let stdout = "";
  let stderr = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  // A program that leaves without reading its input breaks the pipe, which is its right.
  child.stdin!.on("error", () => undefined);
  child.stdin!.end(options.input ?? "");
  options.started?.(child);
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { code: code ?? signal ?? "unknown", stdout, stderr };
}
