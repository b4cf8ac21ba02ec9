/**
 * The folder that an export fills. Every file appears whole or not at all: it is written under `.cambium-export-*` in the
 * same folder and renamed. Nothing is ever written outside, also when there are symbolic links inside.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { makeFolder } from "../make-folder.js";
import { CliError } from "./cli-error.js";

export class ExportFolder {
  readonly #root: string;
  readonly #scratch: string;
  /** Folders, by their path, that were made or looked at; each is looked at once. */
  readonly #folders = new Map<string, Promise<void>>();
  #files = 0;

  private constructor(root: string, scratch: string) {
    this.#root = root;
    this.#scratch = scratch;
  }

  /**
   * Makes the folder where it is not there yet. Throws `CliError` when there is something in it already, unless
   * `overwrite` says that files of an earlier export may be replaced.
   */
  static async open(folder: string, options: { overwrite: boolean }): Promise<ExportFolder> {
    const root = path.resolve(folder);
    await makeFolder(root);
    if (!options.overwrite && (await fs.readdir(root)).length > 0) {
      throw new CliError(
        "failed",
        `${folder} is not empty; name another folder, or give --overwrite to write into this one`,
      );
    }
    return new ExportFolder(root, await fs.mkdtemp(path.join(root, ".cambium-export-")));
  }

  /** Writes one file, at a path with `/` between its parts as `key-path.ts` makes it. Throws the system's error. */
  async write(file: string, bytes: Uint8Array): Promise<void> {
    const names = file.split("/");
    const name = names.pop()!;
    let folder = this.#root;
    for (const part of names) {
      folder = path.join(folder, part);
      await this.#ensure(folder);
    }
    const scratch = path.join(this.#scratch, String(this.#files++));
    await fs.writeFile(scratch, bytes, { flag: "wx" });
    await fs.rename(scratch, path.join(folder, name));
  }

  /** Removes what was begun and not finished. */
  async close(): Promise<void> {
    await fs.rm(this.#scratch, { recursive: true, force: true });
  }

  #ensure(folder: string): Promise<void> {
    const known = this.#folders.get(folder);
    if (known) return known;
    const made = makeOne(folder);
    this.#folders.set(folder, made);
    return made;
  }
}

/** The folder above is there and is a folder, so one level is all that is looked at. */
async function makeOne(folder: string): Promise<void> {
  try {
    await fs.mkdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    // A link here could lead out of the export.
    if (!(await fs.lstat(folder)).isDirectory()) {
      throw new Error(`${folder} is in the way: it is not a folder`, { cause: error });
    }
  }
}
