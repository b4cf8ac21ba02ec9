/** The processes of this machine, seen from outside. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** Ids of the processes whose command line contains all the words. */
export async function processesWith(...words: readonly string[]): Promise<number[]> {
  const lines = existsSync("/proc/self/cmdline") ? await linesOfProc() : await linesOfPs();
  return lines.filter(({ line }) => words.every((word) => line.includes(word))).map(({ id }) => id);
}

async function linesOfProc(): Promise<{ id: number; line: string }[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  // A process may be gone by the time that it is looked at.
  const read = (id: string): Promise<string> => readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
  return Promise.all(ids.map(async (id) => ({ id: Number(id), line: await read(id) })));
}

async function linesOfPs(): Promise<{ id: number; line: string }[]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,args="], { maxBuffer: 1 << 24 });
  return stdout.split("\n").map((line) => ({ id: Number.parseInt(line, 10), line }));
}
