/**
 * A process that calls as others do, one call after the other from each of a few callers, each on a connection of its own: `bystander.ts PORT
 * [CA]`, with TLS where the file of an authority is named. Asked for the `count`, it tells how many there
 * were, and asked for anything else it tells of them, and begins to count anew.
 */
import { readFileSync } from "node:fs";
import https from "node:https";
import { createInterface } from "node:readline";
import { normalCall } from "../../../internal/rpc/testing/abuse.js";

const CALLERS = 2;

const [port, caFile] = process.argv.slice(2);
const target = { host: "127.0.0.1", port: Number(port) };
const ca = caFile === undefined ? undefined : readFileSync(caFile, "utf8");

let tookMs: number[] = [];
let failures: string[] = [];
let isOver = false;

function callWithTls(): Promise<number> {
  return new Promise((resolve, reject) => {
    const sinceMs = performance.now();
    const request = https.get({ ...target, ca, path: "/readyz", agent: false }, (answer) => {
      answer.resume().on("end", () => {
        if (answer.statusCode === 200) resolve(performance.now() - sinceMs);
        else reject(new Error(`answered ${answer.statusCode}`));
      });
    });
    request.on("error", reject);
  });
}

async function callOnAndOn(): Promise<void> {
  while (!isOver) {
    try {
      tookMs.push(await (ca === undefined ? normalCall(target) : callWithTls()));
    } catch (error) {
      failures.push(String(error));
      // Or a node that is gone would be asked without a pause.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (line === "count") {
      console.log(tookMs.length);
      return;
    }
    const sorted = tookMs.toSorted((a, b) => a - b);
    const at = (part: number): number | undefined =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
    console.log(JSON.stringify({ count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), longestMs: at(1), failures }));
    tookMs = [];
    failures = [];
  })
  .on("close", () => (isOver = true));

for (let n = 0; n < CALLERS; n++) void callOnAndOn();
