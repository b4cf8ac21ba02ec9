/**
 * The proof by real input: a folder of files is imported, everything crashes in the middle of a second import, and what
 * was acknowledged is on every node, byte for byte.
 */
import { cp, mkdir, readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { expect } from "vitest";
import type { TestCluster } from "./cluster.js";
import { runProgram, spawnProgram } from "./programs.js";
import { status } from "./rpc.js";
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

/** Holds the proof; fails the test where anything is missing or differs. */
export async function proveImport({ cluster, folder, scratch }: ProofOptions): Promise<{ files: number }> {
  const files = await filesUnder(folder);
  const endpoints = ["--endpoints", cluster.master.address];
  const importArgs = (acked: string): string[] => ["import", "--dir", folder, ...endpoints, "--acked", acked];

  const firstAcked = path.join(scratch, "acked-1");
  const first = await runProgram("cambium", importArgs(firstAcked));
  expect(first, first.stderr).toMatchObject({ code: 0 });

  // The second import begins over what the first one wrote, and everything crashes in the middle of it.
  const secondAcked = path.join(scratch, "acked-2");
  const before = (await status(cluster.master.address)).appliedSeq;
  const second = spawnProgram("cambium", importArgs(secondAcked));
  second.stdout!.resume();
  second.stderr!.resume();
  second.stdin!.end();
  const left = new Promise((resolve) => second.once("close", resolve));
  await until("the second import is in the middle", async () => {
    const { appliedSeq } = await status(cluster.master.address);
    return appliedSeq > before + 20;
  });
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  second.kill("SIGKILL");
  await left;

  await Promise.all(cluster.nodes.map((node) => node.start()));
  await cluster.setEverywhere("after the crash", "1");
  const acknowledged = new Set([...(await readAcked(firstAcked)), ...(await readAcked(secondAcked))]);
  expect((await readAcked(secondAcked)).length).toBeGreaterThan(0);

  const importable = await importableOf(folder, files);
  expect([...acknowledged].sort()).toEqual(importable);
  for (const [index, node] of cluster.nodes.entries()) {
    const out = path.join(scratch, `export-${index}`);
    const exported = await runProgram("cambium", ["export", "--dir", out, "--endpoints", node.address]);
    expect(exported, exported.stderr).toMatchObject({ code: 0 });
    for (const file of importable) {
      const same = (await readFile(path.join(out, file))).equals(await readFile(path.join(folder, file)));
      if (!same) expect.fail(`${file} differs on ${node.options.program} ${index}`);
    }
  }
  return { files: importable.length };
}

async function readAcked(file: string): Promise<string[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

async function importableOf(folder: string, files: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const file of files) if ((await stat(path.join(folder, file))).size <= maxValueBytes) found.push(file);
  return found;
}
