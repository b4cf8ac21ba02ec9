import { parseAddress } from "../base/address.js";
import type { NodeConfig } from "./node-config.js";

/** What is valid and still not what the operator may expect: a sentence each, to be told at start. */
export function cautions(config: NodeConfig): string[] {
  return [...limitsNotHeld(config), ...ofNodes(config)];
}

function limitsNotHeld({ storage }: NodeConfig): string[] {
  const sentences: string[] = [];
  const say = (key: string, value: string | number, consequence: string): void => {
    sentences.push(`storage.${key} (${value}) is not enforced by this version: ${consequence}`);
  };
  if (storage.entriesMax > 0) say("max_entries", storage.entriesMax, "the number of keys has no limit");
  if (storage.bytesMax > 0) say("max_bytes", storage.bytesMax, "memory is the only limit of what is stored");
  if (storage.evictionPolicy !== "noeviction") {
    say("eviction_policy", storage.evictionPolicy, "no key is removed to make room");
  }
  return sentences;
}

function ofNodes({ cluster }: NodeConfig): string[] {
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
  if (elsewhere !== undefined && !secret) {
    sentences.push(
      `cluster.nodes names ${elsewhere}, and there is no cluster.secret_file: nodes refuse each other's calls from other machines`,
    );
  }
  return sentences;
}

function isThisMachine(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
