/** What a forced promotion may cost, as far as the nodes that answer know, for whoever is about to force one. */
import type { ClusterStatus } from "../../api/client/node.js";
import { nameOf } from "./status-findings.js";
import type { NodeRow } from "./status-report.js";
import { counted } from "./units.js";

/** Lines for a person. `endpoint` is the node to be promoted. */
export function forcedPromotionWarning(rows: readonly NodeRow[], endpoint: string): string {
  const candidate = rows.find((row) => row.endpoint === endpoint);
  const node = candidate?.status?.node;
  const lines = [
    node
      ? `${endpoint} has the log up to seq ${node.last.seq} of epoch ${node.last.epoch}, and becomes master without a majority.`
      : `${endpoint} does not answer at present.`,
  ];
  const master = rows.find(({ status }) => status?.node.role === "master" && status !== candidate?.status);
  if (master) {
    lines.push(`- ${nameOf(master)} is master and answers: \`cambium transfer ${endpoint}\` would lose nothing.`);
  }
  const better = node && richest(rows, node.last);
  if (better) {
    const more = better.status!.node.last.seq - node.last.seq;
    const what = more > 0 ? counted(more, "record") : "records of a later epoch";
    lines.push(`- ${nameOf(better)} has ${what} that ${endpoint} lacks, which will be lost: promote that one instead.`);
  }
  const silent = rows.filter(({ status }) => !status);
  if (silent.length > 0) {
    lines.push(
      `- No answer from ${silent.map(nameOf).join(", ")}. What only they have is lost, and nobody can say how much.`,
    );
    const voters = silent.filter(({ member }) => member?.voter).map(nameOf);
    if (voters.length > 0 && hasListedVoters(rows)) {
      lines.push(
        `- They lose their vote. Give it back, once they follow, by cambium members add: ${voters.join(", ")}`,
      );
    }
  }
  lines.push(
    "- An old master that is only out of reach may still be acknowledging writes, and those will be lost too. Stop it first.",
  );
  return `${lines.join("\n")}\n`;
}

function richest(rows: readonly NodeRow[], than: ClusterStatus["node"]["last"]): NodeRow | undefined {
  const last = (row: NodeRow): ClusterStatus["node"]["last"] => row.status?.node.last ?? { epoch: 0, seq: 0 };
  const [first] = rows.toSorted((a, b) => last(b).epoch - last(a).epoch || last(b).seq - last(a).seq);
  if (!first) return undefined;
  const { epoch, seq } = last(first);
  return epoch > than.epoch || (epoch === than.epoch && seq > than.seq) ? first : undefined;
}

/** Where there is one vote, it goes with the mastership. */
function hasListedVoters(rows: readonly NodeRow[]): boolean {
  return rows.filter(({ member }) => member?.voter).length > 1;
}
