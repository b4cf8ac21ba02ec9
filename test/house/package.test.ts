/** What a fresh machine gets to see of this package. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { checkNode, SetupError } from "../../cmd/setup.mjs";
import { root } from "./source.js";

interface LockedPackage {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(path.join(root, file), "utf8"));
}

test("a Node that is too old is refused with the version that is needed", () => {
  for (const version of ["16.20.2", "18.19.0", "20.18.3"]) {
    expect(() => checkNode(version)).toThrow(`this needs Node 20.19 or newer, and this is Node ${version}`);
    expect(() => checkNode(version)).toThrow(SetupError);
  }
  for (const version of ["20.19.0", "20.20.2", "22.0.0", "24.21.0"]) expect(() => checkNode(version)).not.toThrow();
});

test("the lock file names no registry, and has a checksum for every package", () => {
  const { packages } = readJson("package-lock.json") as { packages: Record<string, LockedPackage> };
  for (const [folder, locked] of Object.entries(packages)) {
    expect(locked.resolved, folder).toBeUndefined();
    if (folder !== "") expect(locked.integrity, folder).toMatch(/^sha512-/);
  }
});

test("every dependency is pinned exactly", () => {
  type Versions = Record<string, string>;
  const description = readJson("package.json") as { dependencies: Versions; devDependencies: Versions };
  const { dependencies, devDependencies } = description;
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
  }
});
