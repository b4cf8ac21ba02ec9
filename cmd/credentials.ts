/** What a node knows others by, read from its files at the start and again on SIGHUP. */
import type { Clock } from "../internal/base/clock.js";
import type { Logger } from "../internal/base/logger.js";
import type { NodeConfig } from "../internal/config/config.js";
import { Identities } from "../internal/identity/identities.js";
import { IdentityFileError } from "../internal/identity/identity-file.js";
import { readIdentityFile } from "./identity-file.js";

/** Why the files cannot be used: a line for each problem. */
export class CredentialError extends Error {
  override readonly name = "CredentialError";
}

export class Credentials {
  /** Absent: the node knows nobody. */
  readonly identities: Identities | undefined;
  readonly #identityFile: string | undefined;

  /** Reads the files. Throws `CredentialError`. */
  constructor({ server }: NodeConfig, clock: Clock) {
    this.#identityFile = server.identityFile;
    this.identities =
      server.identityFile === undefined ? undefined : new Identities(read(server.identityFile), () => clock.wallMs());
  }

  /** Whether there is anything to read again. */
  get hasFiles(): boolean {
    return this.#identityFile !== undefined;
  }

  /** Reads the files again. What is wrong is told, and then all goes on as before. */
  reload(logger: Logger): void {
    try {
      if (this.#identityFile !== undefined) this.identities?.replace(read(this.#identityFile));
      logger.info("credentials are read again", { identities: this.identities?.size ?? 0 });
    } catch (error) {
      if (!(error instanceof CredentialError)) throw error;
      logger.error("credentials could not be read again; those of before go on to count", { error: error.message });
    }
  }
}

function read(file: string): ReturnType<typeof readIdentityFile> {
  try {
    return readIdentityFile(file);
  } catch (error) {
    if (!(error instanceof IdentityFileError)) throw error;
    throw new CredentialError(error.message, { cause: error });
  }
}
