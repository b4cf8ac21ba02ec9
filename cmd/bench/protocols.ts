/** How a get and a set of one key are said in each protocol that the load generator speaks, to our servers and to others. */
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { GetRequestSchema, SetRequestSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Wire } from "./caller.js";
import { connectJsonWire, connectWire } from "./connect-wire.js";
import { connectHttp2Wire, grpcWire } from "./http2-wire.js";
import { redisCommand, redisPairWire, redisWire } from "./redis-wire.js";
import { VALUE } from "./workload.js";

export type Operation = "get" | "set";

interface Speech {
  readonly wire: Wire;
  readonly path: Readonly<Record<Operation, string>>;
  readonly message: Readonly<Record<Operation, (key: string) => Uint8Array>>;
  /** What every answer contains; empty: any answer that is no error. */
  readonly expected: Readonly<Record<Operation, Buffer>>;
}

const ours = { get: "/cambium.v1.KVStore/Get", set: "/cambium.v1.KVStore/Set" } as const;
const etcds = { get: "/etcdserverpb.KV/Range", set: "/etcdserverpb.KV/Put" } as const;
const bytes = Buffer.from(VALUE);

const ANY = Buffer.alloc(0);
const valueOrAny = { get: bytes, set: ANY };

const binary = {
  get: (key: string) => toBinary(GetRequestSchema, create(GetRequestSchema, { key })),
  set: (key: string) => toBinary(SetRequestSchema, create(SetRequestSchema, { key, value: VALUE })),
};

export const protocols = {
  /** Connect's unary calls over HTTP/1.1, binary and JSON; over HTTP/2; and gRPC. */
  connect: { wire: connectWire, path: ours, message: binary, expected: valueOrAny },
  "connect-json": {
    wire: connectJsonWire,
    path: ours,
    message: {
      get: (key) => Buffer.from(toJsonString(GetRequestSchema, create(GetRequestSchema, { key }))),
      set: (key) => Buffer.from(toJsonString(SetRequestSchema, create(SetRequestSchema, { key, value: VALUE }))),
    },
    expected: { get: Buffer.from(bytes.toString("base64")), set: ANY },
  },
  "connect-http2": { wire: connectHttp2Wire, path: ours, message: binary, expected: valueOrAny },
  grpc: { wire: grpcWire, path: ours, message: binary, expected: valueOrAny },
  /** etcd's gRPC: RangeRequest has the key as its first field, PutRequest the value as its second. */
  etcd: {
    wire: grpcWire,
    path: etcds,
    message: {
      get: (key) => field(1, Buffer.from(key)),
      set: (key) => Buffer.concat([field(1, Buffer.from(key)), field(2, bytes)]),
    },
    expected: valueOrAny,
  },
  redis: {
    wire: redisWire,
    path: { get: "", set: "" },
    message: {
      get: (key) => redisCommand("GET", key),
      set: (key) => redisCommand("SET", key, bytes),
    },
    expected: valueOrAny,
  },
  /** A set that one replica must have acknowledged before the answer. */
  "redis-wait": {
    wire: redisPairWire,
    path: { get: "", set: "" },
    message: {
      get: (key) => Buffer.concat([redisCommand("GET", key), redisCommand("PING")]),
      set: (key) => Buffer.concat([redisCommand("SET", key, bytes), redisCommand("WAIT", "1", "0")]),
    },
    expected: { get: bytes, set: Buffer.from("+OK\r\n:1\r\n") },
  },
} as const satisfies Readonly<Record<string, Speech>>;

export type Protocol = keyof typeof protocols;

/** A field of bytes in a protobuf message, no longer than 127 bytes. */
function field(number: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2, value.length]), value]);
}
