/** The file of those whom a node knows, as it is read from the disk. */
import { PrivateFileError, readPrivateFile } from "../internal/config/config.js";
import { type IdentityEntry, IdentityFileError, parseIdentities } from "../internal/identity/identity-file.js";

const BYTES_MAX = 4 * 1024 * 1024;

/** Reads the file. Throws `IdentityFileError`, whose message has a line for each problem. */
export function readIdentityFile(file: string): IdentityEntry[] {
  let bytes: Uint8Array;
  try {
    bytes = readPrivateFile(file, BYTES_MAX + 1);
  } catch (error) {
    if (!(error instanceof PrivateFileError)) throw error;
    throw new IdentityFileError(error.message, { cause: error });
  }
  if (bytes.length > BYTES_MAX) throw new IdentityFileError(`${file}: is larger than ${BYTES_MAX} bytes`);
  return parseIdentities(textOf(bytes, file), file);
}

function textOf(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new IdentityFileError(`${file}: is no text in UTF-8`, { cause: error });
  }
}
