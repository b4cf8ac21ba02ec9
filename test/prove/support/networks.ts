/** Networks of three nodes and their clients in which any way between two nodes can be cut, in one direction or both. */
import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import net from "node:net";
import { promisify } from "node:util";
import type { TestContext } from "vitest";
import { needs, notRun } from "../../harness/disks.js";
import { freePortRun } from "../../harness/ports.js";
import { must } from "../../../internal/base/assert.js";

const run = promisify(execFile);

/** Where a node listens, and by which command it is started there. */
export interface Place {
  readonly host: string;
  readonly port: number;
  /** `host:port` at which the other nodes reach it. */
  readonly advertised: string;
  readonly under: readonly string[];
}

export interface Network {
  readonly places: readonly Place[];
  /** Says which process a node is, whenever one is started. */
  moved(node: number, processId: number): void;
  /** From now on, nothing that node `from` sends comes to node `to`, and nobody is told. Clients are not concerned. */
  cut(from: number, to: number): Promise<void>;
  heal(): Promise<void>;
  close(): Promise<void>;
}

/** What it takes, of the one that runs a test. */
export type NetworkMaker = (context: TestContext, count: number) => Promise<Network>;

// ---- namespaces ------------------------------------------------------------------------------------------------------

const PORT = 7000;
/** No card has this one, so a frame to it is lost on the way as if the cable were. */
const NOWHERE = "02:ff:ff:ff:ff:ff";

/** Each node in a network namespace of its own, on a bridge. Where the machine does not allow that, the test does not run. */
export const namespaces: NetworkMaker = async (context, count) => {
  needs(context, "ip");
  if (process.getuid?.() !== 0) notRun(context, "it needs root");
  const network = new NamespaceNetwork(count);
  try {
    await network.make();
  } catch (error) {
    await network.close();
    notRun(context, `this machine makes no network namespaces: ${String(error)}`);
  }
  return network;
};

class NamespaceNetwork implements Network {
  readonly places: readonly Place[];
  readonly #bridge = `cmb${process.pid % 1_000_000}`;
  readonly #subnet = `10.213.${process.pid % 250}`;
  #cuts: { readonly from: number; readonly to: number }[] = [];

