/** What is wrong with a cluster, and what an operator should know of it, in sentences. */
import type { MemberStatus } from "../../api/client/node.js";
import type { NodeRow } from "./status-report.js";
import { counted, formatDuration } from "./units.js";

export interface Findings {
  /** What needs somebody to act, or to wait: not empty is exit code 1. */
  readonly problems: readonly string[];
  readonly notes: readonly string[];
}

export function findingsOf(rows: readonly NodeRow[]): Findings {
  return {
    problems: [
      ...ofClusters(rows),
      ...ofCopies(rows),
      ...ofMasters(rows),
      ...ofMajority(rows),
      ...rows.flatMap(ofNode),
    ],
    notes: [...rows.flatMap(notesOf), ...ofVersions(rows)],
  };
}

/** The node's own name where it answers, else where it was asked. */
export function nameOf({ endpoint, status }: NodeRow): string {
  return status?.node.address || endpoint;
}

function ofClusters(rows: readonly NodeRow[]): string[] {
  const clusters = [...new Set(rows.flatMap(({ status }) => status?.clusterId ?? []))];
  if (clusters.length < 2) return [];
  const each = clusters.map((id) => {
    const names = rows.filter(({ status }) => status?.clusterId === id).map(nameOf);
    return `${names.join(", ")} to ${id}`;
  });
  return [`these nodes belong to different clusters: ${each.join("; ")}`];
}

/** Two processes with one node id would count as one voter, and promise for each other. */
function ofCopies(rows: readonly NodeRow[]): string[] {
  const ids = new Set(rows.flatMap(({ status }) => status?.node.nodeId ?? []));
  return [...ids].flatMap((nodeId) => {
    const names = rows.filter(({ status }) => status?.node.nodeId === nodeId).map(nameOf);
    if (names.length < 2) return [];
    const copies = `${names.join(" and ")} answer with one node id (${nodeId}), so that a data directory was copied`;
    return [`${copies}; stop all but the one that belongs there, and let the others start with empty directories`];
  });
}

function ofMasters(rows: readonly NodeRow[]): string[] {
  const problems: string[] = [];
  const clusters = new Set(rows.flatMap(({ status }) => status?.clusterId ?? []));
  for (const cluster of clusters) {
    const nodes = rows.filter(({ status }) => status?.clusterId === cluster);
    const masters = nodes.filter(({ status }) => status?.node.role === "master");
    if (masters.length === 0) problems.push(`no node that answers is the master${wayToOne(nodes)}`);
    if (masters.length < 2) continue;
    const each = masters.map((row) => `${nameOf(row)} (epoch ${row.status?.node.last.epoch})`);
    problems.push(
      `${each.join(" and ")} both are master; the one of the lower epoch steps down as soon as it hears of the other, and ` +
        "what it took since then is not in the cluster: stop it if it does not",
    );
  }
  return problems;
}

/** The node to promote is the one that has the most: nothing that it lacks was kept by more. */
function wayToOne(nodes: readonly NodeRow[]): string {
  const candidate = nodes.find(({ status }) => status?.node.isCandidate);
  if (candidate) return `; ${nameOf(candidate)} is about to become it`;
  const best = nodes
    .flatMap((row) => (row.status ? [{ row, last: row.status.node.last }] : []))
    .sort((a, b) => b.last.epoch - a.last.epoch || b.last.seq - a.last.seq)[0];
  return best ? `; start it again, or promote the node that has the most: cambium promote ${nameOf(best.row)}` : "";
}

function ofMajority(rows: readonly NodeRow[]): string[] {
  const voters = rows.filter(isVoters);
  const silent = voters.filter(({ status, replaces }) => !status || replaces);
  if (voters.length < 2 || silent.length * 2 < voters.length) return [];
  return [`${silent.length} of ${voters.length} voters do not answer, so that there is no majority`];
}

/** Whether a voter has its place there, be it the node that answers or the one that was there before. */
export function isVoters({ member, replaces }: NodeRow): boolean {
  return (member ?? replaces)?.voter === true;
}

function ofNode(row: NodeRow): string[] {
  const { endpoint, status, error, member, replaces } = row;
  const name = nameOf(row);
  const problems: string[] = [];
  if (error) problems.push(error.message.includes(endpoint) ? error.message : `${name}: ${error.message}`);
  if (status && !status.node.ready) {
    problems.push(`${name} is not ready: ${status.node.notReadyReason ?? "no reason given"}`);
  }
  if (status && member && isCutOff(member)) {
    problems.push(`${name} answers, but the master does not push to it (${member.state})`);
  }
  if (replaces) {
    problems.push(
      `${name} answers as another node than the ${replaces.voter ? "voter" : "member"} ${replaces.nodeId} that was there; if that ` +
        `one's disk was lost, let the new one take its place: cambium members add ${name}`,
    );
  }
  if (status && status.node.clockAheadMs > 0) {
    problems.push(
      `${name}: its clock was ${formatDuration(status.node.clockAheadMs)} ahead of the data when it started, and is not believed: ` +
        "keys with a deadline are kept longer; see its log",
    );
  }
  if (member?.detail) problems.push(`the master says of ${name}: ${member.detail}`);
  if (member && isHeardOf(member) && member.lagRecords > 0 && !status) {
    problems.push(`${name} lacks ${counted(member.lagRecords, "record")}`);
  }
  return problems;
}

/** A master that has not met a node since its mastership began knows nothing of what it has. */
export function isHeardOf({ matchSeq }: MemberStatus): boolean {
  return matchSeq > 0;
}

function isCutOff({ state }: MemberStatus): boolean {
  return state === "disconnected" || state === "refused";
}

function notesOf(row: NodeRow): string[] {
  if (!row.status) return [];
  const name = nameOf(row);
  const { divergedRecords, setAside, isCandidate } = row.status.node;
  const notes: string[] = [];
  if (divergedRecords > 0) {
    notes.push(
      `${name} had ${counted(divergedRecords, "record")} that the cluster does not have; they are kept in diverged-… files ` +
        "of its data directory",
    );
  }
  if (setAside) notes.push(`${name} has set aside data that was not right, in ${setAside} of its data directory`);
  if (isCandidate) notes.push(`${name} is about to become master`);
  return notes;
}

function ofVersions(rows: readonly NodeRow[]): string[] {
  const versions = new Set(rows.flatMap(({ status }) => status?.node.version ?? []));
  if (versions.size < 2) return [];
  const each = rows.flatMap((row) => (row.status ? [`${nameOf(row)} ${row.status.node.version}`] : []));
  return [`the nodes run different versions: ${each.join(", ")}`];
}
