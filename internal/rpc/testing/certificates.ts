/** The certificates of `testing/tls`, as PEM. */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { TlsMaterial } from "../tls.js";

export type CertificateName = "node" | "node-renewed" | "client" | "stranger" | "elsewhere";

export const tlsFolder = path.join(import.meta.dirname, "tls");

const read = (file: string): string => readFileSync(path.join(tlsFolder, `test-only-${file}`), "utf8");

/** Signed by `ca`, the stranger's by another one; all trust `ca`. */
export function certificate(name: CertificateName): Required<TlsMaterial> & { readonly ca: string } {
  return { cert: read(`${name}.crt`), key: read(`${name}.key`), ca: read("ca.crt") };
}
