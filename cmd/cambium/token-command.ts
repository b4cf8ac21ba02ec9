/** `token`: who may call a node, as its identity file has it. */
import { randomBytes } from "node:crypto";
import { closeSync, constants, fchmodSync, fstatSync, fsyncSync, openSync, writeSync } from "node:fs";
import { type Command, Option } from "commander";
import { bearerToken, bearerTokenHash } from "../../internal/identity/bearer-token.js";
import {
  formatIdentity,
  type IdentityEntry,
  IdentityFileError,
  parseIdentities,
} from "../../internal/identity/identity-file.js";
import { allRoles, type Role } from "../../internal/identity/role.js";
import { readIdentityFile } from "../identity-file.js";
import { CliError } from "./cli-error.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { parseDurationMs } from "./units.js";

interface CreateFlags {
  readonly role: Role;
  readonly name?: string;
  readonly prefix: readonly string[];
  readonly expires?: number;
  readonly file?: string;
  readonly json?: true;
}

export function addTokenCommand(program: Command, terminal: Terminal): void {
  const token = program.command("token").summary("make tokens for those who may call");
  token
    .command("create")
    .summary("make a token, and the line by which nodes know it")
    .description(
      "Makes a token of 32 random bytes, on this machine; no node is called. The token is printed this one time, on standard " +
        "output, and belongs to whoever is to call. The line with its hash belongs into server.identity_file of every node: " +
        "--file adds it there, else it is printed on standard error. Nodes read the file again on SIGHUP.",
    )
    .addOption(new Option("--role <role>", "what it may do").choices(allRoles).makeOptionMandatory())
    .option("--name <name>", "whose token it is, for the logs of nodes (default: the role)")
    .option(
      "--prefix <prefix>",
      "may be given again; keys that begin so, and no others, with reader or writer",
      collect,
      [],
    )
    .option("--expires <duration>", "how long it counts, such as 90d (default: until its line goes)", parseDurationMs)
    .option(
      "--file <file>",
      "the identity file to add the line to; it is made, for its owner alone, where there is none",
    )
    .option("--json", "print token and line as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ cambium token create --role writer --name web --prefix web/ --file /etc/cambium/identities\n" +
        "  $ cambium token create --role reader --expires 90d > reader.token",
    )
    .action(async (_options, command: Command) => create(command.opts<CreateFlags>(), terminal));
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

async function create(flags: CreateFlags, { stdout, stderr }: Terminal): Promise<void> {
  const token = bearerToken(randomBytes(32));
  const entry: IdentityEntry = {
    name: flags.name ?? flags.role,
    roles: [flags.role],
    credential: { kind: "token", sha256: bearerTokenHash(token) },
    ...(flags.prefix.length > 0 && { prefixes: flags.prefix }),
    ...(flags.expires !== undefined && { expiresAtMs: Date.now() + flags.expires }),
  };
  const line = formatIdentity(entry);
  try {
    // As a node will read it.
    parseIdentities(line, "the line");
  } catch (error) {
    if (!(error instanceof IdentityFileError)) throw error;
    throw new CliError("usage", error.message.replace(/^the line:1: /, "the line of this token "), { cause: error });
  }
  if (flags.file !== undefined) append(flags.file, line);
  if (flags.json) await writeJson(stdout, { token, line });
  else {
    await write(stdout, `${token}\n`);
    const how =
      flags.file === undefined
        ? `add this line to server.identity_file of every node, and send them SIGHUP:\n${line}\n`
        : `${flags.file} has its line; send the node SIGHUP, and take the file to the others\n`;
    await write(stderr, how);
  }
}

/** Adds a line to a file that is right so far, or makes the file. Whoever can read it may not become more. */
function append(file: string, line: string): void {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600);
    const { size } = fstatSync(descriptor);
    if (size === 0) fchmodSync(descriptor, 0o600);
    readIdentityFile(file);
    // On a line of its own, whatever the last one ends with.
    writeSync(descriptor, `${size === 0 ? "" : "\n"}${line}\n`);
    fsyncSync(descriptor);
  } catch (error) {
    if (error instanceof IdentityFileError) throw new CliError("failed", error.message, { cause: error });
    throw new CliError("failed", `${file} cannot be written: ${(error as Error).message}`, { cause: error });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
