/** Ports of 127.0.0.1. */
import { createServer, type Server } from "node:net";

/** Below those that the system gives to whoever connects, of which other tests may have thousands. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;

/** A port that was free a moment ago. Only for what must know a port before it listens; anything else listens on 0. */
export async function freePort(): Promise<number> {
  const { port, release } = await takeSomePort();
  await release();
  return port;
}

async function takeSomePort(): ReturnType<typeof takePort> {
  for (;;) {
    try {
      return await takePort(FIRST_PORT + Math.floor(Math.random() * PORT_COUNT));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    }
  }
}

/** `count` free ports that follow each other; the first of them. */
export async function freePortRun(count: number): Promise<number> {
  for (;;) {
    const first = await takeSomePort();
    const taken = [first];
    try {
      for (let index = 1; index < count; index++) taken.push(await takePort(first.port + index));
      return first.port;
    } catch {
      // One of the next ports belongs to somebody: look elsewhere.
    } finally {
      await Promise.all(taken.map((port) => port.release()));
    }
  }
}

/** Holds a port (0: any) until it is released. */
export function takePort(port = 0): Promise<{ port: number; release: () => Promise<void> }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      resolve({ port: portOf(server), release: () => new Promise((done) => server.close(() => done())) });
    });
  });
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server listens on no port");
  return address.port;
}
