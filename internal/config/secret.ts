/** The cluster's secret, read from the file that the configuration names. No error shows anything of its content. */
import { PrivateFileError, readPrivateFile } from "./private-file.js";

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
  const bytes = readBytes(file);
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

function readBytes(file: string): Uint8Array {
  try {
    return readPrivateFile(file, secretBytesMax + lineBreakBytesMax + 1);
  } catch (error) {
    if (!(error instanceof PrivateFileError)) throw error;
    throw new SecretError(error.message, { cause: error });
  }
}
