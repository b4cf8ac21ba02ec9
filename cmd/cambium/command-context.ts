/** What all commands share: the global options, and a client made of them. */
import { type Command, Option } from "commander";
import { type CambiumClient, CambiumError, createClient } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import type { Terminal } from "./terminal.js";
import { parseDurationMs } from "./units.js";

export const DEFAULT_ENDPOINTS = "127.0.0.1:8080";

export interface GlobalOptions {
  readonly endpoints: readonly string[];
  readonly timeout: number;
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
    );
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

function openClient({ endpoints, timeout }: GlobalOptions): CambiumClient {
  try {
    // Each command says itself how fresh its reads must be.
    return createClient({ endpoints, timeoutMs: timeout, session: false });
  } catch (error) {
    if (error instanceof CambiumError) throw new CliError("usage", error.message, { cause: error });
    throw error;
  }
}
