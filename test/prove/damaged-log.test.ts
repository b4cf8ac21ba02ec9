/** Damage to the files of a real node, alone with its data: a sample of what the tests of the log do with every bit in memory. */
import { createHash } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import { TestNode } from "../harness/node.js";
import { runProgram, spawnProgram } from "../harness/programs.js";
import { get, set } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const FLIPS_A_FILE = 6;
const CUTS = 12;
const KEYS = 40;

let scratch: string;
/** A node that was killed after everything was proven to be synced. */
let sound: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const node = nodeIn("sound");
  await node.start();
  const load = new AuditedLoad();
  load.start(node.address);
  await until("a snapshot was taken", () => node.log.some(({ msg }) => msg === "log compacted"));
  await until("a file of the record log is full", async () =>
    (await readdir(path.join(node.dataDirectory, "records"))).some((name) => name.endsWith(".index")),
  );
  await load.stop();
  for (let key = 0; key < KEYS; key++) await set(node.address, `key-${key}`, `value ${key}`);
  // A log that has gone idle writes that its last sync has succeeded; from then on the end of it is not to be torn.
  await pause(1000);
  await node.kill();
  sound = node.dataDirectory;
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

function nodeIn(name: string): TestNode {
  return new TestNode({ program: "master", directory: path.join(scratch, name), config: SMALL_FILES });
}

/** A node with a copy of the data. */
async function copied(name: string): Promise<TestNode> {
  const node = nodeIn(name);
  await cp(sound, node.dataDirectory, { recursive: true });
  return node;
}

async function digestsOf(directory: string): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    digests.set(
      path.relative(directory, file),
      createHash("sha256")
        .update(await readFile(file))
        .digest("hex"),
    );
  }
  return digests;
}

/** The newest file of a directory with this ending. */
async function newest(directory: string, ending: string): Promise<string> {
  const names = (await readdir(path.join(sound, directory))).filter((name) => name.endsWith(ending));
  return path.join(directory, names.sort().at(-1)!);
}

/** What holds data, without the zeros ahead of it. */
const dataLength = (content: Buffer): number => content.findLastIndex((byte) => byte !== 0) + 1;

test("a flipped bit of the log, the record log or the snapshot stops the start, which names the place and leaves it as it is", async () => {
  const files = [await newest("wal", ".wal"), await newest("records", ".wal"), await newest("snapshots", ".snapshot")];
  let flips = 0;
  for (const file of files) {
    const content = await readFile(path.join(sound, file));
    // One in the header, then anywhere.
    const places = [Math.floor(Math.random() * 640)];
    while (places.length < FLIPS_A_FILE) places.push(Math.floor(Math.random() * dataLength(content) * 8));
    for (const bit of places) {
      const node = await copied(`flip-${flips++}`);
      const damaged = Buffer.from(content);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      await writeFile(path.join(node.dataDirectory, file), damaged);
      const before = await digestsOf(path.dirname(path.join(node.dataDirectory, file)));
      await expect(node.start(), `${file} bit ${bit}`).rejects.toThrow("ended before it had started");
      expect(await node.ended()).toBe(1);
      expect(node.stderr, `${file} bit ${bit}`).toContain(file);
      if (file.endsWith(".wal")) expect(node.stderr).toMatch(/at byte \d+.*expected .*found /s);
      expect(await digestsOf(path.dirname(path.join(node.dataDirectory, file)))).toEqual(before);
      const verified = await runProgram("cambium", ["wal", "verify", node.dataDirectory]);
      expect([verified.code, verified.stdout], `${file} bit ${bit}`).toEqual([
        1,
        expect.stringContaining(`corrupt: ${file}`),
      ]);
    }
  }
});

test("a damaged index is made anew without a word", async () => {
  const node = await copied("index");
  const file = path.join(node.dataDirectory, await newest("records", ".index"));
  await writeFile(file, (await readFile(file)).fill(7, 30, 40));
  const verify = async (): Promise<unknown> =>
    (await runProgram("cambium", ["wal", "verify", node.dataDirectory])).code;
  expect(await verify()).toBe(1);
  await node.start();
  expect(await get(node.address, "key-0")).toBe("value 0");
  expect(node.log.filter(({ level }) => level !== "info")).toEqual([]);
  await node.stop();
  expect(await verify()).toBe(0);
});

test("a log that is cut anywhere behind its last proof starts with what comes before, and saves the rest", async () => {
  const node = await copied("cut");
  await node.start();
  const written: string[] = [];
  // Killed at once: no frame after the last one says that it was synced.
  for (let key = 0; key < 20; key++) {
    await set(node.address, `late-${key}`, "x".repeat(100));
    written.push(`late-${key}`);
  }
  await node.kill();
  const file = path.join("wal", (await segmentsOf(node)).at(-1)!);
  const content = await readFile(path.join(node.dataDirectory, file));
  const end = dataLength(content);
  for (let cut = 0; cut < CUTS; cut++) {
    const copy = nodeIn(`cut-${cut}`);
    await cp(node.dataDirectory, copy.dataDirectory, { recursive: true });
    // Within the last frame, whose record ends in a hundred letters.
    await writeFile(
      path.join(copy.dataDirectory, file),
      content.subarray(0, end - 1 - Math.floor(Math.random() * 100)),
    );
    await copy.start();
    for (const key of written.slice(0, -1)) expect(await get(copy.address, key)).toBe("x".repeat(100));
    expect(await get(copy.address, written.at(-1)!)).toBeUndefined();
    expect(copy.log.some(({ msg, saved_as: saved }) => msg === "the end of the log was cut" && saved)).toBe(true);
    expect((await readdir(path.join(copy.dataDirectory, "wal"))).some((name) => name.endsWith(".torn"))).toBe(true);
    await copy.kill();
  }
});

test("a corrupt log is cut where it is damaged when --recover=truncate-tail asks for it, and the rest is saved", async () => {
  const node = await copied("recover");
  const file = path.join(node.dataDirectory, await newest("wal", ".wal"));
  const content = await readFile(file);
  const at = content.indexOf(`value ${KEYS / 2}`);
  expect(at).toBeGreaterThan(80);
  content[at]! ^= 1;
  await writeFile(file, content);
  await expect(node.start()).rejects.toThrow("--recover=truncate-tail");

  const config = path.join(node.options.directory, "node.yaml");
  const child = spawnProgram("master", ["--config", config, "--recover=truncate-tail"]);
  let output = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (output += text));
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    await until("it starts", () => output.includes('"msg":"started"'));
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
  expect(output).toContain("is cut there, as was asked for");
  await node.start();
  for (let key = 0; key < KEYS / 2; key++) expect(await get(node.address, `key-${key}`)).toBe(`value ${key}`);
  for (let key = KEYS / 2; key < KEYS; key++) expect(await get(node.address, `key-${key}`)).toBeUndefined();
  expect((await readdir(path.join(node.dataDirectory, "wal"))).some((name) => name.endsWith(".torn"))).toBe(true);
  await node.kill();
});

async function segmentsOf(node: TestNode): Promise<string[]> {
  return (await readdir(path.join(node.dataDirectory, "wal"))).filter((name) => name.endsWith(".wal")).sort();
}
