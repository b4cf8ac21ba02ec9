/** Nodes that vote: all of them listed in `cluster.nodes`, at ports that are chosen beforehand. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type ConfigSections, TestNode } from "./node.js";
import { freePortRun } from "./ports.js";
import { type ProgramResult, runProgram } from "./programs.js";
import { type NodeState, status } from "./rpc.js";
import { until } from "./until.js";

export interface VotersOptions {
  /** Default 3. */
  readonly count?: number;
  /** Laid over the configuration of each. */
  readonly config?: ConfigSections;
}

export class Voters {
  readonly directory: string;
  readonly nodes: readonly TestNode[];
  readonly addresses: readonly string[];

  private constructor(directory: string, ports: readonly number[], config: ConfigSections) {
    this.directory = directory;
    this.addresses = ports.map((port) => `127.0.0.1:${port}`);
    this.nodes = ports.map(
      (port, index) =>
        new TestNode({
          program: index === 0 ? "master" : "replica",
          directory: path.join(directory, `node-${index + 1}`),
          config: {
            ...config,
            server: { port, ...config["server"] },
            cluster: { nodes: this.addresses, ...config["cluster"] },
          },
        }),
    );
  }

  /** Starts all of them; the first has founded the cluster, is master, and the others follow when it resolves. */
  static async start({ count = 3, config = {} }: VotersOptions = {}): Promise<Voters> {
    const first = await freePortRun(count);
    const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
    const ports = Array.from({ length: count }, (_, index) => first + index);
    const voters = new Voters(directory, ports, config);
    try {
      await Promise.all(voters.nodes.map((node) => node.start()));
      await voters.settled(voters.nodes[0]!);
    } catch (error) {
      await voters.close();
      throw error;
    }
    return voters;
  }

  get running(): TestNode[] {
    return this.nodes.filter((node) => node.running);
  }

  /** `host:port` of every node, separated by commas. */
  get endpoints(): string {
    return this.addresses.join(",");
  }

  /** Resolves once this node is master, and every node that runs is ready and follows it. */
  async settled(master: TestNode): Promise<void> {
    await until(`all follow ${master.address}`, async () => {
      const states = await Promise.all(this.running.map((node) => status(node.address)));
      return states.every((state) => state.ready && isSettled(state, master.address));
    });
  }

  /** Resolves once every node that runs has applied what the master has now. */
  async equal(master: TestNode): Promise<void> {
    const { appliedSeq } = await status(master.address);
    await Promise.all(this.running.map((node) => node.applied(appliedSeq)));
  }

  /** Runs `cambium` with all endpoints, unless the arguments name some. */
  async cambium(...args: readonly string[]): Promise<ProgramResult> {
    return runProgram("cambium", args, { env: { CAMBIUM_ENDPOINTS: this.endpoints } });
  }

  /** Ends what still runs and removes the directory. */
  async close(): Promise<void> {
    await Promise.all(this.running.map((node) => node.kill()));
    await rm(this.directory, { recursive: true, force: true });
  }
}

function isSettled(state: NodeState, master: string): boolean {
  const role = state.address === master ? "NODE_ROLE_MASTER" : "NODE_ROLE_REPLICA";
  return state.role === role && state.masterAddress === master;
}
