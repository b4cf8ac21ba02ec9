/** The short way answers as the long one does: two servers, one of which has it, get the same calls, and do and say the same. */
import { Agent, request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectSocket } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { FakeClock } from "../base/clock.js";
import { epoch, epochMs, seq } from "../base/position.js";
import { ReplicationError } from "../replication/replicator.js";
import { StoreError, type WriteCommand } from "../store/store.js";
import { FastCalls } from "./fast-calls.js";
import { type AnyCall, anyCall } from "./testing/any-calls.js";
import { fuzz } from "./testing/fuzz.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";

/** How much is tried: 1 takes some seconds. */
const SCALE = Number(process.env["CAMBIUM_TEST_CALLS_SCALE"] ?? 1);

interface Answer {
  readonly status: number | string | undefined;
  readonly headers: unknown;
  readonly trailers: unknown;
  readonly body: string;
}

/** A server and connections to it. */
class End {
  readonly running: TestServer;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  #session: ClientHttp2Session | undefined;

  constructor(running: TestServer) {
    this.running = running;
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    this.#session?.destroy();
    await this.running.server.close();
  }

  call(call: AnyCall): Promise<Answer> {
    return call.isHttp2 ? this.#overHttp2(call) : this.#overHttp1(call);
  }

  #overHttp1({ method, path, headers, body, together, isChunked }: AnyCall): Promise<Answer> {
    return new Promise((resolve) => {
      const options = { host: "127.0.0.1", port: this.running.port, agent: this.#agent, method, path };
      const length = isChunked ? {} : { "content-length": String(body.length) };
      const request = httpRequest({ ...options, headers: { ...headers, ...length } }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("latin1");
          resolve({
            status: response.statusCode,
            headers: lasting(response.headers),
            trailers: response.trailers,
            body: text,
          });
        });
      });
      request.on("error", (error) => resolve({ status: "broken off", headers: {}, trailers: {}, body: error.message }));
      if (together < body.length) {
        request.write(body.subarray(0, together));
        setImmediate(() => request.end(body.subarray(together)));
      } else request.end(body);
    });
  }

  #overHttp2({ method, path, headers: { host, ...headers }, body, together }: AnyCall): Promise<Answer> {
    this.#session ??= connectHttp2(this.running.url).on("close", () => (this.#session = undefined));
    const session = this.#session;
    return new Promise((resolve) => {
      const stream = session.request({
        ":method": method,
        ":path": path,
        ...(host !== undefined && { ":authority": host }),
        ...headers,
      });
      const chunks: Buffer[] = [];
      let [answer, trailers]: [Record<string, unknown>, unknown] = [{}, {}];
      stream.on("response", (received) => (answer = received as Record<string, unknown>));
      stream.on("trailers", (received) => (trailers = received));
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", () => undefined);
      stream.on("close", () => {
        const text = Buffer.concat(chunks).toString("latin1");
        resolve({ status: answer[":status"] as number | undefined, headers: lasting(answer), trailers, body: text });
      });
      if (together < body.length) {
        stream.write(body.subarray(0, together));
        setImmediate(() => stream.end(body.subarray(together)));
      } else stream.end(body);
    });
  }
}

/** Of the headers those that two servers should have alike. */
function lasting(headers: object): object {
  const { date: _date, ["x-request-id"]: id, ...rest } = headers as Record<string, unknown>;
  return { ...rest, id: id === "mine" ? id : typeof id };
}

const failures = [
  new StoreError("storage_full", "there is no room", {
    passed: { limit: "storage.max_entries", maximum: 1, actual: 2 },
  }),
  new StoreError("not_master", "this node is a replica"),
  new StoreError("outcome_unknown", "the time was over", { position: { epoch: epoch(1), seq: seq(7) } }),
  new StoreError("overloaded", "too much"),
  new StoreError("condition_failed", "it has changed", {
    failedCondition: { key: Buffer.from("a"), exists: true, modSeq: seq(3), operation: 0 },
  }),
];

/** What the rooms below say to the call. */
const rooms = fc.record({
  failure: fc.oneof({ weight: 9, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat(failures.length - 1) }),
  existed: fc.boolean(),
  sum: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  repeated: fc.boolean(),
  at: fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.constantFrom(127, 128, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1)),
  token: fc.uint8Array({ maxLength: 60 }),
  staleness: fc.option(
    fc.oneof(fc.double({ min: 0, max: 20, noNaN: true }), fc.double({ min: 0, max: 2e9, noNaN: true })),
  ),
});
type Rooms = typeof rooms extends fc.Arbitrary<infer T> ? T : never;

function furnish(
  { store, replicator }: TestServer,
  { failure, existed, sum, at, token, staleness, ...rest }: Rooms,
): void {
  store.failure = failure === null ? undefined : failures[failure];
  replicator.staleness = staleness ?? undefined;
  replicator.failure = new ReplicationError("unreachable", "nobody answers");
  // Nothing comes that a read could wait for.
  const late = (): Promise<never> => Promise.reject(new ReplicationError("timeout", "it does not come"));
  store.whenApplied = late;
  store.reachToken = (given) => (given.length === 1 && given[0]! > 1 ? late() : undefined);
  const position = { epoch: epoch(at), seq: seq(at) };
  const result = { existed, ...(sum !== null && { sum }) };
  store.write = async (commands: readonly WriteCommand[], options) => {
    store.writes.push(commands);
    store.writeOptions.push(options);
    if (store.failure) throw store.failure;
    return { position, token, results: [result], ...(rest.repeated && { repeated: true }) };
  };
  const expiresAtMs = epochMs(store.nowMs + (at % 1e9));
  const entry = { createSeq: seq(Math.min(at, 5)), modSeq: seq(at) };
  const entries: [string, number, object][] = [
    ["a", 10, {}],
    ["b", 0, { expiresAtMs }],
    ["large", 12_000 + (at % 9000), {}],
    ["short-lived", 100, { expiresAtMs: epochMs(store.nowMs - 1) }],
    ["grüße", 300, {}],
    ["😀", 1024, { expiresAtMs }],
  ];
  for (const [key, length, more] of entries) {
    const value = Uint8Array.from({ length }, (_, index) => index * 7);
    store.entries.set(Buffer.from(key).toString("hex"), { value, ...entry, ...more });
  }
}

