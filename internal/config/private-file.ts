/** Files that only their owner may read. No error shows anything of their content. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** Why a file cannot be used. The message names the file. */
export class PrivateFileError extends Error {
  override readonly name = "PrivateFileError";
}

/** The first bytes of the file, at most `bytesMax`. Throws `PrivateFileError`. */
export function readPrivateFile(file: string, bytesMax: number): Uint8Array {
  const shown = JSON.stringify(file);
  let descriptor: number | undefined;
  try {
    // Without waiting, so that a pipe that nobody writes to cannot stop the start.
    descriptor = openSync(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new PrivateFileError(`${shown} is no ordinary file`);
    // Windows has no such bits.
    const openTo = process.platform === "win32" ? 0 : status.mode & 0o077;
    if (openTo !== 0) {
      const mode = (status.mode & 0o777).toString(8).padStart(3, "0");
      throw new PrivateFileError(
        `${shown} can be read by others than its owner (mode ${mode}); run: chmod 600 ${shown}`,
      );
    }
    return readUpTo(descriptor, bytesMax);
  } catch (error) {
    if (error instanceof PrivateFileError) throw error;
    throw new PrivateFileError(`${shown} cannot be read: ${(error as Error).message}`, { cause: error });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** The first bytes of a file, at most `max`. */
export function readUpTo(descriptor: number, max: number): Uint8Array {
  const buffer = new Uint8Array(max);
  let length = 0;
  for (let read = 1; read > 0 && length < max; length += read) {
    read = readSync(descriptor, buffer, length, max - length, null);
  }
  return buffer.subarray(0, length);
}
