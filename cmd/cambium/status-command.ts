/** `status`: the nodes as a table, or as JSON. */
import type { Command } from "commander";
import type { ClusterStatus } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Column, plainTable } from "./plain-table.js";
import { type Findings, findingsOf, isHeardOf, isVoters } from "./status-findings.js";
import { gatherStatus, type NodeRow, SILENCE_MS } from "./status-report.js";
import { type Colors, colorsFor, type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, formatCount, formatDuration } from "./units.js";

export function addStatusCommand(program: Command, terminal: Terminal): void {
  program
    .command("status")
    .summary("describe the nodes of the cluster")
    .description(
      "Describes every endpoint, and every member that those know, so that one node is enough to see them all. What is wrong " +
        "is told below the table, and is exit code 1: no master, a node that does not answer or is not ready, nodes of " +
        "different clusters. A node that says nothing for 3 seconds (or --timeout) does not answer. Exit code 3 when none does.",
    )
    .option("--json", "print everything that the nodes say, as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium status --endpoints 127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082")
    .action((_options, command: Command) => {
      const isChosen = command.getOptionValueSourceWithGlobals("timeout") !== "default";
      return status(command.optsWithGlobals(), terminal, isChosen ? undefined : SILENCE_MS);
    });
}

async function status(
  options: GlobalOptions & { readonly json?: true },
  terminal: Terminal,
  timeoutMs: number | undefined,
): Promise<void> {
  const { stdout, signal } = terminal;
  const rows = await withClient(options, (client) => gatherStatus(client, options.endpoints, signal, timeoutMs));
  const findings = findingsOf(rows);
  if (options.json) await writeJson(stdout, toJson(rows, findings));
  else await write(stdout, renderStatus(rows, findings, colorsFor(stdout, terminal)));
  // The report has said why already.
  if (!rows.some((row) => row.status)) throw new CliError("failed", "", { cause: rows[0]?.error });
  if (findings.problems.length > 0) throw new CliError("failed", "");
}

function toJson(rows: readonly NodeRow[], findings: Findings): unknown {
  return {
    nodes: rows.map(({ endpoint, status: answer, error, member }) => ({
      endpoint,
      answered: answer !== undefined,
      ...(answer && { clusterId: answer.clusterId, node: answer.node, members: answer.members }),
      ...(error && { error: { code: error.code, message: error.message } }),
      ...(member && { member }),
    })),
    ...findings,
  };
}

const COLUMNS: readonly Column[] = [
  ...["NODE", "ROLE", "VOTE", "STATE"].map((head): Column => ({ head })),
  ...["EPOCH", "APPLIED", "COMMITTED", "LAG", "KEYS", "DATA", "LOG", "FREE", "UP"].map((head): Column => ({
    head,
    align: "right",
  })),
];

/** A line for the cluster, the table, and a line for each thing that is wrong or worth knowing. */
export function renderStatus(rows: readonly NodeRow[], { problems, notes }: Findings, colors: Colors): string {
  const lines = headOf(rows);
  lines.push(
    ...plainTable(
      COLUMNS,
      rows.map((row) => cellsOf(row, colors)),
    ),
  );
  if (problems.length + notes.length > 0) lines.push("");
  lines.push(...problems.map((problem) => colors.yellow(problem)), ...notes);
  return `${lines.join("\n")}\n`;
}

/** What all of them have in common. */
function headOf(rows: readonly NodeRow[]): string[] {
  const answers = rows.flatMap(({ status: answer }) => answer ?? []);
  const clusters = new Set(answers.flatMap(({ clusterId }) => clusterId ?? []));
  if (clusters.size !== 1) return [];
  const facts = [`cluster ${[...clusters][0]}`];
  const commits = new Set(answers.flatMap(({ node }) => node.commit ?? []));
  if (commits.size === 1) facts.push(`commit ${[...commits][0]}`);
  const voters = rows.filter(isVoters).length;
  if (voters > 0) facts.push(counted(voters, "voter"));
  const versions = new Set(answers.map(({ node }) => node.version));
  if (versions.size === 1) facts.push(`version ${[...versions][0]}`);
  return [facts.join(", "), ""];
}

function cellsOf({ endpoint, status: answer, member, replaces }: NodeRow, colors: Colors): string[] {
  const vote = member ? (member.voter ? "yes" : "no") : replaces ? "no" : "?";
  if (!answer) {
    const known = member && isHeardOf(member) ? member : undefined;
    const lag = known && known.lagRecords > 0 ? formatCount(known.lagRecords) : "-";
    const applied = known ? formatCount(known.appliedSeq) : "-";
    return [endpoint, "-", vote, colors.red("no answer"), "-", applied, "-", lag, "-", "-", "-", "-", "-"];
  }
  const { node } = answer;
  return [
    node.address || endpoint,
    node.role === "master" ? colors.bold(node.role) : node.role,
    vote,
    stateOf({ endpoint, status: answer, ...(member && { member }) }, colors),
    String(node.applied.epoch),
    formatCount(node.applied.seq),
    formatCount(node.commitSeq),
    lagOf(answer, member),
    formatCount(node.keys),
    formatBytes(node.dataBytes),
    formatBytes(node.walBytes),
    node.diskFreeBytes === undefined ? "?" : formatBytes(node.diskFreeBytes),
    formatDuration(node.uptimeMs),
  ];
}

/** What the master sees of a replica says more than that it answers. */
function stateOf({ status: answer, member }: NodeRow, colors: Colors): string {
  if (answer?.node.isCandidate) return colors.yellow("candidate");
  if (!answer?.node.ready) return colors.yellow("not ready");
  if (!member || member.state === "self" || member.state === "unknown" || answer.node.role === "master") {
    return colors.green("ready");
  }
  return member.state === "streaming" ? colors.green(member.state) : colors.yellow(member.state);
}

/** As the master sees it, or as the node itself heard last: records, and for how long or how old. */
function lagOf({ node }: ClusterStatus, member: NodeRow["member"]): string {
  if (node.role === "master") return "-";
  const [records, ms] =
    !member || member.state === "self" || member.state === "unknown"
      ? [node.lagRecords, node.stalenessMs]
      : [member.lagRecords, member.lagMs];
  if (records === undefined) return "?";
  if (records === 0) return "0";
  return ms === undefined ? formatCount(records) : `${formatCount(records)} (${formatDuration(ms)})`;
}
