import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { CambiumError, type WriteOperation } from "../../api/client/node.js";
import { type TreeEntry, walkFiles } from "./file-tree.js";
import { importFiles, type ImportOptions } from "./importer.js";

let root: string;
beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
});
afterEach(async () => {
  await fs.rm(root, { recursive: true });
});

async function files(contents: Readonly<Record<string, string | number>>): Promise<void> {
  for (const [name, content] of Object.entries(contents)) {
    await fs.mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await fs.writeFile(path.join(root, name), typeof content === "number" ? Buffer.alloc(content, "x") : content);
  }
}

interface Run {
  readonly writes: string[][];
  readonly stored: Map<string, string>;
  readonly acknowledged: string[];
  readonly skipped: string[];
  readonly failed: string[];
  readonly error: unknown;
}

async function run(
  options: Partial<ImportOptions> & { before?: (keys: string[]) => void | Promise<void> } = {},
): Promise<Run> {
  const writes: string[][] = [];
  const stored = new Map<string, string>();
  const acknowledged: string[] = [];
  const skipped: string[] = [];
  const failed: string[] = [];
  let error: unknown;
  const write = async (operations: readonly WriteOperation[]): Promise<void> => {
    const keys = operations.map(({ key }) => key);
    writes.push(keys);
    await options.before?.(keys);
    for (const operation of operations) {
      if (operation.kind === "set") stored.set(operation.key, Buffer.from(operation.value as Uint8Array).toString());
    }
  };
  try {
    await importFiles({
      writer: { write },
      entries: walkFiles(root),
      keyOf: (name) => name,
      concurrency: 4,
      valueBytesMax: 1024 * 1024,
      retryForMs: 60_000,
      signal: new AbortController().signal,
      pause: () => Promise.resolve(),
      listener: {
        acknowledged: (done) => acknowledged.push(...done.map(({ key }) => key)),
        skipped: (name, reason) => skipped.push(`${name}: ${reason}`),
        failed: (name, reason) => failed.push(`${name}: ${reason}`),
      },
      ...options,
    });
  } catch (reason) {
    error = reason;
  }
  return { writes, stored, acknowledged, skipped, failed, error };
}

test("small files travel together, large ones alone, and all are acknowledged", async () => {
  await files({ "a/1": "one", "a/2": "two", b: 600_000, c: 500_000, d: "", ["__proto__"]: "p" });
  const { writes, stored, acknowledged, error } = await run({ keyOf: (name) => `x/${name}` });
  expect(error).toBeUndefined();
  expect(writes.map((keys) => keys.join(" ")).toSorted()).toEqual(["x/__proto__ x/a/1 x/a/2", "x/b", "x/c x/d"]);
  expect([...stored.keys()].toSorted()).toEqual(["x/__proto__", "x/a/1", "x/a/2", "x/b", "x/c", "x/d"]);
  expect(acknowledged.toSorted()).toEqual([...stored.keys()].toSorted());
  expect([stored.get("x/a/1"), stored.get("x/d"), stored.get("x/b")?.length]).toEqual(["one", "", 600_000]);
});

test("what is too large is skipped without being sent", async () => {
  await files({ big: 11, fits: 10 });
  const { stored, skipped } = await run({ valueBytesMax: 10 });
  expect([...stored.keys()]).toEqual(["fits"]);
  expect(skipped).toEqual(["big: its 11 bytes are above the 10 that a value may have"]);
});

test("a key that is too long is skipped, by its bytes", async () => {
  await files({ a: "x", b: "x" });
  const { skipped } = await run({ keyOf: (name) => (name === "a" ? "é".repeat(2049) : name) });
  expect(skipped).toEqual(["a: its key's 4098 bytes are above the 4096 that a key may have"]);
});

test("a write fails as a whole, so the file that the node refuses is found by halving", async () => {
  await files(Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`f${i}`, "x"])));
  const { acknowledged, skipped, failed } = await run({
    before: (keys) => {
      if (keys.includes("f3")) throw new CambiumError("limit_exceeded", "above limits.max_value_bytes");
      if (keys.includes("f7")) throw new CambiumError("invalid_argument", "odd");
    },
  });
  expect(acknowledged.toSorted()).toEqual(["f0", "f1", "f2", "f4", "f5", "f6", "f8", "f9"]);
  expect(skipped).toEqual(["f3: above limits.max_value_bytes"]);
  expect(failed).toEqual(["f7: odd"]);
});

test("a file that goes away is a failure of its own", async () => {
  await files({ a: "x", b: "y" });
  async function* entries(): AsyncGenerator<TreeEntry> {
    for await (const entry of walkFiles(root)) {
      if (entry.name === "a") await fs.rm(path.join(root, "a"));
      yield entry;
    }
  }
  const { acknowledged, failed } = await run({ entries: entries() });
  expect(acknowledged).toEqual(["b"]);
  expect(failed).toEqual([expect.stringContaining("a: ENOENT")]);
});

test("a cluster that is away for a while is waited for", async () => {
  await files({ a: "x" });
  const errors = [new CambiumError("unreachable", "away"), new CambiumError("outcome_unknown", "cut")];
  const { acknowledged, writes, error } = await run({
    before: () => {
      const next = errors.shift();
      if (next) throw next;
    },
  });
  expect([error, acknowledged, writes.length]).toEqual([undefined, ["a"], 3]);
});

test("a cluster that stays away ends the import, and what was acknowledged is known", async () => {
  await files({ a: 600_000, b: 600_000, c: 600_000, d: 600_000, e: 600_000 });
  const { acknowledged, writes, stored, error } = await run({
    concurrency: 1,
    retryForMs: 0,
    before: ([key]) => {
      if (key === "c") throw new CambiumError("unavailable", "gone");
    },
  });
  expect(error).toMatchObject({ code: "unavailable" });
  expect(acknowledged).toEqual(["a", "b"]);
  expect([...stored.keys()]).toEqual(["a", "b"]);
  expect(writes).toEqual([["a"], ["b"], ["c"]]);
});

test("an interruption ends the import after what is in flight", async () => {
  await files({ a: 600_000, b: 600_000, c: 600_000 });
  const controller = new AbortController();
  const { acknowledged, error } = await run({
    concurrency: 1,
    signal: controller.signal,
    before: () => controller.abort(),
  });
  expect(error).toMatchObject({ code: "canceled" });
  expect(acknowledged).toEqual(["a"]);
});

test("no more writes are in flight than allowed", async () => {
  await files(Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`f${i}`, 600_000])));
  let inFlight = 0;
  let highest = 0;
  let fill: (() => void) | undefined;
  const full = new Promise<void>((resolve) => (fill = resolve));
  const { acknowledged } = await run({
    concurrency: 3,
    before: async () => {
      highest = Math.max(highest, ++inFlight);
      if (inFlight === 3) fill?.();
      await full;
      inFlight--;
    },
  });
  expect(acknowledged).toHaveLength(12);
  expect(highest).toBe(3);
});
