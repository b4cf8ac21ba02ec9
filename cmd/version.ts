import { readFileSync } from "node:fs";

/** The version in package.json, which lies in the folder above both `cmd` and `dist/cmd`. */
export const VERSION: string = readVersion();

function readVersion(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as Record<
        string,
        string
      >;
      if (name === "cambium" && version) return version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new Error("package.json of cambium was not found beside the program; install the package again");
}
