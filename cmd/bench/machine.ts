/** What a run was made on, and with what. */
import os from "node:os";
import { VERSION } from "../version.js";
import { peerVersion } from "./peers.js";

export interface Machine {
  readonly processors: string;
  readonly memoryBytes: number;
  readonly system: string;
  readonly versions: Readonly<Record<string, string>>;
}

export function machine(): Machine {
  const cpus = os.cpus();
  const versions: Record<string, string> = { cambium: VERSION, node: process.versions.node, v8: process.versions.v8 };
  for (const kind of ["redis", "etcd"] as const) versions[kind] = peerVersion(kind) ?? "not installed";
  return {
    processors: `${cpus.length} × ${cpus[0]?.model.trim() ?? "unknown processor"}`,
    memoryBytes: os.totalmem(),
    system: `${os.type()} ${os.release()}`,
    versions,
  };
}

export function machineText({ processors, memoryBytes, system, versions }: Machine): string {
  const { cambium, node, redis, etcd } = versions;
  return `${processors}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB, ${system}, Node ${node}, Cambium ${cambium}; redis: ${redis}; etcd: ${etcd}`;
}
