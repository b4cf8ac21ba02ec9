/** Nodes that replicate, each a process of its own. */
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { callJson } from "./json-call.js";
import { freePorts } from "./peers.js";
import type { ServerProcess } from "./server-process.js";
import type { ConfigSections, Workbench } from "./workbench.js";

const ASK_AGAIN_MS = 5;
const PATIENCE_MS = 120_000;

export interface BenchCluster {
  readonly master: ServerProcess;
  readonly replicas: readonly ServerProcess[];
}

/** What a master knows of another node. */
export interface Follower {
  readonly isStreaming: boolean;
  readonly matchSeq: number;
}

export interface ClusterState {
  /** Of the master's log. */
  readonly lastSeq: number;
  /** Of the node itself. */
  readonly appliedSeq: number;
  /** None where the node is no master. */
  readonly followers: readonly Follower[];
}

/**
 * Starts a master and its replicas; all of them have everything when it resolves. `majority`: they are voters, and a write counts
 * once a majority of them keeps it. `master`: the replicas only follow.
 */
export async function startCluster(
  bench: Workbench,
  name: string,
  options: { replicas: number; commit: "master" | "majority"; durability?: "always" | "os" },
): Promise<BenchCluster> {
  const { commit, durability = "always" } = options;
  const isVoting = commit === "majority";
  const ports = await freePorts(1 + options.replicas);
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const sectionsOf = (node: number): ConfigSections => ({
    server: { port: ports[node] },
    wal: { directory: path.join(bench.directory, name, String(node)), durability },
    ...(isVoting ? { cluster: { nodes: addresses }, replication: { commit } } : {}),
    ...(!isVoting && node > 0 ? { master: { address: addresses[0] } } : {}),
  });
  // A cluster is founded once all that are listed answer.
  const [master, ...replicas] = await Promise.all([
    bench.startMaster(`${name}-0`, { sections: sectionsOf(0) }),
    ...ports.slice(1).map((_, at) => bench.startReplica(`${name}-${at + 1}`, { sections: sectionsOf(at + 1) })),
  ]);
  await untilCluster(master, hasAll(replicas.length));
  return { master, replicas };
}

/** Whether so many replicas follow, and have everything. */
export function hasAll(replicas: number): (state: ClusterState) => boolean {
  return ({ lastSeq, followers }) =>
    lastSeq > 0 && followers.filter((each) => each.isStreaming && each.matchSeq === lastSeq).length === replicas;
}

/** Asks a node again and again how it and its replicas stand, until that is as wanted. Gives the answer, and when it came. */
export async function untilCluster(
  node: ServerProcess,
  isWanted: (state: ClusterState) => boolean,
): Promise<{ readonly state: ClusterState; readonly atMs: number }> {
  for (const startMs = performance.now(); performance.now() - startMs < PATIENCE_MS; await sleep(ASK_AGAIN_MS)) {
    const state = await clusterState(node);
    if (isWanted(state)) return { state, atMs: performance.now() };
  }
  throw new Error(`${node.name} and its replicas do not come so far`);
}

async function clusterState(node: ServerProcess): Promise<ClusterState> {
  const status = (await callJson(node, "Cluster/Status", {})) as {
    readonly node?: { readonly last?: { readonly seq?: string }; readonly applied?: { readonly seq?: string } };
    readonly members?: readonly { readonly state?: string; readonly matchSeq?: string }[];
  };
  const others = (status.members ?? []).filter(({ state }) => state !== "MEMBER_STATE_SELF");
  return {
    lastSeq: Number(status.node?.last?.seq ?? 0),
    appliedSeq: Number(status.node?.applied?.seq ?? 0),
    followers: others.map(({ state, matchSeq = 0 }) => ({
      isStreaming: state === "MEMBER_STATE_STREAMING",
      matchSeq: Number(matchSeq),
    })),
  };
}