/** What was asked of the store; how long it may take depends on when exactly. */
function asked({ store }: TestServer): unknown {
  const options = store.writeOptions.map((each) => ({
    ...each,
    confirm: typeof each?.confirm,
    timeoutMs: Math.round((each?.timeoutMs ?? 0) / 1000),
  }));
  return [store.writes, options];
}

let [fast, long]: [End, End] = [undefined!, undefined!];
const carryOut = vi.spyOn(FastCalls.prototype, "carryOut");
beforeAll(async () => {
  const start = async (fastPath: boolean): Promise<End> =>
    new End(await startTestServer({ fastPath, clock: new FakeClock(), corsOrigins: ["https://page.example"] }));
  [fast, long] = [await start(true), await start(false)];
});
afterAll(async () => {
  await Promise.all([fast.close(), long.close()]);
});
describe("the short way", () => {
  test("does and says what the long way does and says, whatever comes", { timeout: SCALE * 120_000 }, async () => {
    let calls = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(anyCall, rooms), { minLength: 1, maxLength: 20 }), async (all) => {
        for (const { running } of [fast, long]) {
          running.store.writes.length = 0;
          running.store.writeOptions.length = 0;
        }
        for (const [call, around] of all) {
          for (const { running } of [fast, long]) furnish(running, around);
          calls++;
          const [answer, right] = await Promise.all([fast.call(call), long.call(call)]);
          expect(answer).toEqual(right);
        }
        expect(asked(fast.running)).toEqual(asked(long.running));
        for (const { running } of [fast, long]) expect(running.bugs).toEqual([]);
      }),
      { numRuns: 100 * SCALE },
    );
    // Or else the two would be the same, and nothing would have been compared.
    const taken = carryOut.mock.results.filter(({ value }) => value === true).length;
    expect(taken).toBeGreaterThan(calls / 10);
    expect(taken).toBeLessThan(calls);
  });

  test("answers noise as the long way does", { timeout: SCALE * 120_000 }, async () => {
    const servers = await Promise.all(
      [true, false].map((fastPath) =>
        startTestServer({ fastPath, serverLimits: { requestTimeoutMs: 500, headersTimeoutMs: 500 } }),
      ),
    );
    for (const running of servers)
      furnish(running, {
        failure: null,
        existed: true,
        sum: 5n,
        repeated: false,
        at: 9,
        token: new Uint8Array(3),
        staleness: 1,
      });
    const noise = fc.oneof(fuzz["requests of HTTP/1.1"]!.input, fuzz["requests of HTTP/1.1 with bytes changed"]!.input);
    // Now and then chance makes a call that is right, which goes the short way: here it does each time.
    const right = fc.constantFrom("Get", "Set").map((method) => {
      const body = '{"key":"a"}';
      const head = `POST /cambium.v1.KVStore/${method} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
      return Buffer.from(`${head}content-length: ${body.length}\r\n\r\n${body}`);
    });
    const mostlyNoise = fc.oneof({ weight: 20, arbitrary: noise }, { weight: 1, arbitrary: right });
    await fc.assert(
      // Many at a time, since some have to wait until the server has waited long enough.
      fc.asyncProperty(fc.array(mostlyNoise, { minLength: 60, maxLength: 60, size: "max" }), async (all) => {
        await Promise.all(
          all.map(async (bytes) => {
            const [said, right] = await Promise.all(servers.map(({ port }) => answersTo(port, bytes)));
            expect(said).toBe(right);
          }),
        );
        for (const { bugs, errors } of servers) expect([bugs, errors]).toEqual([[], []]);
      }),
      { numRuns: 3 * SCALE, endOnFailure: true },
    );
    await Promise.all(servers.map(({ server }) => server.close()));
  });
});

const LAST = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/** A head of an answer: its first line, and its headers. */
const HEAD = /(HTTP\/1\.1 \d{3} [^\r\n]*\r\n)((?:[^\r\n]+\r\n)*)(?=\r\n)/g;

/** Everything that a server answers to some bytes, until it has ended the connection; headers sorted, whose order means nothing. */
function answersTo(port: number, bytes: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connectSocket(port, "127.0.0.1", () => socket.write(Buffer.concat([bytes, Buffer.from(LAST)])));
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      const text = Buffer.concat(chunks).toString("latin1");
      const kept = text.replaceAll(/^(?:date|x-request-id): .*\r\n/gim, "");
      const sorted = (headers: string): string => headers.split("\r\n").slice(0, -1).sort().join("\r\n");
      resolve(kept.replaceAll(HEAD, (_, first: string, headers: string) => `${first}${sorted(headers)}\r\n`));
    });
  });
}
