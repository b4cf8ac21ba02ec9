/**
 * A process that writes, at a rate that does not care for answers: `flood.ts PORT`. A line of its input says how many calls a
 * second are to be begun, at most one at a time on each of how many connections, and for how long; it then tells what became of them.
 */
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";

const port = Number(process.argv[2]);
const TICK_MS = 5;
const body = JSON.stringify({ key: "k", value: "dg==" });
const CALL = `POST /cambium.v1.KVStore/Set HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

interface Wish {
  readonly connections: number;
  /** Absent: as soon as there is an answer to the one before. */
  readonly perSecond?: number;
  readonly seconds: number;
}

const percentile = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;

async function flood({ connections, perSecond = Number.POSITIVE_INFINITY, seconds }: Wish): Promise<void> {
  const free: Socket[] = [];
  const sockets = new Set<Socket>();
  const tookMs: number[] = [];
  const statuses: Record<string, number> = {};
  const sinceMs = new WeakMap<Socket, number>();
  let lost = 0;
  const open = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        free.push(socket);
        resolve();
      });
      sockets.add(socket);
      let text = "";
      socket.setEncoding("latin1").on("data", (part: string) => {
        text += part;
        const headEnd = text.indexOf("\r\n\r\n");
        if (headEnd < 0) return;
        const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0);
        if (text.length < headEnd + 4 + length) return;
        const status = text.slice(9, 12);
        statuses[status] = (statuses[status] ?? 0) + 1;
        tookMs.push(performance.now() - (sinceMs.get(socket) ?? Number.NaN));
        text = "";
        free.push(socket);
        if (perSecond === Number.POSITIVE_INFINITY) begin();
      });
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        lost++;
        resolve();
      });
    });
  let begun = 0;
  let isOver = false;
  const begin = (): boolean => {
    const socket = isOver ? undefined : free.pop();
    if (!socket) return false;
    begun++;
    sinceMs.set(socket, performance.now());
    socket.write(CALL);
    return true;
  };
  for (let n = 0; n < connections; n += 100) {
    await Promise.all(Array.from({ length: Math.min(100, connections - n) }, open));
  }
  const startMs = performance.now();
  let owed = 0;
  let lastMs = startMs;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    owed = Math.min(owed + ((nowMs - lastMs) / 1000) * perSecond, perSecond);
    lastMs = nowMs;
    while (owed >= 1 && begin()) owed--;
  }, TICK_MS);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  isOver = true;
  clearInterval(timer);
  const elapsedSeconds = (performance.now() - startMs) / 1000;
  const answered = tookMs.length;
  const lostMeanwhile = lost;
  for (const socket of sockets) socket.destroy();
  const sorted = tookMs.toSorted((a, b) => a - b);
  const told = {
    begunPerSecond: begun / elapsedSeconds,
    answeredPerSecond: answered / elapsedSeconds,
    statuses,
    lost: lostMeanwhile,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
  };
  console.log(JSON.stringify(told));
}

for await (const line of createInterface({ input: process.stdin })) await flood(JSON.parse(line) as Wish);
