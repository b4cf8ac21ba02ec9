/** Other stores, to measure beside ours where they are installed: Debian's packages redis-server and etcd-server. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import type { ServerOptions } from "./server-process.js";
import { redisCommand } from "./redis-wire.js";
import { openSocket } from "./socket.js";

export type PeerKind = "redis" | "etcd";

const programs: Readonly<Record<PeerKind, string>> = { redis: "redis-server", etcd: "etcd" };

/** The first line in which it tells its version; undefined: it is not installed. */
export function peerVersion(kind: PeerKind): string | undefined {
  const { stdout, status } = spawnSync(programs[kind], ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n", 1)[0] : undefined;
}

/** How it is started with its data in `directory`; undefined when it is not installed. */
export async function peerOptions(
  kind: PeerKind,
  directory: string,
  args: readonly string[],
): Promise<ServerOptions | undefined> {
  if (peerVersion(kind) === undefined) return undefined;
  const [port, otherPort] = await freePorts(2);
  const address = `127.0.0.1:${port}`;
  switch (kind) {
    case "redis": {
      const own = ["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""];
      return {
        name: kind,
        command: [programs.redis, ...own, ...args],
        readiness: { address, isReady: () => pings(address) },
      };
    }
    case "etcd": {
      const peers = `http://127.0.0.1:${otherPort}`;
      const urls = {
        "--listen-client-urls": `http://${address}`,
        "--advertise-client-urls": `http://${address}`,
        "--listen-peer-urls": peers,
        "--initial-advertise-peer-urls": peers,
        "--initial-cluster": `default=${peers}`,
      };
      const own = ["--data-dir", directory, "--log-level", "error", ...Object.entries(urls).flat()];
      return {
        name: kind,
        command: [programs.etcd, ...own, ...args],
        readiness: { address, isReady: () => isHealthy(address) },
      };
    }
  }
}

/** Ports of 127.0.0.1 that nobody listened on a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** The answer of a redis to one command, as it comes over the wire. */
export async function askRedis(address: string, ...command: readonly string[]): Promise<string> {
  const socket = await openSocket(address);
  try {
    socket.write(redisCommand(...command));
    const [answer] = (await once(socket, "data", { signal: AbortSignal.timeout(1000) })) as [Buffer];
    return answer.toString("latin1");
  } finally {
    socket.destroy();
  }
}

async function pings(address: string): Promise<boolean> {
  try {
    return (await askRedis(address, "PING")).startsWith("+PONG");
  } catch {
    return false;
  }
}

async function isHealthy(address: string): Promise<boolean> {
  try {
    const answer = await fetch(`http://${address}/health`);
    return answer.ok && (await answer.text()).includes("true");
  } catch {
    return false;
  }
}
