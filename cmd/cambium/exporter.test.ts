import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CambiumError, type Entry, type UpdateEvent, type UpdatesPage } from "../../api/client/node.js";
import { ExportFolder } from "./export-folder.js";
import { exportKeys, type ExportOptions } from "./exporter.js";
import { collectKeys } from "./key-collector.js";

const { signal } = new AbortController();

describe("the keys that a node has", () => {
  const page = (events: [UpdateEvent["type"], string, number?][], next: number, applied: number): UpdatesPage => ({
    events: events.map(([type, key, bytes = 0]) => ({
      type,
      key,
      value: new Uint8Array(bytes),
      position: { epoch: 1, seq: next },
      timestampMs: 0,
    })),
    next,
    nextToken: new Uint8Array(),
    position: { epoch: 1, seq: applied },
  });
  async function* pages(...all: UpdatesPage[]): AsyncGenerator<UpdatesPage> {
    yield* all;
  }

  test("are those that the log put and did not remove again", async () => {
    const reader = {
      updates: () =>
        pages(
          page(
            [
              ["put", "p/a", 1],
              ["put", "p/b", 2],
              ["put", "other", 3],
              ["put", "p/__proto__", 4],
            ],
            3,
            9,
          ),
          page(
            [
              ["delete", "p/a"],
              ["put", "p/b", 20],
              ["delete", "p/never"],
            ],
            9,
            9,
          ),
        ),
    };
    const seen: [number, number][] = [];
    const keys = await collectKeys({ reader, prefix: "p/", signal, progress: (...at) => seen.push(at) });
    expect([...keys]).toEqual([
      ["p/b", 20],
      ["p/__proto__", 4],
    ]);
    expect(seen).toEqual([
      [3, 9],
      [9, 9],
    ]);
  });

  test("are counted up to what was applied at the start, however fast writes go on", async () => {
    const reader = {
      updates: () => pages(page([["put", "a"]], 5, 10), page([["put", "b"]], 12, 20), page([["put", "c"]], 20, 99)),
    };
    expect([...(await collectKeys({ reader, prefix: "", signal })).keys()]).toEqual(["a", "b"]);
  });

  test("cannot be known from a log that was compacted", async () => {
    const reader = {
      updates: (): AsyncIterable<UpdatesPage> => {
        throw new CambiumError("out_of_range", "gone", { range: { compactSeq: 40, appliedSeq: 50 } });
      },
    };
    await expect(collectKeys({ reader, prefix: "", signal })).rejects.toThrow("the node's log begins at seq 41");
  });
});

