/** Three voters in a network that can be cut, and a record of what each was told. */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { SMALL_FILES } from "../../harness/kill-proof.js";
import { TestNode } from "../../harness/node.js";
import { type ProgramResult, runProgram } from "../../harness/programs.js";
import { status } from "../../harness/rpc.js";
import { until } from "../../harness/until.js";
import type { Network, Place } from "./networks.js";
import { processOf } from "./node-processes.js";

export class PartitionedVoters {
  readonly directory: string;
  readonly network: Network;
  readonly nodes: readonly TestNode[];

  private constructor(directory: string, network: Network) {
    this.directory = directory;
    this.network = network;
    const secret = path.join(directory, "secret");
    this.nodes = network.places.map(
      ({ host, port, advertised }, index) =>
        new TestNode({
          program: index === 0 ? "master" : "replica",
          directory: path.join(directory, `node-${index + 1}`),
          config: {
            ...SMALL_FILES,
            server: { address: host, port, advertise: advertised, protected_mode: false },
            cluster: { nodes: network.places.map((place) => place.advertised), secret_file: secret },
            replication: { write_timeout: "1s", sync_interval: "200ms" },
            limits: { max_read_wait: "1s" },
          },
        }),
    );
  }

  static async start(network: Network): Promise<PartitionedVoters> {
    const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
    await writeFile(path.join(directory, "secret"), "a secret of these three nodes\n");
    await chmod(path.join(directory, "secret"), 0o600);
    const voters = new PartitionedVoters(directory, network);
    try {
      await Promise.all(voters.nodes.map((_, node) => voters.startNode(node)));
      await voters.settled(0);
    } catch (error) {
      await voters.close();
      throw error;
    }
    return voters;
  }

  /** `host:port` at which clients reach a node. */
  address(node: number): string {
    const { host, port } = this.place(node);
    return `${host}:${port}`;
  }

  place(node: number): Place {
    return this.network.places[node]!;
  }

  async startNode(node: number): Promise<void> {
    await this.nodes[node]!.start({ under: this.place(node).under });
    this.network.moved(node, await processOf(this.nodes[node]!));
  }

  /** Nothing goes between this node and the others, in either direction. */
  async isolate(node: number): Promise<void> {
    for (const other of this.nodes.keys()) {
      if (other === node) continue;
      await this.network.cut(node, other);
      await this.network.cut(other, node);
    }
  }

  /** Resolves once every node is ready and follows this one. */
  async settled(master: number): Promise<void> {
    const { advertised } = this.place(master);
    await until(`all follow ${advertised}`, async () => {
      const states = await Promise.all(this.nodes.map((_, node) => status(this.address(node))));
      return states.every(
        (state, node) =>
          state.ready &&
          state.masterAddress === advertised &&
          state.role === (node === master ? "NODE_ROLE_MASTER" : "NODE_ROLE_REPLICA"),
      );
    });
  }

  /** Resolves once every node has applied what the master has now. */
  async equal(master: number): Promise<void> {
    const { appliedSeq } = await status(this.address(master));
    await until(`all have applied ${appliedSeq}`, async () => {
      const states = await Promise.all(this.nodes.map((_, node) => status(this.address(node))));
      return states.every((state) => state.appliedSeq >= appliedSeq);
    });
  }

  /** Promotes the first of these nodes that may become master. */
  async promoteOneOf(nodes: readonly number[]): Promise<number> {
    const refusals: string[] = [];
    try {
      return await until("one of them becomes master", async () => {
        for (const node of nodes) {
          const { code, stderr } = await this.cambium("promote", this.address(node));
          if (code === 0) return node;
          refusals.push(stderr);
        }
        return undefined;
      });
    } catch (cause) {
      throw new Error(`${refusals.join("\n")}\n${this.lastWords()}`, { cause });
    }
  }

  /** The newest of what each node has said. */
  lastWords(): string {
    return this.nodes
      .map(({ log, stderr }, node) => {
        const lines = log.slice(-12).map((line) => JSON.stringify(line));
        return [`node ${node + 1}, ${this.address(node)}:`, ...lines, stderr].join("\n");
      })
      .join("\n");
  }

  cambium(...args: readonly string[]): Promise<ProgramResult> {
    const endpoints = this.nodes.map((_, node) => this.address(node)).join(",");
    return runProgram("cambium", args, { env: { CAMBIUM_ENDPOINTS: endpoints } });
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.filter((node) => node.running).map((node) => node.kill()));
    await this.network.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
