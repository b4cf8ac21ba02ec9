/** `promote` and `transfer`: who is master. */
import type { Command } from "commander";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { confirm } from "./confirm.js";
import { forcedPromotionWarning } from "./forced-promotion.js";
import { parseNodeAddress, parseNodeName } from "./node-name.js";
import { gatherStatus, SILENCE_MS } from "./status-report.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatDuration } from "./units.js";

/** A promotion asks every member and waits for the slow ones, which takes longer than a call is given otherwise. */
const TIMEOUT_MS = 30_000;

interface PromoteFlags extends GlobalOptions {
  readonly force?: true;
  readonly yes?: true;
  readonly json?: true;
}

export function addMastershipCommands(program: Command, terminal: Terminal): void {
  program
    .command("promote")
    .summary("make a node the master")
    .description(
      "Makes a node the master, when the one before is gone. A majority of the voters must agree, and none of those may have " +
        "more of the log than the node. Nothing that was committed by a majority is lost. For a master that still runs there " +
        "is `cambium transfer`, which loses nothing in any case.\n\n" +
        "--force goes without the majority. What only nodes that cannot be reached have is lost then, and an old master that is " +
        "merely out of reach goes on acknowledging writes, which will be lost too: stop it first.",
    )
    .argument("[node]", "host:port of the node; without it: the one of --endpoints", parseNodeAddress)
    .option("--force", "become master without a majority, and lose what only unreachable nodes have")
    .option("-y, --yes", "with --force: do not ask")
    .option("--json", "print the new epoch, and with --force what was not reached, as JSON")
    .addHelpText("after", "\nExamples:\n  $ cambium promote 10.0.0.7:8080\n  $ cambium promote 10.0.0.7:8080 --force")
    .action((node: string | undefined, _options, command: Command) =>
      promote(node, command.optsWithGlobals(), terminal),
    );
  program
    .command("transfer")
    .summary("hand the mastership over to another node")
    .description(
      "Lets the master hand over to another node, in well under a second and without losing anything: it takes no writes until " +
        "the other has everything and has taken over.",
    )
    .argument(
      "[node]",
      "host:port or node id of the next master; without it: the node that has the most of the log",
      parseNodeName,
    )
    .option("--json", "print the new master as JSON")
    .addHelpText("after", "\nExamples:\n  $ cambium transfer\n  $ cambium transfer 10.0.0.8:8080")
    .action((node: ReturnType<typeof parseNodeName> | undefined, _options, command: Command) =>
      transfer(node, command.optsWithGlobals(), terminal),
    );
}

async function promote(node: string | undefined, options: PromoteFlags, terminal: Terminal): Promise<void> {
  const { stdout, stderr, signal } = terminal;
  const endpoint = node ?? onlyEndpoint(options);
  const force = options.force === true;
  if (options.yes && !force) throw new CliError("usage", "--yes goes with --force");
  await withClient({ ...options, endpoints: [endpoint] }, async (client) => {
    if (force) {
      // It knows the members. The endpoints may be those of anybody else: there is a default.
      const rows = await gatherStatus(client, [endpoint], signal, SILENCE_MS);
      await write(stderr, forcedPromotionWarning(rows, endpoint));
      if (!options.yes) await confirm(`Promote ${endpoint} by force?`, "--yes", terminal);
    }
    const timeoutMs = Math.max(options.timeout, TIMEOUT_MS);
    const { position, unreached, knownLostRecords } = await client.promote({ endpoint, force, signal, timeoutMs });
    if (options.json) {
      await writeJson(stdout, { node: endpoint, position, ...(force && { unreached, knownLostRecords }) });
      return;
    }
    await write(stdout, `${endpoint} is master of epoch ${position.epoch}, from seq ${position.seq} on\n`);
    if (!force) return;
    const lost = knownLostRecords === 0 ? "no lost record is known" : `${counted(knownLostRecords, "record")} lost`;
    const silent = unreached.length === 0 ? "every member was reached" : `not reached: ${unreached.join(", ")}`;
    await write(stdout, `${silent}; ${lost}${unreached.length === 0 ? "" : ", and there may be more"}\n`);
  });
}

async function transfer(
  node: ReturnType<typeof parseNodeName> | undefined,
  options: GlobalOptions & { readonly json?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  const timeoutMs = Math.max(options.timeout, TIMEOUT_MS);
  const result = await withClient(options, (client) => client.transfer({ ...node, signal, timeoutMs }));
  if (options.json) {
    await writeJson(stdout, result);
    return;
  }
  const { address, epoch, pauseMs } = result;
  await write(stdout, `${address} is master of epoch ${epoch}; no writes were taken for ${formatDuration(pauseMs)}\n`);
}

/** Promoting is about one node, and a guess among several would be a bad one. */
function onlyEndpoint({ endpoints }: GlobalOptions): string {
  const [first, ...others] = endpoints;
  if (first === undefined) throw new CliError("usage", "--endpoints names no node");
  if (others.length > 0) {
    throw new CliError("usage", `say which node to promote: cambium promote ${endpoints.join(" or ")}`);
  }
  return first;
}
