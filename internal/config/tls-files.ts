/** Certificates and keys, read and held against each other before anything relies on them. No error shows anything of a key. */
import { createPrivateKey, X509Certificate, type KeyObject } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { readUpTo } from "./private-file.js";

/** Absolute paths. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile?: string;
}

/** Their content, as PEM. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

/** Why the files cannot be used. The message names the file. */
export class TlsFileError extends Error {
  override readonly name = "TlsFileError";
}

const BYTES_MAX = 1 << 20;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Throws `TlsFileError`. */
export function readTlsFiles({ certFile, keyFile, caFile }: TlsFiles): TlsMaterial {
  const [cert, key] = [readPem(certFile), readPem(keyFile)];
  const ca = caFile === undefined ? undefined : readPem(caFile);
  const [own] = certificatesOf(cert, certFile);
  if (ca !== undefined && caFile !== undefined) certificatesOf(ca, caFile);
  const privateKey = keyOf(key, keyFile);
  if (!own?.checkPrivateKey(privateKey)) {
    throw new TlsFileError(
      `${JSON.stringify(keyFile)} is the key of another certificate than the first one in ${JSON.stringify(certFile)}`,
    );
  }
  return { cert, key, ...(ca !== undefined && { ca }) };
}

/** When the first certificate ends to be valid, ms since 1970. */
export function validUntilMs({ cert }: TlsMaterial): number {
  return Date.parse(new X509Certificate(cert).validTo);
}

function readPem(file: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    return Buffer.from(readUpTo(descriptor, BYTES_MAX)).toString("latin1");
  } catch (error) {
    throw new TlsFileError(`${JSON.stringify(file)} cannot be read: ${(error as Error).message}`, { cause: error });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function certificatesOf(pem: string, file: string): X509Certificate[] {
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0) {
    const what = pem.includes("PRIVATE KEY-----") ? "holds a key, and no certificate" : "holds no certificate in PEM";
    throw new TlsFileError(`${JSON.stringify(file)} ${what} (-----BEGIN CERTIFICATE-----)`);
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new TlsFileError(`${JSON.stringify(file)}: its certificate ${index + 1} is damaged`, { cause: error });
    }
  });
}

function keyOf(pem: string, file: string): KeyObject {
  if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/.test(pem)) {
    throw new TlsFileError(
      `${JSON.stringify(file)} is encrypted; take the passphrase off, and let only the owner read it`,
    );
  }
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new TlsFileError(`${JSON.stringify(file)} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)`, {
      cause: error,
    });
  }
}