  constructor(count: number) {
    this.places = Array.from({ length: count }, (_, node) => ({
      host: this.#host(node),
      port: PORT,
      advertised: `${this.#host(node)}:${PORT}`,
      under: ["ip", "netns", "exec", this.#name(node)],
    }));
  }

  async make(): Promise<void> {
    await ip("link", "add", this.#bridge, "type", "bridge");
    await ip("addr", "add", `${this.#subnet}.1/24`, "dev", this.#bridge);
    await ip("link", "set", this.#bridge, "up");
    for (const node of this.places.keys()) {
      const [name, cable] = [this.#name(node), this.#cable(node)];
      await ip("netns", "add", name);
      await ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name);
      await ip("link", "set", cable, "master", this.#bridge, "up");
      await ip("-n", name, "addr", "add", `${this.#host(node)}/24`, "dev", "eth0");
      await ip("-n", name, "link", "set", "eth0", "up");
      await ip("-n", name, "link", "set", "lo", "up");
    }
    // Rules of the host may stand between: a connection from one to the other shows that they do not.
    await meets(this.places[0]!, this.places[1]!);
  }

  moved(): void {
    // Its namespace is where it is, whatever process it is.
  }

  async cut(from: number, to: number): Promise<void> {
    this.#cuts.push({ from, to });
    const nowhere = ["lladdr", NOWHERE, "nud", "permanent", "dev", "eth0"];
    await ip("-n", this.#name(from), "neigh", "replace", this.#host(to), ...nowhere);
  }

  async heal(): Promise<void> {
    const cuts = new Set(this.#cuts.splice(0).map(({ from, to }) => `${from} ${to}`));
    for (const cut of cuts) {
      const [from, to] = cut.split(" ").map(Number) as [number, number];
      await ip("-n", this.#name(from), "neigh", "del", this.#host(to), "dev", "eth0");
    }
  }

  async close(): Promise<void> {
    // What was not made cannot be taken away.
    const gone = (): string => "it is not there";
    for (const node of this.places.keys()) {
      // By itself it would go with the last packet that is still under way in the namespace.
      await ip("link", "del", this.#cable(node)).catch(gone);
      await ip("netns", "del", this.#name(node)).catch(gone);
    }
    await ip("link", "del", this.#bridge).catch(gone);
  }

  #name(node: number): string {
    return `${this.#bridge}-ns${node}`;
  }

  #cable(node: number): string {
    return `${this.#bridge}-${node}`;
  }

  #host(node: number): string {
    return `${this.#subnet}.${11 + node}`;
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await run("ip", args);
}

/** Rejects unless one can be reached from the other. */
async function meets(from: Place, to: Place): Promise<void> {
  const [command, ...rest] = to.under;
  const listen = `require("net").createServer().listen(${to.port}, () => console.log("up"))`;
  const listener = execFile(must(command, "there is one"), [...rest, process.execPath, "-e", listen]);
  try {
    await new Promise<void>((resolve, reject) => {
      listener.stdout!.once("data", () => resolve());
      listener.once("error", reject);
      listener.once("exit", () => reject(new Error("nothing can listen in a namespace")));
    });
    const connect = `require("net").connect(${to.port}, "${to.host}", () => process.exit(0)).on("error", () => process.exit(1))`;
    await run(must(from.under[0], "there is one"), [...from.under.slice(1), process.execPath, "-e", connect], {
      timeout: 5000,
    });
  } finally {
    listener.kill("SIGKILL");
  }
}

// ---- proxies ---------------------------------------------------------------------------------------------------------

/** All nodes on 127.0.0.1, each behind a proxy that the other nodes know it by. The proxies find out who calls (Linux). */
export const proxies: NetworkMaker = async (context, count) => {
  if (process.platform !== "linux") notRun(context, "it needs Linux, whose /proc tells whose a connection is");
  const first = await freePortRun(2 * count);
  const network = new ProxyNetwork(first, count);
  await network.make();
  return network;
};

interface Link {
  /** Undefined as long as nobody knows whose it is, and for clients. */
  from: number | undefined;
  readonly to: number;
  /** Of both ends of the caller's connection. */
  readonly ports: readonly [caller: number, proxy: number];
  readonly ends: readonly [net.Socket, net.Socket];
}

class ProxyNetwork implements Network {
  readonly places: readonly Place[];
  readonly #proxyPorts: readonly number[];
  readonly #servers: net.Server[] = [];
  readonly #links = new Set<Link>();
  readonly #processes: (number | undefined)[] = [];
  readonly #cuts = new Set<string>();

  constructor(first: number, count: number) {
    this.#proxyPorts = Array.from({ length: count }, (_, node) => first + count + node);
    this.places = this.#proxyPorts.map((port, node) => ({
      host: "127.0.0.1",
      port: first + node,
      advertised: `127.0.0.1:${port}`,
      under: [],
    }));
  }

  async make(): Promise<void> {
    for (const [to, port] of this.#proxyPorts.entries()) {
      const server = net.createServer({ pauseOnConnect: true }, (socket) => void this.#accept(socket, to));
      await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
      this.#servers.push(server);
    }
  }

  moved(node: number, processId: number): void {
    this.#processes[node] = processId;
  }

  async cut(from: number, to: number): Promise<void> {
    this.#cuts.add(`${from} ${to}`);
    // Those that a node made while it started.
    for (const link of this.#links) link.from ??= await this.#callerOf(link.ports);
    // A connection goes both ways, and what comes back on it is cut with its own direction.
    for (const link of this.#links) this.#apply(link);
  }

  heal(): Promise<void> {
    this.#cuts.clear();
    for (const link of this.#links) this.#apply(link);
    return Promise.resolve();
  }

  async close(): Promise<void> {
    for (const { ends } of this.#links) for (const end of ends) end.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  async #accept(socket: net.Socket, to: number): Promise<void> {
    socket.on("error", () => socket.destroy());
    const ports = [must(socket.remotePort, "it is connected"), must(socket.localPort, "it is connected")] as const;
    const from = await this.#callerOf(ports);
    const { host, port } = must(this.places[to], "there is one");
    const onward = net.connect({ host, port });
    const link: Link = { from, to, ports, ends: [socket, onward] };
    this.#links.add(link);
    const end = (): void => {
      this.#links.delete(link);
      for (const each of link.ends) each.destroy();
    };
    for (const [one, other] of [link.ends, link.ends.toReversed()] as [net.Socket, net.Socket][]) {
      one.on("error", end).on("close", end);
      one.on("data", (bytes) => {
        if (!other.write(bytes)) one.pause();
      });
      other.on("drain", () => this.#apply(link));
    }
    this.#apply(link);
  }

  /** Reads on, or stops to, each end of a connection: what is not read does not arrive. */
  #apply({ from, to, ends: [caller, called] }: Link): void {
    const isCut = (a: number | undefined, b: number | undefined): boolean => this.#cuts.has(`${a} ${b}`);
    for (const [end, other, cut] of [
      [caller, called, isCut(from, to)],
      [called, caller, isCut(to, from)],
    ] as const) {
      if (cut || other.writableNeedDrain) end.pause();
      else end.resume();
    }
  }

  /** The node whose connection it is; undefined for a client's. */
  async #callerOf([caller, proxy]: Link["ports"]): Promise<number | undefined> {
    const inode = await inodeOf(caller, proxy);
    for (const [node, processId] of this.#processes.entries()) {
      if (inode !== undefined && processId !== undefined && (await hasOpen(processId, inode))) return node;
    }
    return undefined;
  }
}

/** Of the caller's end of a connection on 127.0.0.1. */
async function inodeOf(localPort: number, remotePort: number): Promise<string | undefined> {
  const hex = (port: number): string => `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const line of (await readFile("/proc/net/tcp", "utf8")).split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[1]?.endsWith(hex(localPort)) && fields[2]?.endsWith(hex(remotePort))) return fields[9];
  }
  return undefined;
}

async function hasOpen(processId: number, inode: string): Promise<boolean> {
  const folder = `/proc/${processId}/fd`;
  // A process, or a file of it, may be gone by the time that it is looked at.
  for (const name of await readdir(folder).catch(() => [])) {
    if ((await readlink(`${folder}/${name}`).catch(() => "")) === `socket:[${inode}]`) return true;
  }
  return false;
}
