import { parseAddress } from "../base/address.js";
import type { NodeConfig } from "./node-config.js";

/** What is valid and still not what the operator may expect: a sentence each, to be told at start. */
export function cautions(config: NodeConfig): string[] {
  return [...ofStorage(config), ...ofNodes(config), ...ofPeers(config)];
}

function ofStorage({ storage: { entriesMax, bytesMax, evictionPolicy } }: NodeConfig): string[] {
  if (evictionPolicy === "noeviction" || entriesMax > 0 || bytesMax > 0) return [];
  return [
    `storage.eviction_policy is ${evictionPolicy}, and nothing is ever evicted: neither storage.max_entries nor storage.max_bytes is set`,
  ];
}

function ofNodes({ cluster, replication, tls }: NodeConfig): string[] {
  const { nodes, secret } = cluster;
  const sentences: string[] = [];
  if (nodes.length > 0 && nodes.length % 2 === 0) {
    const majority = nodes.length / 2 + 1;
    const spare = nodes.length - majority;
    sentences.push(
      `cluster.nodes lists ${nodes.length} nodes, of which ${majority} are a majority: ` +
        `${spare === 0 ? "none of them may fail" : `no more than ${spare} may fail`}, as with ${nodes.length - 1}; ` +
        `list ${nodes.length - 1} or ${nodes.length + 1}`,
    );
  }
  const elsewhere = nodes.find((node) => !isThisMachine(parseAddress(node).host));
  if (elsewhere !== undefined && !secret && !replication.peers && (tls?.clientAuth ?? "none") === "none") {
    sentences.push(
      `cluster.nodes names ${elsewhere}, and there is no cluster.secret_file: nodes refuse each other's calls from other machines`,
    );
  }
  return sentences;
}

/** Where a node knows who calls it, being on the same machine proves nothing. */
function ofPeers({ server, tls, master, replication, cluster }: NodeConfig): string[] {
  const hasPeers = master?.address !== undefined || replication.replicas.length > 0 || cluster.nodes.length > 1;
  const hasProof =
    cluster.secret !== undefined || replication.peers !== undefined || (tls && tls.clientAuth !== "none");
  if (server.identityFile === undefined || hasProof === true || !hasPeers) return [];
  return [
    "server.identity_file is set, and there is neither cluster.secret_file nor replication.listen: the nodes of the cluster cannot prove to each other what they are",
  ];
}

function isThisMachine(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
