/**
 * The proof by real input: a folder of files is imported, everything crashes in the middle of a second import, and what
 * was acknowledged is on every node, byte for byte.
 */
import { cp, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { expect } from "vitest";
import type { TestCluster } from "./cluster.js";
import { runProgram, spawnProgram } from "./programs.js";
import { until } from "./until.js";

/** The value limit of a default configuration. */
const maxValueBytes = 1024 * 1024;

/** Every regular file under a folder, as a path with `/` between its parts, sorted. Links are not followed. */
export async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, "/"))
    .sort();
}

/** Copies the first `count` files of a folder that fit into a value. */
export async function copySome(from: string, to: string, count: number): Promise<void> {
  let copied = 0;
  for (const file of await filesUnder(from)) {
    if (copied === count) return;
    if ((await stat(path.join(from, file))).size > maxValueBytes) continue;
    await mkdir(path.dirname(path.join(to, file)), { recursive: true });
    await cp(path.join(from, file), path.join(to, file));
    copied++;
  }
}

export interface ProofOptions {
  /** A running cluster, empty. */
  readonly cluster: TestCluster;
  /** The folder to import. */
  readonly folder: string;
  /** A folder for the exports and the lists of what was acknowledged. */
  readonly scratch: string;
}

/** Holds the proof; fails the test where anything is missing or differs. Resolves to what it was held on. */
export async function proveImport({ cluster, folder, scratch }: ProofOptions): Promise<{ files: number }> {
  const files = await importableUnder(folder);
  const endpoints = ["--endpoints", cluster.master.address];
  const importArgs = ["import", "--dir", folder, ...endpoints, "--acked"];

  const firstList = path.join(scratch, "acked-1");
  const first = await runProgram("cambium", [...importArgs, firstList]);
  expect(first, first.stderr).toMatchObject({ code: 0 });
  expect((await readAcknowledged(firstList)).sort()).toEqual(files);

  // The second import writes the same files once more, under names of their own, and everything crashes in its middle.
  const secondList = path.join(scratch, "acked-2");
  const second = spawnProgram("cambium", [...importArgs, secondList, "--prefix", secondPrefix]);
  second.stdout!.resume();
  second.stderr!.resume();
  second.stdin!.end();
  const left = new Promise((resolve) => second.once("close", resolve));
  await until("the second import is in the middle", async () => {
    return (await readAcknowledged(secondList)).length > files.length / 3;
  });
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  second.kill("SIGKILL");
  await left;
  const acknowledged = await readAcknowledged(secondList);
  expect(acknowledged.length, "it was over before the crash").toBeLessThan(files.length);

  await Promise.all(cluster.nodes.map((node) => node.start()));
  await cluster.setEverywhere("after the crash", "1");
  const expected = [...files, ...acknowledged];
  for (const [index, node] of cluster.nodes.entries()) {
    const out = path.join(scratch, `export-${index}`);
    const exported = await runProgram("cambium", ["export", "--dir", out, "--endpoints", node.address]);
    expect(exported, exported.stderr).toMatchObject({ code: 0 });
    expect(await differences(folder, out, expected), `node ${index}`).toEqual([]);
    await rm(out, { recursive: true });
  }
  return { files: files.length };
}

/** Keys under which the second import writes. */
const secondPrefix = "second import/";

/** The exported files that are not there, or are not what was imported. */
async function differences(folder: string, out: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const imported = await readFile(path.join(folder, name.replace(secondPrefix, "")));
    const exported = await readFile(path.join(out, name)).catch(() => undefined);
    if (!exported?.equals(imported)) found.push(name);
  }
  return found;
}

/** The keys that an import says were acknowledged; the line that it was writing when it was killed does not count. */
async function readAcknowledged(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  const lines = text.split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as string);
}

/** The files of a folder that fit into a value, as keys, sorted. */
async function importableUnder(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const file of await filesUnder(folder)) {
    if ((await stat(path.join(folder, file))).size <= maxValueBytes) found.push(file);
  }
  return found;
}
