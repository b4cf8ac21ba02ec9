/** What a node knows others by, and proves itself with: read from its files at the start, and again on SIGHUP. */
import type { Clock } from "../internal/base/clock.js";
import { AUDIT, type Logger } from "../internal/base/logger.js";
import {
  type NodeConfig,
  readTlsFiles,
  TlsFileError,
  type TlsMaterial,
  validUntilMs,
} from "../internal/config/config.js";
import { Identities } from "../internal/identity/identities.js";
import { type IdentityEntry, IdentityFileError } from "../internal/identity/identity-file.js";
import { readIdentityFile } from "./identity-file.js";

/** Why the files cannot be used: a line for each problem. */
export class CredentialError extends Error {
  override readonly name = "CredentialError";
}

interface Files {
  readonly identities: readonly IdentityEntry[] | undefined;
  readonly tls: TlsMaterial | undefined;
  readonly peers: Required<TlsMaterial> | undefined;
}

/** What takes over the certificates that were read again. */
export interface Renewable {
  renewTls(materials: { readonly port: TlsMaterial | undefined; readonly peers: TlsMaterial | undefined }): void;
}

/** A certificate that ends sooner is told of. */
const SOON_MS = 14 * 86_400_000;

export class Credentials {
  /** Absent: the node knows nobody. */
  readonly identities: Identities | undefined;
  readonly #config: NodeConfig;
  readonly #clock: Clock;
  #files: Files;

  /** Reads the files. Throws `CredentialError`. */
  constructor(config: NodeConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
    this.#files = read(config);
    this.identities = this.#files.identities && new Identities(this.#files.identities, () => clock.wallMs());
  }

  /** Of `tls`. */
  get tls(): TlsMaterial | undefined {
    return this.#files.tls;
  }

  /** Of `replication.listen`. */
  get peers(): Required<TlsMaterial> | undefined {
    return this.#files.peers;
  }

  /** Whether there is anything to read again. */
  get hasFiles(): boolean {
    return Object.values(this.#files).some((file) => file !== undefined);
  }

  /** What an operator should know of certificates: a sentence each. */
  cautions(): string[] {
    const named = [
      ["tls.cert_file", this.#files.tls],
      ["replication.cert_file", this.#files.peers],
    ] as const;
    return named.flatMap(([key, material]) => {
      if (!material) return [];
      const untilMs = validUntilMs(material);
      const leftMs = untilMs - this.#clock.wallMs();
      if (leftMs > SOON_MS) return [];
      const when = new Date(untilMs).toISOString();
      return [`the certificate of ${key} ${leftMs > 0 ? "ends" : "ended"} at ${when}; renew it, and send SIGHUP`];
    });
  }

  /** Reads the files again. What is wrong is told, and then all goes on as before. */
  reload(logger: Logger, server: Renewable | undefined): void {
    try {
      const files = read(this.#config);
      server?.renewTls({ port: files.tls, peers: files.peers });
      this.#files = files;
      if (files.identities) this.identities?.replace(files.identities);
      logger.info("credentials are read again", { ...AUDIT, identities: this.identities?.size ?? 0 });
      for (const sentence of this.cautions()) logger.warn(sentence);
    } catch (error) {
      // What OpenSSL finds wrong is an error of its own.
      const message = error instanceof Error ? error.message : String(error);
      logger.error("credentials could not be read again; those of before go on to count", { ...AUDIT, error: message });
    }
  }
}

function read({ server, tls, replication: { peers } }: NodeConfig): Files {
  const problems: string[] = [];
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof IdentityFileError) && !(error instanceof TlsFileError)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  const files: Files = {
    identities:
      server.identityFile === undefined ? undefined : attempt(() => readIdentityFile(server.identityFile ?? "")),
    tls: tls && attempt(() => readTlsFiles(tls)),
    peers: peers && (attempt(() => readTlsFiles(peers)) as Required<TlsMaterial> | undefined),
  };
  if (problems.length > 0) throw new CredentialError(problems.join("\n"));
  return files;
}
