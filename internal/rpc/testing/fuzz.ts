/** Makers of noise that is nearly right: whole connections of HTTP/1.1 and HTTP/2, envelopes, and bodies. */
import { connect as connectSocket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { Cluster } from "../../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore, WriteRequestSchema } from "../../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../../api/gen/cambium/v1/log_pb.js";
import { Replication } from "../../../api/gen/cambium/v1/replication_pb.js";
import { Health } from "../../../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../../api/gen/grpc/reflection/v1/reflection_pb.js";
import { methodName } from "../method-name.js";
import { frame as frameOfHttp2, headersBlock, type Target } from "./abuse.js";

export type FuzzTarget = Target;

export interface Fuzz {
  readonly input: fc.Arbitrary<Uint8Array>;
  /** Resolves once the connection is over, or quiet. */
  readonly send: (target: FuzzTarget, bytes: Uint8Array) => Promise<void>;
}

/** How long a connection may stay without a word, when all was sent. */
const QUIET_MS = 30;

/** Sends all, ends its half, and waits for the other's. */
function sendBytes({ host, port }: Target, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = connectSocket(port, host, () => socket.write(bytes));
    const finish = (): void => {
      socket.destroy();
    };
    socket.setTimeout(QUIET_MS, finish);
    socket.resume();
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
  });
}

/** All but those that change who leads, or how much may be stored: what comes after noise is to be answered as before. */
const METHODS = [KVStore, Log, Health, ServerReflection]
  .flatMap(({ methods }) => methods)
  .concat(Cluster.method.status, Cluster.method.slowLog, Cluster.method.backup)
  .concat(Replication.method.push, Replication.method.survey, Replication.method.readIndex)
  .map((method) => `/${methodName(method)}`);
const TYPES = [
  "application/json",
  "application/proto",
  "application/connect+json",
  "application/connect+proto",
  "application/grpc",
  "application/grpc+json",
  "application/grpc-web",
  "application/grpc-web-text",
  "text/plain",
];

/** Changes a few bytes of what was right: one exchanged, some gone, some doubled, or noise put in. */
function mutated(right: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    kind: fc.constantFrom("set", "cut", "double", "insert"),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.integer({ min: 1, max: 16 }),
    noise: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  });
  return fc.tuple(right, fc.array(change, { maxLength: 4 })).map(([bytes, changes]) =>
    changes.reduce<Uint8Array>((before, { kind, at, length, noise }) => {
      const from = Math.floor(at * before.length);
      const [head, middle, tail] = [
        before.subarray(0, from),
        before.subarray(from, from + length),
        before.subarray(from + length),
      ];
      switch (kind) {
        case "set":
          return Buffer.concat([head, noise.subarray(0, middle.length), tail]);
        case "cut":
          return Buffer.concat([head, tail]);
        case "double":
          return Buffer.concat([head, middle, middle, tail]);
        default:
          return Buffer.concat([head, noise, middle, tail]);
      }
    }, bytes),
  );
}

const json = fc.oneof(
  fc.json().map((text) => Buffer.from(text)),
  mutated(
    fc
      .constantFrom(
        '{"key":"k","value":"dg==","ttlMs":"5"}',
        '{"operations":[{"set":{"key":"a","value":"YQ=="}},{"delete":{"key":"b"}}]}',
        '{"keys":["a","b"],"consistency":{"local":{}}}',
        '{"prefix":"a","limit":3,"keysOnly":true}',
      )
      .map((text) => Buffer.from(text)),
  ),
);

const protobuf = mutated(
  fc.constant(
    toBinary(
      WriteRequestSchema,
      create(WriteRequestSchema, {
        operations: [
          { operation: { case: "set", value: { key: "a", value: new Uint8Array(10), ttlMs: 7n } } },
          { operation: { case: "delete", value: { key: "b" } } },
        ],
      }),
    ),
  ),
);

