/** What all commands share: the global options, and a client made of them. */
import { readFileSync } from "node:fs";
import { type Command, Option } from "commander";
import { type CambiumClient, CambiumError, createClient } from "../../api/client/node.js";
import { PrivateFileError, readPrivateFile } from "../../internal/config/config.js";
import { CliError } from "./cli-error.js";
import type { Terminal } from "./terminal.js";
import { parseDurationMs } from "./units.js";

export const DEFAULT_ENDPOINTS = "127.0.0.1:8080";

export interface GlobalOptions {
  readonly endpoints: readonly string[];
  readonly timeout: number;
  /** Of the environment. */
  readonly token?: string;
  readonly tokenFile?: string;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** Adds the options that every command takes, before its name or after it. */
export function addGlobalOptions(program: Command, { environment }: Terminal): void {
  // Not commander's own `.env()`: that reads process.env, and an environment is the terminal's here.
  const endpoints = environment["CAMBIUM_ENDPOINTS"] || DEFAULT_ENDPOINTS;
  program
    .addOption(
      new Option(
        "-e, --endpoints <list>",
        "nodes of the cluster, by commas; reads prefer the first (env: CAMBIUM_ENDPOINTS)",
      )
        .default(splitList(endpoints), endpoints)
        .argParser(splitList),
    )
    .addOption(
      new Option("--timeout <duration>", "how long one call may take, with all its tries")
        .default(10_000, "10s")
        .argParser(parseDurationMs),
    )
    .addOption(
      fromEnvironment(
        "--token-file <file>",
        "a file with the token to show (env: CAMBIUM_TOKEN_FILE, or the token itself in CAMBIUM_TOKEN)",
        environment["CAMBIUM_TOKEN_FILE"],
      ),
    )
    .addOption(
      fromEnvironment(
        "--ca-file <file>",
        "who signs the nodes' certificates, as PEM, with https:// endpoints (env: CAMBIUM_CA_FILE)",
        environment["CAMBIUM_CA_FILE"],
      ),
    )
    .addOption(
      fromEnvironment(
        "--cert-file <file>",
        "this client's certificate, as PEM (env: CAMBIUM_CERT_FILE)",
        environment["CAMBIUM_CERT_FILE"],
      ),
    )
    .addOption(
      fromEnvironment("--key-file <file>", "its key, as PEM (env: CAMBIUM_KEY_FILE)", environment["CAMBIUM_KEY_FILE"]),
    );
  // No option: what stands on a command line is seen by everybody on the machine.
  program.setOptionValueWithSource("token", environment["CAMBIUM_TOKEN"], "env");
}

function fromEnvironment(flags: string, description: string, value: string | undefined): Option {
  const option = new Option(flags, description);
  return value ? option.default(value) : option;
}

function splitList(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Runs with a client, and closes it. */
export async function withClient<T>(options: GlobalOptions, use: (client: CambiumClient) => Promise<T>): Promise<T> {
  if (options.endpoints.length === 0) throw new CliError("usage", "--endpoints names no node");
  const client = openClient(options);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function openClient(options: GlobalOptions): CambiumClient {
  const { endpoints, timeout } = options;
  const [ca, cert, key] = [options.caFile, options.certFile, options.keyFile].map((file) => file && readText(file));
  if ((cert === undefined) !== (key === undefined))
    throw new CliError("usage", "give --cert-file and --key-file together");
  try {
    // Each command says itself how fresh its reads must be.
    return createClient({ endpoints, timeoutMs: timeout, session: false, token: tokenOf(options), ca, cert, key });
  } catch (error) {
    if (error instanceof CambiumError) throw new CliError("usage", error.message, { cause: error });
    throw error;
  }
}

const TOKEN_FILE_BYTES_MAX = 1024;

function tokenOf({ token, tokenFile }: GlobalOptions): string | undefined {
  if (!tokenFile) return token?.trim() || undefined;
  try {
    return Buffer.from(readPrivateFile(tokenFile, TOKEN_FILE_BYTES_MAX)).toString("utf8").trim();
  } catch (error) {
    if (!(error instanceof PrivateFileError)) throw error;
    throw new CliError("usage", error.message, { cause: error });
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CliError("usage", `${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