describe("the export", () => {
  interface Run {
    readonly files: Map<string, string>;
    readonly batches: number[];
    readonly gone: string[];
    readonly failed: string[];
    readonly error: unknown;
  }

  async function run(
    values: Readonly<Record<string, string>>,
    options: Partial<ExportOptions> & { before?: (keys: readonly string[]) => void } = {},
  ): Promise<Run> {
    const files = new Map<string, string>();
    const batches: number[] = [];
    const gone: string[] = [];
    const failed: string[] = [];
    let error: unknown;
    const state = new Map(Object.entries(values));
    try {
      await exportKeys({
        reader: {
          batchGet: (keys) => {
            batches.push(keys.length);
            options.before?.(keys);
            const found = keys.filter((key) => state.has(key));
            return Promise.resolve(
              new Map(found.map((key) => [key, { value: Buffer.from(state.get(key)!) } as unknown as Entry])),
            );
          },
        },
        sink: {
          write: (file, bytes) => {
            if (file.includes("unwritable")) return Promise.reject(new Error("ENAMETOOLONG: too long"));
            files.set(file, Buffer.from(bytes).toString());
            return Promise.resolve();
          },
        },
        keys: new Map([...state].map(([key, value]) => [key, value.length])),
        paths: { windows: false, foldsNames: false },
        concurrency: 2,
        retryForMs: 60_000,
        signal,
        pause: () => Promise.resolve(),
        listener: {
          written: () => {},
          gone: (key) => gone.push(key),
          failed: (key, reason) => failed.push(`${key}: ${reason}`),
        },
        ...options,
      });
    } catch (reason) {
      error = reason;
    }
    return { files, batches, gone, failed, error };
  }

  test("writes every key under its path, dangerous and clashing ones elsewhere inside", async () => {
    const { files, error } = await run({ a: "1", "a/b": "2", "../x": "3", "/etc/passwd": "4", "\0": "5" });
    expect(error).toBeUndefined();
    expect(Object.fromEntries(files)).toEqual({
      "%~/a": "1",
      "a/b": "2",
      "%2E%2E/x": "3",
      "%2Fetc/passwd": "4",
      "%00": "5",
    });
  });

  test("reads batches of bounded size", async () => {
    const many = Object.fromEntries(Array.from({ length: 600 }, (_, i) => [`k${i}`, "v"]));
    expect((await run(many)).batches).toEqual([256, 256, 88]);
    const large = Object.fromEntries(Array.from({ length: 4 }, (_, i) => [`k${i}`, "v".repeat(600_000)]));
    expect((await run(large)).batches).toEqual([1, 1, 1, 1]);
  });

  test("reads in halves what an answer cannot hold, and reports the key that it never can", async () => {
    const { files, failed, error } = await run(
      { a: "1", b: "2", c: "3", d: "4" },
      {
        before: (keys) => {
          if (keys.length > 2) throw new CambiumError("limit_exceeded", "above limits.max_message_bytes");
          if (keys.includes("c")) throw new CambiumError("resource_exhausted", "too large to read");
        },
      },
    );
    expect(error).toBeUndefined();
    expect([...files.keys()].toSorted()).toEqual(["a", "b", "d"]);
    expect(failed).toEqual(["c: too large to read"]);
  });

  test("passes over keys that have gone, and goes on after a file that cannot be written", async () => {
    const { files, gone, failed } = await run(
      { a: "1", unwritable: "2", c: "3" },
      {
        keys: new Map([
          ["a", 1],
          ["expired", 1],
          ["unwritable", 1],
          ["c", 1],
        ]),
      },
    );
    expect([...files.keys()]).toEqual(["a", "c"]);
    expect(gone).toEqual(["expired"]);
    expect(failed).toEqual(["unwritable: ENAMETOOLONG: too long"]);
  });

  test("waits for a node that is away, and ends when it stays away", async () => {
    let failures = 3;
    const before = (): void => {
      if (failures-- > 0) throw new CambiumError("unavailable", "away");
    };
    expect((await run({ a: "1" }, { before })).files.size).toBe(1);
    failures = 1;
    expect((await run({ a: "1" }, { before, retryForMs: 0 })).error).toMatchObject({ code: "unavailable" });
    expect((await run({ a: "1" }, { signal: AbortSignal.abort() })).error).toMatchObject({ code: "canceled" });
  });
});

describe("the folder", () => {
  let root: string;
  beforeEach(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
  });
  afterEach(async () => {
    await fs.rm(root, { recursive: true });
  });

  test("is made with all that is above it, and holds nothing but the files in the end", async () => {
    const out = path.join(root, "deep/out");
    const folder = await ExportFolder.open(out, { overwrite: false });
    await Promise.all([folder.write("a/b/c", Buffer.from("1")), folder.write("a/b/d", Buffer.from("2"))]);
    await folder.close();
    expect((await fs.readdir(out, { recursive: true })).toSorted()).toEqual(["a", "a/b", "a/b/c", "a/b/d"]);
    expect(await fs.readFile(path.join(out, "a/b/c"), "utf8")).toBe("1");
  });

  test("must be empty, unless files may be replaced", async () => {
    await fs.writeFile(path.join(root, "f"), "old");
    await expect(ExportFolder.open(root, { overwrite: false })).rejects.toThrow("is not empty");
    const folder = await ExportFolder.open(root, { overwrite: true });
    await folder.write("f", Buffer.from("new"));
    await folder.close();
    expect(await fs.readFile(path.join(root, "f"), "utf8")).toBe("new");
  });

  test("is never left by way of a symbolic link", async () => {
    const outside = path.join(root, "outside");
    const out = path.join(root, "out");
    await fs.mkdir(outside);
    await fs.mkdir(out);
    await fs.writeFile(path.join(outside, "target"), "untouched");
    await fs.symlink(outside, path.join(out, "a"));
    await fs.symlink(path.join(outside, "target"), path.join(out, "link"));
    const folder = await ExportFolder.open(out, { overwrite: true });
    await expect(folder.write("a/b", Buffer.from("x"))).rejects.toThrow("is in the way");
    await folder.write("link", Buffer.from("x"));
    await folder.close();
    expect(await fs.readdir(outside)).toEqual(["target"]);
    expect(await fs.readFile(path.join(outside, "target"), "utf8")).toBe("untouched");
  });
});