const body = fc.oneof(json, protobuf, fc.uint8Array({ maxLength: 200 }));

/** With a length that is right, or not. */
const envelopes = fc
  .array(fc.tuple(fc.nat(255), body, fc.option(fc.nat(0xffffffff), { freq: 4 })), { maxLength: 4 })
  .map((messages) =>
    Buffer.concat(
      messages.map(([flags, message, length]) => {
        const head = Buffer.alloc(5);
        head[0] = flags > 3 ? 0 : flags;
        head.writeUInt32BE(length ?? message.length, 1);
        return Buffer.concat([head, message]);
      }),
    ),
  );

const headerText = fc.stringMatching(/^[\t\x20-\x7e\x80-\xff]{0,60}$/);
const httpHeaders = fc.array(
  fc.tuple(
    fc.constantFrom(
      "connect-protocol-version",
      "connect-timeout-ms",
      "grpc-timeout",
      "grpc-encoding",
      "content-encoding",
      "accept-encoding",
      "authorization",
      "origin",
      "if-none-match",
      "x-any",
      "te",
      "expect",
      "upgrade",
    ),
    headerText,
  ),
  { maxLength: 5 },
);

const request = fc
  .record({
    method: fc.constantFrom("POST", "GET", "OPTIONS", "HEAD", "PUT", "PATCH"),
    path: fc.oneof(
      fc.constantFrom(...METHODS),
      fc.webPath().map((path) => path || "/"),
    ),
    type: fc.constantFrom(...TYPES),
    headers: httpHeaders,
    body: fc.oneof(body, envelopes),
    isChunked: fc.boolean(),
  })
  .map(({ method, path, type, headers, body, isChunked }) => {
    const framing = isChunked ? "transfer-encoding: chunked" : `content-length: ${body.length}`;
    const lines = [
      `${method} ${path} HTTP/1.1`,
      "host: localhost",
      `content-type: ${type}`,
      framing,
      ...headers.map(([name, value]) => `${name}: ${value}`),
    ];
    const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
    if (!isChunked) return Buffer.concat([head, body]);
    const chunk = body.length === 0 ? [] : [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from("\r\n")];
    return Buffer.concat([head, ...chunk, Buffer.from("0\r\n\r\n")]);
  });

const requests = fc.array(request, { minLength: 1, maxLength: 3 }).map((all) => Buffer.concat(all));

const http2Frame = fc
  .record({
    type: fc.nat(12),
    flags: fc.nat(255),
    stream: fc.constantFrom(0, 1, 3, 5, 2, 2 ** 31 - 1),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.constantFrom(...METHODS).map((path) => headersBlock(path)),
      envelopes,
    ),
  })
  .map(({ type, flags, stream, payload }) => frameOfHttp2(type, flags, stream, payload));

const call = fc
  .tuple(fc.constantFrom(...METHODS), fc.oneof(body, envelopes))
  .map(([path, payload]) => [
    frameOfHttp2(1, 4, 1, headersBlock(path)),
    frameOfHttp2(0, 1, 1, payload.subarray(0, 16_000)),
  ]);

const http2 = fc
  .tuple(fc.oneof(call, fc.array(http2Frame, { maxLength: 10 })), fc.array(http2Frame, { maxLength: 5 }))
  .map(([first, then]) =>
    Buffer.concat([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1"),
      frameOfHttp2(4, 0, 0, Buffer.alloc(0)),
      ...first,
      ...then,
    ]),
  );

export const fuzz: Readonly<Record<string, Fuzz>> = {
  "raw bytes": { input: fc.uint8Array({ maxLength: 500 }), send: sendBytes },
  "requests of HTTP/1.1": { input: requests, send: sendBytes },
  "requests of HTTP/1.1 with bytes changed": { input: mutated(requests), send: sendBytes },
  "frames of HTTP/2": { input: http2, send: sendBytes },
  "frames of HTTP/2 with bytes changed": { input: mutated(http2), send: sendBytes },
};
