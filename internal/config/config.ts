/**
 * The configuration of a node: a YAML file, environment variables over it, and a default for all that is left. Either
 * everything is right, or a `ConfigError` tells everything that is wrong. Nothing else of the program knows YAML.
 */
import { closeSync, openSync } from "node:fs";
import path from "node:path";
import { ConfigError, type ConfigProblem } from "./config-error.js";
import { fileBytesMax, readDocument } from "./document.js";
import { type Environment, readEnvironment } from "./environment.js";
import { GivenSettings, inOrder } from "./given-settings.js";
import { layoutOf } from "./layout.js";
import { type NodeConfig, type NodeKind, toNodeConfig } from "./node-config.js";
import { schemaOf } from "./schema.js";
import { readUpTo } from "./private-file.js";
import { readSecret, SecretError } from "./secret.js";

export { ConfigError, type ConfigProblem, type FileProblem, type VariableProblem } from "./config-error.js";
export type * from "./node-config.js";
export { cautions } from "./cautions.js";
export { addressOf } from "./own-address.js";
export { printConfig } from "./print.js";
export { PrivateFileError, readPrivateFile } from "./private-file.js";
export { readTlsFiles, TlsFileError, type TlsMaterial, validUntilMs } from "./tls-files.js";
export { configJsonSchema } from "./schema.js";

/** Reads a node's configuration. Throws `ConfigError`. */
export function loadConfig(options: { kind: NodeKind; file: string; environment: Environment }): NodeConfig {
  return parseConfig({ ...options, text: readFile(options.file) });
}

/**
 * The same of a text that was read already; `file` names it in errors. Reads the file of the cluster's secret where one
 * is named. Throws `ConfigError`.
 */
export function parseConfig(options: {
  kind: NodeKind;
  file: string;
  text: string;
  environment: Environment;
}): NodeConfig {
  const { kind, file } = options;
  const layout = layoutOf(kind);
  const document = readDocument({ ...options, layout });
  const environment = readEnvironment({ ...options, layout });
  const problems: ConfigProblem[] = [...document.problems, ...environment.problems];
  if (!document.readable) throw new ConfigError(problems);

  const given = new GivenSettings(file, document, environment.overrides);
  const parsed = schemaOf(kind).safeParse(given.settings(layout));
  for (const { path, message } of parsed.error?.issues ?? []) given.complain(path, message);
  const secret = readSecretOf(given);
  problems.push(...given.problems);
  if (!parsed.success || problems.length > 0) throw new ConfigError(inOrder(problems));
  return toNodeConfig({ kind, file, values: parsed.data, settings: given.effective(layout), secret });
}

function readSecretOf(given: GivenSettings): Uint8Array | undefined {
  const file = given.written("cluster", "secret_file");
  // What is no path at all the schema refuses.
  if (typeof file !== "string" || file === "" || file.includes("\0")) return undefined;
  try {
    return readSecret(path.resolve(file));
  } catch (error) {
    if (!(error instanceof SecretError)) throw error;
    given.complain(["cluster", "secret_file"], error.message);
    return undefined;
  }
}

/** The text of a configuration file. Throws `ConfigError`. */
function readFile(file: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    // One byte more than allowed, so that the parser sees that the file is too large; it may end within a character.
    const bytes = readUpTo(descriptor, fileBytesMax + 1);
    return new TextDecoder("utf-8", { fatal: bytes.length <= fileBytesMax }).decode(bytes);
  } catch (error) {
    throw new ConfigError([{ file, key: "", message: whyUnreadable(error) }]);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function whyUnreadable(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case "ENOENT":
      return "does not exist; name a configuration with --config, for instance one of those in configs/";
    case "EACCES":
      return "may not be read by this user; change its permissions, or the user";
    case "EISDIR":
      return "is a directory; name the file in it";
    case "ERR_ENCODING_INVALID_ENCODED_DATA":
      return "is no text in UTF-8; save it as such";
    default:
      return `cannot be read: ${message}`;
  }
}
