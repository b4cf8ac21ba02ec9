/** A server with fake rooms behind it, and clients that nobody here wrote the other end of. */
import { request as httpRequest } from "node:http";
import { connect as connectHttp2, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { SystemClock } from "../../base/clock.js";
import { silentLogger } from "../../base/logger.js";
import { RpcServer, type RpcServerOptions } from "../server.js";
import { FakeBackups } from "./fake-backups.js";
import { FakeRecords } from "./fake-records.js";
import { FakeReplicator, FakeStore } from "./fake-rooms.js";
import { FakeWatches } from "./fake-watches.js";

export interface TestServer {
  readonly server: RpcServer;
  readonly store: FakeStore;
  readonly records: FakeRecords;
  readonly watches: FakeWatches;
  readonly backups: FakeBackups;
  readonly replicator: FakeReplicator;
  readonly port: number;
  readonly url: string;
  /** What failed an assertion. */
  readonly bugs: Error[];
  /** Error lines of the log. */
  readonly errors: string[];
}

export async function startTestServer(options: Partial<RpcServerOptions> = {}): Promise<TestServer> {
  const store = new FakeStore();
  const records = new FakeRecords();
  const watches = new FakeWatches();
  const backups = new FakeBackups();
  const replicator = new FakeReplicator();
  const bugs: Error[] = [];
  const errors: string[] = [];
  const server: RpcServer = await RpcServer.listen({
    store,
    records,
    watches,
    backups,
    replicator,
    clock: new SystemClock(),
    logger: { ...silentLogger, error: (message, fields) => errors.push(`${message} ${JSON.stringify(fields)}`) },
    version: "1.2.3",
    host: "127.0.0.1",
    port: 0,
    advertisedAddress: () => "node-1.example:8080",
    limits: { keyBytesMax: 4096, valueBytesMax: 1024 * 1024, messageBytesMax: 4 * 1024 * 1024 },
    corsOrigins: [],
    allowedHosts: [],
    protectedMode: true,
    fastPath: process.env["CAMBIUM_TEST_FAST_PATH"] !== "off",
    writeTimeoutMs: 10_000,
    maxReadWaitMs: 5000,
    forwardWrites: false,
    readyMaxStalenessMs: 0,
    drainTimeoutMs: 5000,
    logControl: { level: "info" },
    slowThresholdMs: 100,
    onBug: (error) => bugs.push(error),
    ...options,
  });
  return {
    server,
    store,
    records,
    watches,
    backups,
    replicator,
    port: server.port,
    url: `http://127.0.0.1:${server.port}`,
    bugs,
    errors,
  };
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly text: string;
}

/** One request over HTTP/1.1, on a connection of its own. */
export function send(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array } = {},
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const { method = "POST", headers = {}, body } = options;
    const request = httpRequest({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const whole = Buffer.concat(chunks);
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole, text: whole.toString() });
      });
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** A JSON call, as curl makes it. */
export async function callJson(
  port: number,
  method: string,
  message: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: HttpAnswer["headers"]; json: Record<string, unknown> }> {
  const answer = await send(port, `/${method}`, {
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(message),
  });
  return { ...answer, json: JSON.parse(answer.text) as Record<string, unknown> };
}

/** Raw bytes over a connection of its own, and what comes back until the server ends it or `until` is satisfied. */
export function sendRaw(
  port: number,
  bytes: string | Uint8Array,
  until: (received: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve) => {
    let received = "";
    const socket: Socket = connectSocket(port, "127.0.0.1", () => socket.write(bytes));
    socket.setEncoding("latin1");
    const end = (): void => {
      socket.destroy();
      resolve(received);
    };
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (until(received)) end();
    });
    socket.on("error", end);
    socket.on("close", end);
  });
}

/** One request over HTTP/2, whatever its body means. Without `end` the request stays open on the sender's side. */
export function sendHttp2(
  port: number,
  headers: OutgoingHttpHeaders,
  body: Uint8Array,
  options: { end: boolean } = { end: true },
): Promise<{ headers: IncomingHttpHeaders; trailers: IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on("error", reject);
    const stream = session.request({ ":method": "POST", ...headers });
    const chunks: Buffer[] = [];
    let answer: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (received) => {
      answer = received;
    });
    stream.on("trailers", (received: IncomingHttpHeaders) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("close", () => {
      session.destroy();
      resolve({ headers: answer, trailers, body: Buffer.concat(chunks) });
    });
    if (options.end) stream.end(body);
    else stream.write(body);
  });
}

/** A gRPC frame. */
export function frame(message: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
