/** Makers of calls of the methods that have a short way: right ones, odd ones and broken ones, in every form in which they may come. */
import { create, type DescMessage, toBinary, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  BatchGetRequestSchema,
  BatchRequestSchema,
  DeleteRequestSchema,
  GetRequestSchema,
  IncrementRequestSchema,
  SetRequestSchema,
} from "../../../api/gen/cambium/v1/kvstore_pb.js";
import { frame } from "./test-server.js";

export interface AnyCall {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Over HTTP/2; else HTTP/1.1. */
  readonly isHttp2: boolean;
  /** Bytes of the body that leave with the head; the others come a moment later. */
  readonly together: number;
  /** Over HTTP/1.1, without a length that is told before. */
  readonly isChunked: boolean;
}

const known = fc.constantFrom("a", "b", "large", "short-lived", "grüße", "😀", "absent");
const key = fc.oneof(
  { weight: 8, arbitrary: known },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
  { weight: 1, arbitrary: fc.constantFrom("", "x".repeat(5000), '"', "\\", "\u0000") },
);
const bytes = fc.uint8Array({ maxLength: 40 });
const value = fc.oneof(
  { weight: 9, arbitrary: bytes },
  { weight: 1, arbitrary: fc.nat(80_000).map((length) => new Uint8Array(length).fill(7)) },
);
const uint64 = fc.oneof(
  fc.bigInt({ min: 0n, max: 300n }),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.constantFrom(2n ** 49n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n),
);
const int64 = fc.oneof(fc.bigInt({ min: -300n, max: 300n }), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
/** Those that need not wait for anything that does not come. */
const consistency = fc.record(
  {
    atLeast: fc.constantFrom(new Uint8Array(0), new Uint8Array([1]), new Uint8Array([1, 2, 3])),
    atLeastSeq: fc.constantFrom(0n, 1n),
    maxStalenessMs: fc.bigInt({ min: 0n, max: 20n }),
    linearizable: fc.boolean(),
  },
  { requiredKeys: [] },
);
const acknowledge = fc.constantFrom(0, 0, 1, 2, 3, 4, 1000, -1);
const retry = { clientId: fc.constantFrom("", "me", "y".repeat(65)), clientSeq: fc.oneof(fc.constant(0n), uint64) };
const condition = { ifSeq: uint64, ifToken: fc.constantFrom(new Uint8Array(0), new Uint8Array([1, 2, 3])) };

function some<T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Partial<T>> {
  return fc.record(fields, { requiredKeys: [] }) as fc.Arbitrary<Partial<T>>;
}

/** An operation of a batch: mostly a get, as they come most, and else one that changes something, or none. */
const operation = fc.oneof(
  { weight: 10, arbitrary: operationOf("get", some({ key, consistency })) },
  { weight: 1, arbitrary: operationOf("set", some({ key, value: bytes, wantPrevious: fc.boolean() })) },
  { weight: 1, arbitrary: fc.constant({}) },
);

function operationOf(kind: string, value: fc.Arbitrary<object>): fc.Arbitrary<object> {
  const timeoutMs = fc.constantFrom(0, 0, 0, 50_000);
  return fc.record({ operation: value.map((each) => ({ case: kind, value: each })), timeoutMs });
}

interface Kind {
  readonly name: string;
  readonly schema: DescMessage;
  readonly fields: fc.Arbitrary<Record<string, unknown>>;
}

const kinds: readonly Kind[] = [
  { name: "Get", schema: GetRequestSchema, fields: some({ key, consistency }) },
  {
    name: "BatchGet",
    schema: BatchGetRequestSchema,
    fields: some({
      keys: fc.oneof(
        fc.array(key, { maxLength: 5 }),
        fc.nat(1100).map((count) => Array<string>(count).fill("a")),
      ),
      consistency,
    }),
  },
  {
    name: "Batch",
    schema: BatchRequestSchema,
    fields: some({
      operations: fc.oneof(
        { weight: 3, arbitrary: fc.array(operationOf("get", some({ key, consistency })), { maxLength: 5 }) },
        { weight: 2, arbitrary: fc.array(operation, { maxLength: 5 }) },
        {
          weight: 1,
          arbitrary: fc.nat(1100).map((count) => {
            return Array.from({ length: count }, () => ({ operation: { case: "get", value: { key: "b" } } }));
          }),
        },
      ),
      maxBytes: fc.constantFrom(0, 0, 1, 500, 2 ** 32 - 1),
      noWaiting: fc.constantFrom(true, true, true, false),
    }),
  },
  {
    name: "Set",
    schema: SetRequestSchema,
    fields: some({
      key,
      value,
      ttlMs: uint64,
      acknowledge,
      keepTtl: fc.boolean(),
      ifAbsent: fc.boolean(),
      wantPrevious: fc.boolean(),
      ...condition,
      ...retry,
    }),
  },
  {
    name: "Delete",
    schema: DeleteRequestSchema,
    fields: some({ key, acknowledge, wantPrevious: fc.boolean(), ...condition, ...retry }),
  },
  {
    name: "Increment",
    schema: IncrementRequestSchema,
    fields: some({ key, delta: int64, initial: int64, min: int64, max: int64, ttlMs: uint64, acknowledge, ...retry }),
  },
];
/** Of a request with no more than what it must have. */
const plain: readonly fc.Arbitrary<Record<string, unknown>>[] = [
  fc.record({ key: known }),
  fc.record({ keys: fc.array(known, { minLength: 1, maxLength: 5 }) }),
  fc.record({
    operations: fc.array(operationOf("get", fc.record({ key: known })), { minLength: 1, maxLength: 5 }),
    noWaiting: fc.constant(true),
  }),
  fc.record({ key: known, value: bytes }),
  fc.record({ key: known }),
  fc.record({ key: known, delta: int64 }),
];

/** Message after message: fields that come twice, are unknown, cut off, or of another kind than they should be. */
function spoilt(right: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const unknown = fc.constantFrom(
    [0xfa, 0x01, 0x01, 0x00],
    [0x78, 0x01],
    [0x0b, 0x0c],
    [0x08, 0x01],
    [0x0a, 0x80, 0x01],
    [0x0a, 0x81, 0x00, 0x61],
    [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    [0x0a, 0x02, 0xc3, 0x28],
    [0x12, 0x00],
  );
  return fc.oneof(
    { weight: 20, arbitrary: right },
    { weight: 2, arbitrary: fc.tuple(right, right).map(([one, other]) => Buffer.concat([one, other])) },
    {
      weight: 1,
      arbitrary: fc.tuple(right, fc.nat(40)).map(([one, cut]) => one.subarray(0, Math.max(0, one.length - cut))),
    },
    { weight: 2, arbitrary: fc.tuple(right, unknown).map(([one, more]) => Buffer.concat([one, Buffer.from(more)])) },
    {
      weight: 2,
      arbitrary: fc.tuple(right, fc.nat(), fc.nat(255)).map(([one, at, byte]) => {
        const changed = Buffer.from(one);
        if (changed.length > 0) changed[at % changed.length] = byte;
        return changed;
      }),
    },
    { weight: 1, arbitrary: bytes },
  );
}

/** The same message in another spelling, and messages that are nearly the same. */
function respelt(json: unknown, choices: readonly number[]): string {
  let next = 0;
  const choose = (count: number): number => (choices[next++ % choices.length] ?? 0) % count;
  const space = (): string => ["", "", "", " ", "\n\t"][choose(5)]!;
  const text = (written: string): string => {
    const usual = JSON.stringify(written);
    switch (choose(8)) {
      case 0:
        return `"${Array.from(written, (each) => (each.length === 1 ? `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}` : each)).join("")}"`;
      case 1:
        return usual.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
      case 2:
        return /^"-?\d{1,15}"$/.test(usual) ? usual.slice(1, -1) : usual;
      case 3:
        return /^"-?\d{1,15}"$/.test(usual) ? `${usual.slice(1, -1)}.0` : usual;
      default:
        return usual;
    }
  };
  const write = (part: unknown): string => {
    if (typeof part === "string") return text(part);
    if (Array.isArray(part)) return `[${space()}${part.map(write).join(`,${space()}`)}]`;
    if (typeof part !== "object" || part === null) return JSON.stringify(part);
    const members = Object.entries(part).map(([name, member]): string => {
      const spelt = choose(6) === 0 ? name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : name;
      return `${JSON.stringify(spelt)}${space()}:${space()}${choose(12) === 0 ? "null" : write(member)}`;
    });
    if (choose(12) === 0 && members[0] !== undefined) members.push(members[0]);
    if (choose(16) === 0) members.push('"unknown":1');
    if (choose(24) === 0) members.push('"__proto__":{}');
    return `${space()}{${space()}${members.join(`${space()},`)}}${space()}`;
  };
  return write(json);
}

const wrongJson = fc.constantFrom(
  "",
  "null",
  "[]",
  "7",
  '"a"',
  "{",
  '{"key":}',
  '{"key":"a"}x',
  '{"key":5}',
  '{"key":"\\ud800"}',
  '\ufeff{"key":"a"}',
  '{"key":"a","consistency":[]}',
);

function bodyOf({ schema, fields }: Kind, isJson: boolean): fc.Arbitrary<Uint8Array> {
  const message = fields.map((init) => create(schema, init));
  if (!isJson) return spoilt(message.map((each) => toBinary(schema, each)));
  const spelling = fc.oneof(
    { weight: 1, arbitrary: fc.constant([7]) },
    { weight: 1, arbitrary: fc.array(fc.nat(1000), { minLength: 1, maxLength: 20 }) },
  );
  const written = fc.tuple(message, spelling).map(([each, choices]) => {
    try {
      return Buffer.from(respelt(toJson(schema, each), choices));
    } catch {
      // It has no form in JSON.
      return Buffer.from("{}");
    }
  });
  const rough = fc.oneof(
    { weight: 12, arbitrary: written },
    { weight: 1, arbitrary: wrongJson.map((text) => Buffer.from(text)) },
    { weight: 1, arbitrary: written.map((text) => Buffer.concat([text, Buffer.from([0xff])])) },
  );
  return rough;
}

const rareHeader = fc.oneof(
  fc.tuple(fc.constant("content-encoding"), fc.constantFrom("identity", "gzip", "nonsense", "")),
  fc.tuple(fc.constant("connect-timeout-ms"), fc.constantFrom("60000", "0", "-1", "x", "99999999999", "9999999999")),
  fc.tuple(
    fc.constant("grpc-timeout"),
    fc.constantFrom("60S", "1H", "60000m", "9000000u", "0m", "x", "1X", "99999999H"),
  ),
  fc.tuple(fc.constant("grpc-encoding"), fc.constantFrom("identity", "gzip", "nonsense")),
  fc.tuple(fc.constant("grpc-accept-encoding"), fc.constantFrom("identity,gzip", "gzip", "nonsense", "br, gzip")),
  fc.tuple(fc.constant("accept-encoding"), fc.constantFrom("gzip", "br", "identity")),
  fc.tuple(fc.constant("connect-protocol-version"), fc.constantFrom("1", "2")),
  fc.tuple(fc.constant("authorization"), fc.constantFrom("Bearer x", "Cambium-Peer x", "")),
  fc.tuple(fc.constant("x-request-id"), fc.constantFrom("mine", "not mine", "y".repeat(200))),
  fc.tuple(fc.constant("origin"), fc.constantFrom("http://localhost", "https://page.example", "https://evil.example")),
  fc.tuple(fc.constant("sec-fetch-site"), fc.constantFrom("same-origin", "cross-site")),
  fc.tuple(fc.constant("host"), fc.constantFrom("localhost", "127.0.0.1:1", "evil.example", "a b")),
  fc.tuple(fc.constant("cambium-forwarded"), fc.constant("1")),
  fc.tuple(fc.constant("if-none-match"), fc.constant("*")),
  fc.tuple(fc.constant("te"), fc.constant("trailers")),
);
const headers = fc.oneof(
  { weight: 6, arbitrary: fc.constant<[string, string][]>([]) },
  { weight: 2, arbitrary: fc.array(rareHeader, { maxLength: 3 }) },
);

const forms = fc.constantFrom(
  ...([
    ["application/proto", "binary"],
    ["application/proto", "binary"],
    ["application/proto", "binary"],
    ["application/json", "json"],
    ["application/json", "json"],
    ["application/json", "json"],
    ["application/json; charset=utf-8", "json"],
    ["application/grpc", "grpc"],
    ["application/grpc", "grpc"],
    ["application/grpc+proto", "grpc"],
    ["application/grpc+json", "grpc-json"],
    ["application/grpc-web+proto", "grpc"],
    ["application/connect+proto", "grpc"],
    ["text/plain", "binary"],
    ["APPLICATION/PROTO", "binary"],
  ] as const),
);

export const anyCall: fc.Arbitrary<AnyCall> = fc
  .tuple(fc.nat(kinds.length - 1), fc.boolean(), forms, fc.integer({ min: 0, max: 19 }))
  .chain(([index, isPlain, [type, form], luck]) => {
    const kind = { ...kinds[index]!, ...(isPlain && { fields: plain[index]! }) };
    const message = bodyOf(kind, form.endsWith("json"));
    const body = form.startsWith("grpc")
      ? fc.tuple(message, fc.integer({ min: 0, max: 29 })).map(([each, how]) => {
          const framed = frame(each, how === 0 ? 1 : 0);
          if (how === 1) return Buffer.concat([framed, framed]);
          return how === 2 ? framed.subarray(0, -1) : framed;
        })
      : message;
    return fc.record({
      method: fc.constant(luck === 0 ? "GET" : luck === 1 ? "PUT" : "POST"),
      path: fc.constant(`/cambium.v1.KVStore/${kind.name}${luck === 2 ? "?x=1" : ""}`),
      headers: headers.map((pairs) => Object.assign({ "content-type": type }, Object.fromEntries(pairs))),
      body,
      isHttp2: fc.boolean(),
      together: fc.constant(luck === 3 ? 3 : Infinity),
      isChunked: fc.constant(luck === 4),
    });
  });
