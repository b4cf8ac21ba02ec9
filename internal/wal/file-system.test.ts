/** One suite of behaviour for every file system that a log may stand on. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { File, FileSystem } from "./file-system.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { NodeFileSystem } from "./node-file-system.js";

const roots: string[] = [];

async function newRoot(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "cambium-"));
  roots.push(root);
  return root;
}

afterEach(async () => {
  for (const root of roots.splice(0)) await rm(root, { recursive: true });
});

async function text(file: File): Promise<string> {
  const bytes = Buffer.alloc(await file.size());
  const read = await file.read(bytes, 0);
  return bytes.subarray(0, read).toString();
}

async function write(fileSystem: FileSystem, path: string, content: string): Promise<void> {
  const file = await fileSystem.open(path, "create");
  await file.write(Buffer.from(content), 0);
  await file.close();
}

async function read(fileSystem: FileSystem, path: string): Promise<string> {
  const file = await fileSystem.open(path, "read");
  try {
    return await text(file);
  } finally {
    await file.close();
  }
}

describe.each<[string, () => Promise<FileSystem>]>([
  ["MemoryFileSystem", async () => new MemoryFileSystem({ atOnce: true })],
  ["NodeFileSystem", async () => new NodeFileSystem(await newRoot())],
])("%s", (_name, open) => {
  test("gives back what was written, at its place", async () => {
    const fileSystem = await open();
    const file = await fileSystem.open("a", "create");
    expect(await file.write(Buffer.from("hello"), 0)).toBe(5);
    expect(await file.write(Buffer.from("J"), 0)).toBe(1);
    expect(await file.write(Buffer.from("!"), 7)).toBe(1);
    await file.datasync();
    expect(await text(file)).toBe("Jello\0\0!");
    expect(await file.size()).toBe(8);
    await file.close();
    expect(await read(fileSystem, "a")).toBe("Jello\0\0!");
  });

  test("writes and syncs while the thread stands still, and tells errors as in the other way", async () => {
    const fileSystem = await open();
    const file = await fileSystem.open("a", "create");
    const { atOnce } = file;
    expect(atOnce?.write(Buffer.from("hello"), 0)).toBe(5);
    expect(atOnce?.write(Buffer.from("J"), 0)).toBe(1);
    atOnce?.datasync();
    expect(await text(file)).toBe("Jello");
    await file.close();
    expect(() => atOnce?.write(Buffer.from("x"), 0)).toThrow("after it was closed");
    expect(() => atOnce?.datasync()).toThrow("after it was closed");
  });

  test("reads less than asked only at the end of a file", async () => {
    const fileSystem = await open();
    await write(fileSystem, "a", "0123456789");
    const file = await fileSystem.open("a", "read");
    const bytes = Buffer.alloc(6);
    expect(await file.read(bytes, 2)).toBe(6);
    expect(bytes.toString()).toBe("234567");
    expect(await file.read(bytes, 8)).toBe(2);
    expect(await file.read(bytes, 10)).toBe(0);
    expect(await file.read(bytes, 100)).toBe(0);
    await file.close();
  });

  test("cuts a file and extends it with zeros", async () => {
    const fileSystem = await open();
    await write(fileSystem, "a", "0123456789");
    const file = await fileSystem.open("a", "write");
    await file.truncate(4);
    expect(await text(file)).toBe("0123");
    await file.truncate(6);
    expect(await text(file)).toBe("0123\0\0");
    await file.close();
  });

  test("creates only what is not there, and opens only what is", async () => {
    const fileSystem = await open();
    await write(fileSystem, "a", "1");
    await expect(fileSystem.open("a", "create")).rejects.toMatchObject({ name: "FileSystemError", code: "EEXIST" });
    await expect(fileSystem.open("b", "read")).rejects.toMatchObject({ name: "FileSystemError", code: "ENOENT" });
    await expect(fileSystem.open("b", "write")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fileSystem.open("none/b", "create")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fileSystem.remove("b")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fileSystem.rename("b", "c")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("lists the files of a directory in order, and none where there is no directory", async () => {
    const fileSystem = await open();
    expect(await fileSystem.list("wal")).toEqual([]);
    await fileSystem.makeDirectory("wal/deep");
    await fileSystem.makeDirectory("wal/deep");
    expect(await fileSystem.list("wal")).toEqual([]);
    for (const name of ["wal/b", "wal/c", "wal/a", "wal/deep/d", "e"]) await write(fileSystem, name, "1");
    expect(await fileSystem.list("wal")).toEqual(["a", "b", "c"]);
    expect(await fileSystem.list("")).toEqual(["e"]);
    expect(await fileSystem.list(".")).toEqual(["e"]);
  });

  test("renames a file over another, and a handle goes with its file", async () => {
    const fileSystem = await open();
    await fileSystem.makeDirectory("wal");
    await write(fileSystem, "wal/old", "old");
    const file = await fileSystem.open("wal/new", "create");
    await fileSystem.rename("wal/new", "wal/old");
    await file.write(Buffer.from("new"), 0);
    await file.close();
    await fileSystem.syncDirectory("wal");
    await fileSystem.syncDirectory("");
    expect(await fileSystem.list("wal")).toEqual(["old"]);
    expect(await read(fileSystem, "wal/old")).toBe("new");
    await fileSystem.remove("wal/old");
    expect(await fileSystem.list("wal")).toEqual([]);
  });

  test("renames a file into another directory", async () => {
    const fileSystem = await open();
    await fileSystem.makeDirectory("from");
    await write(fileSystem, "from/a", "content");
    await expect(fileSystem.rename("from/a", "to/a")).rejects.toMatchObject({ code: "ENOENT" });
    await fileSystem.makeDirectory("to/deep");
    await fileSystem.rename("from/a", "to/deep/a");
    expect(await read(fileSystem, "to/deep/a")).toBe("content");
    expect(await fileSystem.list("from")).toEqual([]);
  });

  test("locks the directory against a second holder until it is released", async () => {
    const fileSystem = await open();
    const lock = await fileSystem.lock();
    await expect(fileSystem.lock()).rejects.toMatchObject({ code: "ELOCKED" });
    await lock.release();
    const again = await fileSystem.lock();
    await lock.release();
    await expect(fileSystem.lock()).rejects.toMatchObject({ code: "ELOCKED" });
    await again.release();
    expect(await fileSystem.list("")).toEqual([]);
  });

  test("does not let a closed file be used", async () => {
    const fileSystem = await open();
    const file = await fileSystem.open("a", "create");
    await file.close();
    await expect((async () => file.write(Buffer.from("x"), 0))()).rejects.toThrow("after it was closed");
  });
});

describe("NodeFileSystem", () => {
  test("makes its directories and files for their owner only", async () => {
    const root = join(await newRoot(), "data", "node");
    const fileSystem = new NodeFileSystem(root);
    await fileSystem.makeDirectory("wal");
    await write(fileSystem, "wal/a", "1");
    const modes = await Promise.all(
      ["", "wal", "wal/a"].map(async (name) => (await stat(join(root, name))).mode & 0o777),
    );
    expect(modes).toEqual([0o700, 0o700, 0o600]);
  });

  test("names the file in the errors of a call for which the thread stood still", async () => {
    const root = await newRoot();
    const fileSystem = new NodeFileSystem(root);
    await write(fileSystem, "a", "1");
    const file = await fileSystem.open("a", "read");
    expect(() => file.atOnce?.write(Buffer.from("x"), 0)).toThrow(
      expect.objectContaining({
        name: "FileSystemError",
        code: "EBADF",
        message: expect.stringContaining(join(root, "a")),
      }),
    );
    await file.close();
  });

  test("names the file and what can be done in its errors", async () => {
    const root = await newRoot();
    const fileSystem = new NodeFileSystem(root);
    await expect(fileSystem.open("a", "read")).rejects.toThrow(
      `cannot open ${join(root, "a")}: it does not exist (ENOENT)`,
    );
    await write(fileSystem, "a", "1");
    await expect(fileSystem.makeDirectory("a/b")).rejects.toThrow("a part of the path is not a directory (ENOTDIR)");
  });

  test("tells how much of the disk is free", async () => {
    expect(new NodeFileSystem(await newRoot()).freeBytes()).toBeGreaterThan(0);
    expect(new NodeFileSystem(join(await newRoot(), "not-there")).freeBytes()).toBeUndefined();
  });

  test("does not lead out of its directory", async () => {
    const fileSystem = new NodeFileSystem(await newRoot());
    expect(() => fileSystem.open("../a", "read")).toThrow("leads out of the data directory");
    expect(() => fileSystem.open("wal/../../a", "read")).toThrow("leads out of the data directory");
  });
});

describe("MemoryFileSystem", () => {
  test("forgets at a power cut what was not synced", async () => {
    const fileSystem = new MemoryFileSystem();
    const file = await fileSystem.open("a", "create");
    await file.write(Buffer.from("one"), 0);
    expect(fileSystem.crash().paths()).toEqual([]);
    await fileSystem.syncDirectory("");
    expect(fileSystem.crash().bytes("a").toString()).toBe("");
    await file.datasync();
    await file.write(Buffer.from("two"), 3);
    expect(fileSystem.crash().bytes("a").toString()).toBe("one");
    expect(fileSystem.bytes("a").toString()).toBe("onetwo");
    expect(fileSystem.copy().bytes("a").toString()).toBe("onetwo");
  });

  test("forgets at a power cut a directory whose name was not synced, with all that is in it", async () => {
    const fileSystem = new MemoryFileSystem();
    await fileSystem.makeDirectory("wal");
    await write(fileSystem, "wal/a", "1");
    await fileSystem.syncDirectory("wal");
    expect(fileSystem.copy().crash().paths()).toEqual([]);
    expect(fileSystem.crash({ names: (changes) => changes }).paths()).toEqual(["wal/a"]);
    await fileSystem.syncDirectory("");
    expect(fileSystem.crash().paths()).toEqual(["wal/a"]);
  });

  test("keeps at a power cut the sectors that are chosen, in any of their versions", async () => {
    const fileSystem = new MemoryFileSystem();
    const file = await fileSystem.open("a", "create");
    await fileSystem.syncDirectory("");
    await file.truncate(1536);
    await file.datasync();
    await file.write(Buffer.alloc(1536, "1"), 0);
    await file.write(Buffer.alloc(100, "2"), 512);
    const after = fileSystem.crash({
      sector: (_path, sector, versions) => (sector === 1 ? versions : sector === 2 ? 1 : 0),
    });
    const bytes = after.bytes("a");
    expect(bytes.subarray(0, 512)).toEqual(Buffer.alloc(512));
    expect(bytes.subarray(512, 612).toString()).toBe("2".repeat(100));
    expect(bytes.subarray(612).toString()).toBe("1".repeat(924));
    expect(
      fileSystem
        .crash({ sector: () => 1 })
        .bytes("a")
        .toString(),
    ).toBe("1".repeat(1536));
  });

  test("keeps a size that was not synced only when it is told to", async () => {
    const fileSystem = new MemoryFileSystem();
    const file = await fileSystem.open("a", "create");
    await fileSystem.syncDirectory("");
    await file.write(Buffer.alloc(600, "1"), 0);
    expect(fileSystem.crash({ sector: () => 1 }).bytes("a").length).toBe(0);
    expect(
      fileSystem
        .crash({ sector: () => 1, keepsSize: () => true })
        .bytes("a")
        .toString(),
    ).toBe("1".repeat(600));
    expect(fileSystem.crash({ keepsSize: () => true }).bytes("a")).toEqual(Buffer.alloc(600));
    await file.datasync();
    await file.truncate(10);
    expect(fileSystem.crash().bytes("a").toString()).toBe("1".repeat(600));
    expect(
      fileSystem
        .crash({ keepsSize: () => true })
        .bytes("a")
        .toString(),
    ).toBe("1".repeat(10));
  });

  test("undoes renames and removals that were not synced, the latest first", async () => {
    const fileSystem = new MemoryFileSystem();
    for (const name of ["a", "b"]) await write(fileSystem, name, name);
    await fileSystem.syncDirectory("");
    await fileSystem.rename("a", "c");
    await fileSystem.remove("b");
    expect(fileSystem.paths()).toEqual(["c"]);
    expect(fileSystem.crash().paths()).toEqual(["a", "b"]);
    expect(fileSystem.crash({ names: () => 1 }).paths()).toEqual(["b", "c"]);
    expect(fileSystem.crash({ names: (changes) => changes }).paths()).toEqual(["c"]);
  });

  test("keeps a file that is renamed into another directory in one of the two, wherever the power is cut", async () => {
    const fileSystem = new MemoryFileSystem();
    fileSystem.setBytes("from/a", Buffer.from("content"));
    fileSystem.setBytes("to/b", Buffer.from("other"));
    const where = (remains: MemoryFileSystem): string[] => remains.paths().filter((path) => path.endsWith("/a"));
    await fileSystem.rename("from/a", "to/a");
    const left = [0, 1, 2].map((kept) => where(fileSystem.crash({ names: () => kept })));
    expect(left).toEqual([["from/a"], ["from/a", "to/a"], ["to/a"]]);
    await fileSystem.syncDirectory("to");
    expect(where(fileSystem.crash())).toEqual(["from/a", "to/a"]);
    await fileSystem.syncDirectory("from");
    expect(where(fileSystem.crash())).toEqual(["to/a"]);
  });

  test("writes what fits on a full disk and then refuses", async () => {
    const fileSystem = new MemoryFileSystem({ capacityBytes: 10, writeBytesMax: 4 });
    const file = await fileSystem.open("a", "create");
    expect(await file.write(Buffer.from("123456"), 0)).toBe(4);
    expect(await file.write(Buffer.from("5678"), 4)).toBe(4);
    expect(await file.write(Buffer.from("90ab"), 8)).toBe(2);
    await expect(file.write(Buffer.from("c"), 10)).rejects.toMatchObject({ code: "ENOSPC" });
    expect(await file.write(Buffer.from("ABCD"), 0)).toBe(4);
    await file.truncate(2);
    expect(await file.write(Buffer.from("c"), 2)).toBe(1);
  });

  test("fails what it is told to fail, once", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    const file = await fileSystem.open("a", "create");
    fileSystem.failNext("datasync", "EIO", { after: 1 });
    await file.datasync();
    await expect(file.datasync()).rejects.toMatchObject({ code: "EIO" });
    await file.datasync();
    fileSystem.failNext("write", "EIO");
    fileSystem.failNext("datasync", "EIO");
    const { atOnce } = file;
    expect(() => atOnce?.write(Buffer.from("1"), 0)).toThrow(expect.objectContaining({ code: "EIO" }));
    expect(atOnce?.write(Buffer.from("1"), 0)).toBe(1);
    expect(() => atOnce?.datasync()).toThrow(expect.objectContaining({ code: "EIO" }));
    atOnce?.datasync();
    fileSystem.failNext("open", "EACCES", { path: /^b$/ });
    await (await fileSystem.open("a", "read")).close();
    await expect(fileSystem.open("b", "create")).rejects.toMatchObject({ code: "EACCES" });
  });
});
