import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DataDirectoryError, dataDirectoryWarning, makeDataDirectory } from "./data-directory.js";

let root: string;
beforeEach(() => (root = mkdtempSync(path.join(os.tmpdir(), "cambium-"))));
afterEach(() => rmSync(root, { recursive: true }));

function directory(name: string, mode: number): string {
  const made = path.join(root, name);
  mkdirSync(made);
  chmodSync(made, mode);
  return made;
}

test("a directory of its owner alone, and one that is not there yet, need no words", () => {
  expect(dataDirectoryWarning(directory("own", 0o700))).toBeUndefined();
  expect(dataDirectoryWarning(path.join(root, "absent"))).toBeUndefined();
});

test.each([0o750, 0o705, 0o711, 0o755])(
  "a directory of mode %o is told of, with the command that closes it",
  (mode) => {
    const open = directory("open", mode);
    expect(dataDirectoryWarning(open)).toContain(`(mode 0${mode.toString(8)})`);
    expect(dataDirectoryWarning(open)).toMatch(new RegExp(`: chmod 700 ${open}$`));
  },
);

test("the command is one for a shell whatever the path is called", () => {
  const odd = directory("it's $HOME", 0o755);
  expect(dataDirectoryWarning(odd)).toContain(`chmod 700 '${root}/it'\\''s $HOME'`);
});

test("a file is none, and neither is a link to nowhere", () => {
  const file = path.join(root, "file");
  writeFileSync(file, "");
  expect(() => dataDirectoryWarning(file)).toThrow(DataDirectoryError);
  expect(() => dataDirectoryWarning(file)).toThrow(`${file} is a file, not a directory`);
  const link = path.join(root, "link");
  symlinkSync(path.join(root, "absent"), link);
  expect(() => dataDirectoryWarning(link)).toThrow("is a link to what is not there");
  expect(dataDirectoryWarning(path.join(file, "below"))).toBeUndefined();
});

test("a directory is made with all that is missing above it, for its owner alone", async () => {
  const deep = path.join(root, "a", "b", "c");
  await makeDataDirectory(deep);
  for (const folder of [deep, path.dirname(deep)]) expect(statSync(folder).mode & 0o777).toBe(0o700);
  await makeDataDirectory(deep);
});

test("a directory that cannot be made is an error that names it, also where the system contradicts itself", async () => {
  const file = path.join(root, "file");
  writeFileSync(file, "");
  for (const name of [path.join(file, "below"), ...(process.platform === "linux" ? ["/proc/nowhere/below"] : [])]) {
    await expect(makeDataDirectory(name)).rejects.toThrow(`wal.directory ${name} cannot be made: `);
    await expect(makeDataDirectory(name)).rejects.toBeInstanceOf(DataDirectoryError);
  }
});
