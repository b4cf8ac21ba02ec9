/** A master and its replicas in a temporary directory, which goes when the cluster is closed. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type ConfigSections, TestNode } from "./node.js";
import { set } from "./rpc.js";

export interface ClusterOptions {
  readonly replicas: number;
  readonly masterConfig?: ConfigSections;
  readonly replicaConfig?: ConfigSections;
}

export class TestCluster {
  readonly directory: string;
  readonly master: TestNode;
  readonly replicas: TestNode[] = [];
  readonly #options: ClusterOptions;

  private constructor(directory: string, options: ClusterOptions) {
    this.directory = directory;
    this.#options = options;
    this.master = new TestNode({
      program: "master",
      directory: path.join(directory, "master"),
      config: options.masterConfig ?? {},
    });
  }

  /** Starts a master, and replicas that register themselves with it; all are ready when it resolves. */
  static async start(options: ClusterOptions): Promise<TestCluster> {
    const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
    const cluster = new TestCluster(directory, options);
    try {
      await cluster.master.start();
      await Promise.all(Array.from({ length: options.replicas }, () => cluster.addReplica()));
      for (const node of cluster.nodes) await node.ready();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  get nodes(): TestNode[] {
    return [this.master, ...this.replicas];
  }

  /** `host:port` of every node, separated by commas. */
  get endpoints(): string {
    return this.nodes.map((node) => node.address).join(",");
  }

  /** Starts one more replica that registers itself. */
  async addReplica(): Promise<TestNode> {
    const node = new TestNode({
      program: "replica",
      directory: path.join(this.directory, `replica-${this.replicas.length + 1}`),
      config: { ...this.#options.replicaConfig, master: { address: this.master.address } },
    });
    this.replicas.push(node);
    return node.start();
  }

  /** Writes a key and waits until every running node has applied it. */
  async setEverywhere(key: string, value: string): Promise<void> {
    const seq = await set(this.master.address, key, value);
    await Promise.all(this.nodes.filter((node) => node.running).map((node) => node.applied(seq)));
  }

  /** Ends what still runs and removes the directory. */
  async close(): Promise<void> {
    await Promise.all(this.nodes.filter((node) => node.running).map((node) => node.kill()));
    await rm(this.directory, { recursive: true, force: true });
  }
}
