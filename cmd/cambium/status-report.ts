/** What the nodes of a cluster say of themselves and of each other, gathered into one row a node. */
import { CambiumError, type ClusterStatus, type MemberStatus } from "../../api/client/node.js";

/** Whoever asks for the state wants to see who hangs, and not to wait for them as for a write. */
export const SILENCE_MS = 3000;

/** The part of the client that is needed. */
export interface StatusReader {
  status(options: { endpoint: string; signal: AbortSignal; timeoutMs?: number }): Promise<ClusterStatus>;
}

export interface NodeRow {
  /** Where the node was asked: an endpoint as it was given, or the address of a member. */
  readonly endpoint: string;
  /** Its own answer. */
  readonly status?: ClusterStatus;
  /** Why there is none. */
  readonly error?: CambiumError;
  /** What the master says of it. */
  readonly member?: MemberStatus;
  /** A member that was another node, at whose address this one answers. */
  readonly replaces?: MemberStatus;
}

/**
 * Asks the endpoints, then the masters and members that those know, and so on until nobody new comes up: whichever node is
 * named, all are seen. A node that answers under two names is one row. Never throws for a node that does not answer.
 */
export async function gatherStatus(
  reader: StatusReader,
  endpoints: readonly string[],
  signal: AbortSignal,
  timeoutMs?: number,
): Promise<readonly NodeRow[]> {
  const asked = new Set<string>();
  const answers: NodeRow[] = [];
  for (let next = [...new Set(endpoints)]; next.length > 0; next = unasked(answers, asked)) {
    for (const endpoint of next) asked.add(endpoint);
    answers.push(...(await askAll(reader, next, { signal, ...(timeoutMs !== undefined && { timeoutMs }) })));
  }
  const known = members(answers);
  const rows: NodeRow[] = [];
  for (const row of answers) {
    if (row.status && rows.some(({ status }) => status && isSame(status, row.status!))) continue;
    const member = [...known.values()].find((candidate) => isOf(row, candidate));
    const replaces = member || !row.status ? undefined : known.get(row.status.node.address);
    rows.push({ ...row, ...(member && { member }), ...(replaces && { replaces }) });
  }
  return rows;
}

/** Addresses that an answer names and nobody has answered for yet. */
function unasked(answers: readonly NodeRow[], asked: ReadonlySet<string>): string[] {
  const named = [...members(answers).values()].filter((member) => !answers.some((row) => isOf(row, member)));
  const masters = answers.flatMap(({ status }) => status?.node.masterAddress ?? []);
  const addresses = [...named.map(({ address }) => address), ...masters];
  const answered = new Set(answers.flatMap(({ status }) => status?.node.address ?? []));
  return [...new Set(addresses)].filter((address) => !asked.has(address) && !answered.has(address));
}

async function askAll(
  reader: StatusReader,
  endpoints: readonly string[],
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<NodeRow[]> {
  return await Promise.all(
    endpoints.map(async (endpoint): Promise<NodeRow> => {
      try {
        return { endpoint, status: await reader.status({ endpoint, ...options }) };
      } catch (error) {
        if (error instanceof CambiumError && error.code !== "canceled") return { endpoint, error };
        throw error;
      }
    }),
  );
}

/** The members by address; what the newest master says wins over what a replica says. */
function members(rows: readonly NodeRow[]): Map<string, MemberStatus> {
  const statuses = rows.flatMap(({ status }) => (status ? [status] : []));
  const rank = ({ node }: ClusterStatus): number => (node.role === "master" ? node.last.epoch : -1);
  const ranked = statuses.toSorted((a, b) => rank(a) - rank(b));
  return new Map(ranked.flatMap((status) => status.members).map((member) => [member.address, member]));
}

/** One node id at two addresses of its own is two nodes: somebody has copied a directory. */
function isSame({ node: a }: ClusterStatus, { node: b }: ClusterStatus): boolean {
  return a.nodeId === b.nodeId && a.address === b.address;
}

function isOf({ endpoint, status }: NodeRow, { nodeId, address }: MemberStatus): boolean {
  if (status && nodeId !== undefined) return status.node.nodeId === nodeId;
  return address === (status?.node.address ?? endpoint);
}
