/** A value or record in a file. */
import fs from "node:fs/promises";
import { CliError } from "./cli-error.js";

/** More than any node takes in one message; it keeps a wrong file from filling the memory. */
export const VALUE_BYTES_MAX = 64 * 1024 * 1024;

export async function readValueFile(file: string): Promise<Uint8Array> {
  const { size } = await fs.stat(file);
  if (size > VALUE_BYTES_MAX) throw new CliError("failed", `${file} has ${size} bytes, more than a value ever has`);
  return await fs.readFile(file);
}
