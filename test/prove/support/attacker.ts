/**
 * A process that attacks a port of this machine: `attacker.ts NAME COUNT PORT`. Each line of its input is a round of that many
 * connections, of which it tells, when they have all been closed or a minute is over. It ends with its input.
 */
import os from "node:os";
import { createInterface } from "node:readline";
import {
  type Attack,
  attacks,
  halfHandshakes,
  idle,
  neverReading,
  type Target,
} from "../../../internal/rpc/testing/abuse.js";

const ROUND_MS_MAX = 60_000;
/** An attacker has machines of its own: what it does must not take the node's processor, and be laid to the node. */
const NICENESS = 10;

os.setPriority(Math.min(19, os.getPriority() + NICENESS));

const known: Readonly<Record<string, (count: number, target: Target) => Attack>> = {
  ...attacks,
  "readers that never read": (count, target) => neverReading(count, target, "large"),
  "handshakes of TLS that stop half-way": halfHandshakes,
  "idle connections of HTTP": idle,
};

const [name = "", count, port] = process.argv.slice(2);
const begin = known[name];
if (!begin) throw new Error(`there is no attack ${name}`);

for await (const line of createInterface({ input: process.stdin })) {
  if (line !== "attack") throw new Error(`what is this: ${line}`);
  const running = begin(Number(count), { host: "127.0.0.1", port: Number(port) });
  await Promise.race([running.ended, new Promise((resolve) => setTimeout(resolve, ROUND_MS_MAX).unref())]);
  const { open, longestMs } = running;
  running.end();
  console.log(JSON.stringify({ open, longestMs }));
}
