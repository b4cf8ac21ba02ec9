import fs from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readRegularFile, walkFiles } from "./file-tree.js";

let root: string;
beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
});
afterEach(async () => {
  await fs.rm(root, { recursive: true });
});

async function walk(): Promise<string[]> {
  const seen: string[] = [];
  for await (const entry of walkFiles(root)) {
    seen.push(
      entry.kind === "file" ? `${entry.name} ${entry.sizeBytes}` : `${entry.kind} ${entry.name}: ${entry.reason}`,
    );
  }
  return seen;
}

test("regular files come in byte order, hidden and empty ones too", async () => {
  await fs.mkdir(path.join(root, "b/c"), { recursive: true });
  await fs.mkdir(path.join(root, "empty"));
  await fs.writeFile(path.join(root, "b/c/é.txt"), "1");
  await fs.writeFile(path.join(root, "b/z"), "");
  await fs.writeFile(path.join(root, ".hidden"), "12");
  await fs.writeFile(path.join(root, "a"), "123");
  expect(await walk()).toEqual([".hidden 2", "a 3", "b/c/é.txt 1", "b/z 0"]);
});

test("links, sockets and names that are no UTF-8 are skipped with the reason", async () => {
  await fs.mkdir(path.join(root, "real"));
  await fs.symlink("real", path.join(root, "link-to-folder"));
  await fs.symlink("/etc/passwd", path.join(root, "link-to-file"));
  await fs.writeFile(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff])]), "x");
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(path.join(root, "socket"), resolve));
  try {
    expect(await walk()).toEqual([
      "skipped bad-\ufffd: its name is no valid UTF-8",
      "skipped link-to-file: a symbolic link",
      "skipped link-to-folder: a symbolic link",
      "skipped socket: a socket",
    ]);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

test("a folder that is not there is an error", async () => {
  await expect(walkFiles(path.join(root, "absent")).next()).rejects.toMatchObject({ code: "ENOENT" });
});

test("a file is read whole, and not at all when it has grown too large or became something else", async () => {
  const file = path.join(root, "f");
  await fs.writeFile(file, "hello");
  expect(Buffer.from((await readRegularFile(Buffer.from(file), 5)) as Uint8Array).toString()).toBe("hello");
  expect(await readRegularFile(Buffer.from(file), 4)).toEqual({
    reason: "its 5 bytes are above the 4 that a value may have",
  });
  expect(await readRegularFile(Buffer.from(root), 4)).toEqual({ reason: "not a regular file" });
  await fs.symlink("f", path.join(root, "link"));
  await expect(readRegularFile(Buffer.from(path.join(root, "link")), 5)).rejects.toMatchObject({ code: "ELOOP" });
});
