/** What the system tells of a node's process. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { TestNode } from "../../harness/node.js";
import { processesWith } from "../../harness/processes.js";

/** The process that a node's configuration was given to. */
export async function processOf(node: TestNode): Promise<number> {
  // A command that started it may name the file as well; it has become the node by the time that this one listens.
  const [id, ...others] = await processesWith("--config", path.join(node.options.directory, "node.yaml"));
  if (id === undefined || others.length > 0) throw new Error(`${[id, ...others].length} processes are the node's`);
  return id;
}

/** Memory of a process that is in use, in bytes. */
export async function residentBytes(processId: number): Promise<number> {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${processId}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}
