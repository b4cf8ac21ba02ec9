import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CambiumError, type ScanPageOptions } from "../../api/client/node.js";
import { ExportFolder } from "./export-folder.js";
import { exportKeys, type ExportOptions, listKeys } from "./exporter.js";
import type { Reader } from "./page-reader.js";

const { signal } = new AbortController();

/** A node with these keys, three to a page. */
function nodeWith(values: Iterable<readonly [string, string]>): Reader & { readonly state: Map<string, string> } {
  const state = new Map(values);
  return {
    state,
    scanPage: ({ prefix = "", keysOnly = false, limit = 3, pageToken }) => {
      const from = pageToken ? Buffer.from(pageToken).toString() : "";
      const keys = [...state.keys()].filter((key) => key.startsWith(prefix) && key >= from).sort();
      const next = keys[limit];
      const position = { epoch: 1, seq: 1 };
      return Promise.resolve({
        entries: keys.slice(0, limit).map((key) => {
          const value = Buffer.from(state.get(key)!);
          const valueBytes = value.length;
          return { key, value: keysOnly ? Buffer.alloc(0) : value, valueBytes, createSeq: 1, modSeq: 1, position };
        }),
        ...(next !== undefined && { nextPageToken: Buffer.from(next) }),
        position,
        token: new Uint8Array(),
      });
    },
  };
}

const patience = { retryForMs: 60_000, signal, pause: () => Promise.resolve() };

describe("the list of keys", () => {
  test("has those of the prefix with the sizes of their values, from as many pages as it takes", async () => {
    const names = ["p/a", "p/b", "p/__proto__", "p/c", "other", "p/d", "p/e", "p/f"];
    const reader = nodeWith(names.map((name, i) => [name, "x".repeat(i)]));
    let counted = { keys: 0, bytes: 0 };
    const keys = await listKeys({
      reader,
      prefix: "p/",
      listed: (more, bytes) => (counted = { keys: counted.keys + more, bytes: counted.bytes + bytes }),
      ...patience,
    });
    expect(Object.fromEntries(keys)).toEqual(
      Object.fromEntries([
        ["p/a", 0],
        ["p/b", 1],
        ["p/__proto__", 2],
        ["p/c", 3],
        ["p/d", 5],
        ["p/e", 6],
        ["p/f", 7],
      ]),
    );
    expect([...keys.keys()]).toEqual(["p/__proto__", "p/a", "p/b", "p/c", "p/d", "p/e", "p/f"]);
    expect(counted).toEqual({ keys: 7, bytes: 24 });
  });

  test("goes on where it was when the node was away", async () => {
    const node = nodeWith(["a", "b", "c", "d", "e", "f", "g"].map((key) => [key, "1"]));
    const pages: (string | undefined)[] = [];
    const reader: Reader = {
      scanPage: (options) => {
        pages.push(options.pageToken && Buffer.from(options.pageToken).toString());
        if (pages.length % 2 === 1) return Promise.reject(new CambiumError("unavailable", "away"));
        return node.scanPage(options);
      },
    };
    expect((await listKeys({ reader, prefix: "", ...patience })).size).toBe(7);
    expect(pages).toEqual([undefined, undefined, "d", "d", "g", "g"]);
  });

  test("is none when a page cannot be read", async () => {
    const reader: Reader = { scanPage: () => Promise.reject(new CambiumError("limit_exceeded", "too large")) };
    await expect(listKeys({ reader, prefix: "", ...patience })).rejects.toThrow("too large");
  });
});

describe("the export", () => {
  interface Run {
    readonly files: Map<string, string>;
    readonly gone: string[];
    readonly failed: string[];
    readonly error: unknown;
  }

  async function run(
    values: Readonly<Record<string, string>>,
    options: Partial<ExportOptions> & {
      /** Between the listing and the reading. */
      readonly meanwhile?: (state: Map<string, string>) => void;
      /** Before each page that is read. */
      readonly before?: (options: ScanPageOptions) => void;
    } = {},
  ): Promise<Run> {
    const files = new Map<string, string>();
    const gone: string[] = [];
    const failed: string[] = [];
    let error: unknown;
    const node = nodeWith(Object.entries(values));
    const keys = await listKeys({ reader: node, prefix: "", ...patience });
    options.meanwhile?.(node.state);
    try {
      await exportKeys({
        reader: {
          scanPage: async (page) => {
            options.before?.(page);
            return await node.scanPage(page);
          },
        },
        sink: {
          write: (file, bytes) => {
            if (file.includes("unwritable")) return Promise.reject(new Error("ENAMETOOLONG: too long"));
            files.set(file, Buffer.from(bytes).toString());
            return Promise.resolve();
          },
        },
        keys,
        prefix: "",
        paths: { windows: false, foldsNames: false },
        concurrency: 2,
        listener: {
          written: () => {},
          gone: (key) => gone.push(key),
          failed: (key, reason) => failed.push(`${key}: ${reason}`),
        },
        ...patience,
        ...options,
      });
    } catch (reason) {
      error = reason;
    }
    return { files, gone, failed, error };
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

  test("passes over a key that is too large to be read, and over no other", async () => {
    const { files, failed, error } = await run(
      { a: "1", b: "2", c: "3", d: "large", e: "5", f: "6", g: "7", h: "large" },
      {
        before: ({ keysOnly, pageToken }) => {
          const from = pageToken && Buffer.from(pageToken).toString();
          if (!keysOnly && (from === "d" || from === "h")) throw new CambiumError("resource_exhausted", "too large");
        },
      },
    );
    expect(error).toBeUndefined();
    expect([...files.keys()].toSorted()).toEqual(["a", "b", "c", "e", "f", "g"]);
    expect(failed).toEqual(["d: too large", "h: too large"]);
  });

  test("passes over keys that went or came, and goes on after a file that cannot be written", async () => {
    const { files, gone, failed } = await run(
      { a: "1", deleted: "1", unwritable: "2", z: "3" },
      {
        meanwhile: (state) => {
          state.delete("deleted");
          // Where its file would go may be taken.
          state.set("new", "x");
          state.set("z", "newer");
        },
      },
    );
    expect(Object.fromEntries(files)).toEqual({ a: "1", z: "newer" });
    expect(gone).toEqual(["deleted"]);
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
  });

  test("ends when it is interrupted, with the files that it had written", async () => {
    const controller = new AbortController();
    const { files, error } = await run(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`key-${i}`, "v"])), {
      signal: controller.signal,
      before: ({ pageToken }) => pageToken && controller.abort(),
    });
    expect(error).toMatchObject({ code: "canceled" });
    expect(files.size).toBeLessThan(20);
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
