/** The cluster's secret, read from the file that the configuration names. No error shows anything of its content. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const secretBytesMin = 16;
const secretBytesMax = 1024;
/** A line break at the end, which editors add, is no part of the secret. */
const lineBreakBytesMax = 2;

/** Why a secret cannot be used. The message follows the name of the setting. */
export class SecretError extends Error {
  override readonly name = "SecretError";
}

/** Reads the secret. Throws `SecretError`. */
export function readSecret(file: string): Uint8Array {
  const bytes = readPrivateFile(file);
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end -= bytes[end - 2] === 0x0d ? 2 : 1;
  if (end < secretBytesMin || end > secretBytesMax) {
    const found = end > secretBytesMax ? `more than ${secretBytesMax}` : `${end}`;
    throw new SecretError(
      `${JSON.stringify(file)} must hold a secret of ${secretBytesMin} to ${secretBytesMax} bytes, not ${found}; make one with: openssl rand -hex 32`,
    );
  }
  return bytes.slice(0, end);
}

function readPrivateFile(file: string): Uint8Array {
  const shown = JSON.stringify(file);
  let descriptor: number | undefined;
  try {
    // Without waiting, so that a pipe that nobody writes to cannot stop the start.
    descriptor = openSync(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new SecretError(`${shown} is no ordinary file`);
    // Windows has no such bits.
    const openTo = process.platform === "win32" ? 0 : status.mode & 0o077;
    if (openTo !== 0) {
      const mode = (status.mode & 0o777).toString(8).padStart(3, "0");
      throw new SecretError(`${shown} can be read by others than its owner (mode ${mode}); run: chmod 600 ${shown}`);
    }
    return readUpTo(descriptor, secretBytesMax + lineBreakBytesMax + 1);
  } catch (error) {
    if (error instanceof SecretError) throw error;
    throw new SecretError(`${shown} cannot be read: ${(error as Error).message}`, { cause: error });
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
