/** `status`: the nodes as a table, or as JSON. */
import type { Command } from "commander";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Column, plainTable } from "./plain-table.js";
import { gatherStatus, type NodeRow } from "./status-report.js";
import { type Colors, colorsFor, type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatCount, formatDuration } from "./units.js";

export function addStatusCommand(program: Command, terminal: Terminal): void {
  program
    .command("status")
    .summary("describe the nodes of the cluster")
    .description(
      "Describes every endpoint, and every member that those know. Exit code 3 when no node answers; a node that does " +
        "not answer while others do is a row of the table.",
    )
    .option("--json", "print everything that the nodes say, as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium status --endpoints 127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082")
    .action((_options, command: Command) => status(command.optsWithGlobals(), terminal));
}

async function status(options: GlobalOptions & { readonly json?: true }, terminal: Terminal): Promise<void> {
  const { stdout, signal } = terminal;
  const rows = await withClient(options, (client) => gatherStatus(client, options.endpoints, signal));
  if (options.json) await writeJson(stdout, toJson(rows));
  else await write(stdout, renderStatus(rows, colorsFor(stdout, terminal)));
  // The report has said why already.
  if (!rows.some((row) => row.status)) throw new CliError("failed", "", { cause: rows[0]?.error });
}

function toJson(rows: readonly NodeRow[]): unknown {
  return {
    nodes: rows.map(({ endpoint, status: answer, error, member }) => ({
      endpoint,
      answered: answer !== undefined,
      ...(answer && { clusterId: answer.clusterId, node: answer.node, members: answer.members }),
      ...(error && { error: { code: error.code, message: error.message } }),
      ...(member && { member }),
    })),
  };
}

const COLUMNS: readonly Column[] = [
  ...["NODE", "ROLE", "STATE"].map((head): Column => ({ head })),
  ...["EPOCH", "APPLIED", "COMMITTED", "LAG", "KEYS", "DATA", "LOG", "UP"].map((head): Column => ({
    head,
    align: "right",
  })),
  { head: "VERSION" },
];

/** A line for the cluster, the table, and a line for each thing that is wrong. */
export function renderStatus(rows: readonly NodeRow[], colors: Colors): string {
  const clusters = new Set(rows.flatMap(({ status: answer }) => answer?.clusterId ?? []));
  const lines: string[] = [];
  if (clusters.size === 1) lines.push(`cluster ${[...clusters][0]}`, "");
  const cells = rows.map((row) => cellsOf(row, colors));
  lines.push(...plainTable(COLUMNS, cells));
  const troubles = rows.flatMap(troublesOf);
  if (clusters.size > 1) troubles.unshift(`these nodes belong to different clusters: ${[...clusters].join(", ")}`);
  if (troubles.length > 0) lines.push("", ...troubles.map((trouble) => colors.yellow(trouble)));
  return `${lines.join("\n")}\n`;
}

function cellsOf({ endpoint, status: answer, member }: NodeRow, colors: Colors): string[] {
  if (!answer) {
    const lag = member && member.lagRecords > 0 ? formatCount(member.lagRecords) : "-";
    const applied = member ? formatCount(member.appliedSeq) : "-";
    return [endpoint, "-", colors.red("no answer"), "-", applied, "-", lag, "-", "-", "-", "-", "-"];
  }
  const { node } = answer;
  return [
    node.address || endpoint,
    node.role === "master" ? colors.bold(node.role) : node.role,
    stateOf({ endpoint, status: answer, ...(member && { member }) }, colors),
    String(node.applied.epoch),
    formatCount(node.applied.seq),
    formatCount(node.commitSeq),
    lagOf(node.role, member),
    formatCount(node.keys),
    formatBytes(node.dataBytes),
    formatBytes(node.walBytes),
    formatDuration(node.uptimeMs),
    node.version,
  ];
}

/** What the master sees of a replica says more than that it answers. */
function stateOf({ status: answer, member }: NodeRow, colors: Colors): string {
  if (!answer?.node.ready) return colors.yellow("not ready");
  if (!member || member.state === "self" || member.state === "unknown" || answer.node.role === "master") {
    return colors.green("ready");
  }
  return member.state === "streaming" ? colors.green(member.state) : colors.yellow(member.state);
}

function lagOf(role: string, member: NodeRow["member"]): string {
  if (role === "master") return "-";
  if (!member || member.state === "self" || member.state === "unknown") return "?";
  if (member.lagRecords === 0) return "0";
  return `${formatCount(member.lagRecords)} (${formatDuration(member.lagMs)})`;
}

function troublesOf({ endpoint, status: answer, error, member }: NodeRow): string[] {
  const name = answer?.node.address || endpoint;
  const troubles: string[] = [];
  if (error) troubles.push(error.message.includes(endpoint) ? error.message : `${name}: ${error.message}`);
  if (answer && !answer.node.ready)
    troubles.push(`${name} is not ready: ${answer.node.notReadyReason ?? "no reason given"}`);
  if (member?.detail) troubles.push(`the master says of ${name}: ${member.detail}`);
  if (member && member.lagRecords > 0 && !answer)
    troubles.push(`${name} lacks ${counted(member.lagRecords, "record")}`);
  return troubles;
}
