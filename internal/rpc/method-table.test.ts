/** Every method of every service, called by everybody that there is: exactly the table below, and nothing beside it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Code } from "@connectrpc/connect";
import { create, type DescMessage, type DescMethod, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Log } from "../../api/gen/cambium/v1/log_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { Health } from "../../api/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { SystemClock } from "../base/clock.js";
import { Access } from "../identity/access.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { allRoles, type Role } from "../identity/role.js";
import { methodName } from "./method-name.js";
import { audiences, methodTable } from "./method-table.js";
import { frame, sendHttp2, startTestServer, type TestServer } from "./testing/test-server.js";

const services: readonly DescService[] = [
  KVStore,
  Log,
  Cluster,
  Replication,
  Health,
  ServerReflection,
  ServerReflectionAlpha,
];

/** r: reader, w: writer, a: admin, p: peer, -: with no identity. Written out, so that a slip in the table is seen. */
const expected: Readonly<Record<string, string>> = {
  "cambium.v1.KVStore/Get": "rwa",
  "cambium.v1.KVStore/BatchGet": "rwa",
  "cambium.v1.KVStore/Scan": "rwa",
  "cambium.v1.KVStore/Set": "wap",
  "cambium.v1.KVStore/Delete": "wap",
  "cambium.v1.KVStore/Write": "wap",
  "cambium.v1.KVStore/Batch": "rwap",
  "cambium.v1.KVStore/DeleteRange": "wap",
  "cambium.v1.KVStore/Touch": "wap",
  "cambium.v1.KVStore/Increment": "wap",
  "cambium.v1.KVStore/Txn": "wap",
  "cambium.v1.KVStore/ScanStream": "rwa",
  "cambium.v1.KVStore/GetUpdates": "rwa",
  "cambium.v1.KVStore/Watch": "rwa",
  "cambium.v1.KVStore/WatchMany": "rwa",
  "cambium.v1.KVStore/AddWatch": "rwa",
  "cambium.v1.KVStore/RemoveWatch": "rwa",
  "cambium.v1.Log/Produce": "wap",
  "cambium.v1.Log/Consume": "rwa",
  "cambium.v1.Log/ProduceStream": "wa",
  "cambium.v1.Log/ConsumeStream": "rwa",
  "cambium.v1.Log/Truncate": "wap",
  "cambium.v1.Log/GetRange": "rwa",
  "cambium.v1.Cluster/Status": "rwa",
  "cambium.v1.Cluster/AddReplica": "a",
  "cambium.v1.Cluster/RemoveReplica": "a",
  "cambium.v1.Cluster/Promote": "a",
  "cambium.v1.Cluster/Transfer": "a",
  "cambium.v1.Cluster/SetStorageLimits": "a",
  "cambium.v1.Cluster/CreateSnapshot": "a",
  "cambium.v1.Cluster/Backup": "a",
  "cambium.v1.Cluster/SetLogLevel": "a",
  "cambium.v1.Cluster/SlowLog": "a",
  "cambium.v1.Replication/Push": "p",
  "cambium.v1.Replication/Register": "p",
  "cambium.v1.Replication/Survey": "p",
  "cambium.v1.Replication/RequestPromise": "p",
  "cambium.v1.Replication/ReadIndex": "p",
  "grpc.health.v1.Health/Check": "-rwap",
  "grpc.health.v1.Health/List": "-rwap",
  "grpc.health.v1.Health/Watch": "rwap",
  "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "rwa",
  "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "rwa",
};

const methods = services.flatMap((service) => service.methods.map(methodName));

test("every method of every service has a place in the table, and no other has", () => {
  expect([...methodTable.keys()].sort()).toEqual([...methods].sort());
  expect(Object.keys(expected).sort()).toEqual([...methods].sort());
});

test("a method that is missing in the table is found before a node starts, and nobody may call it", () => {
  const access = new Access({
    audiences: new Map([...audiences].filter(([name]) => !name.endsWith("/Promote"))),
    protectedMode: false,
  });
  expect(access.unlisted(methods)).toEqual(["cambium.v1.Cluster/Promote"]);
  const here = { address: "127.0.0.1", authorization: undefined };
  expect(() => access.admit("cambium.v1.Cluster/Promote", here)).toThrow("nobody may call");
});

describe("a request", () => {
  /** Methods whose requests have texts that could be keys. */
  const keyed = services.flatMap((service) =>
    service.methods.filter(({ input }) =>
      input.fields.some(({ name }) => /^(keys?|prefix|start|operations|compares|scan|watch|watches)$/.test(name)),
    ),
  );

  test.each(keyed.map((method) => [methodName(method), method] as const))(
    "that leaves its keys out reaches no single key unseen: %s",
    (name, method) => {
      const reach = methodTable.get(name)?.reach(create(method.input));
      // Nothing to do, everything there is, or a key that no prefix begins: never "no keys" for a field that may have some.
      expect(reach).not.toBe("none");
    },
  );

  test("that names keys anywhere is about all of them", () => {
    const reachOf = <I extends DescMessage>(
      method: DescMethod & { readonly input: I },
      request: MessageInitShape<I>,
    ): unknown => methodTable.get(methodName(method))?.reach(create(method.input, request));
    const [a, b, c, d] = ["a", "b", "c", "d"].map((key) => ({ kind: "key", key }));
    const kv = KVStore.method;
    const txn = {
      compares: [{ key: "a" }],
      then: [{ operation: { case: "get" as const, value: { key: "b" } } }],
      else: [
        { operation: { case: "increment" as const, value: { key: "c" } } },
        { operation: { case: "touch" as const, value: { key: "d" } } },
      ],
    };
    expect(reachOf(kv.txn, txn)).toEqual([a, b, c, d]);
    expect(reachOf(kv.batch, { operations: [...txn.then, ...txn.else] })).toEqual([b, c, d]);
    expect(reachOf(kv.touch, { key: "a" })).toEqual([a]);
    expect(reachOf(kv.increment, { key: "a" })).toEqual([a]);
    const range = { kind: "range", start: "a", end: "b" };
    const prefix = { kind: "prefix", prefix: "a" };
    expect(reachOf(kv.deleteRange, { start: "a", end: "b" })).toEqual([range]);
    expect(reachOf(kv.deleteRange, { all: true })).toBe("all");
    expect(reachOf(kv.scanStream, { scan: { prefix: "a" } })).toEqual([prefix]);
    expect(reachOf(kv.getUpdates, { prefix: "a" })).toEqual([prefix]);
    expect(reachOf(kv.watch, { key: "a" })).toEqual([a]);
    const watches = [{ watch: { key: "a" } }, { watch: { prefix: "a" } }];
    expect(reachOf(kv.watchMany, { watches })).toEqual([a, prefix]);
    expect(reachOf(kv.watchMany, { watches: [...watches, { watch: {} }] })).toBe("all");
    expect(reachOf(kv.addWatch, { watch: { watch: { start: "a", end: "b" } } })).toEqual([range]);
    expect(reachOf(kv.addWatch, { watch: { watch: {} } })).toBe("all");
  });

  test("of the record log, of the slow log and of a backup is about everything", () => {
    for (const name of methods.filter((method) => /\.Log\/|\/(SlowLog|Backup)$/.test(method))) {
      const rule = methodTable.get(name);
      expect(rule && rule.reach(create(rule.method.input))).toBe("all");
    }
  });
});

describe("a server", () => {
  const token = (role: Role, byte = allRoles.indexOf(role)): string => bearerToken(new Uint8Array(32).fill(byte));
  const clusterSecret = new TextEncoder().encode("one secret of some length");
  let running: TestServer;

  beforeAll(async () => {
    const entries = allRoles.map((role) => ({
      name: role,
      roles: [role],
      credential: { kind: "token", sha256: bearerTokenHash(token(role)) } as const,
    }));
    const clock = new SystemClock();
    running = await startTestServer({ clusterSecret, identities: new Identities(entries, () => clock.wallMs()) });
  });
  afterAll(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
  });

  /** What becomes of an empty message; a call that would go on for longer is ended by its deadline. */
  async function codeOf(method: string, authorization: string | undefined): Promise<Code> {
    const headers = {
      ":path": `/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": "100m",
      ...(authorization !== undefined && { authorization }),
    };
    const answer = await sendHttp2(running.port, headers, frame(new Uint8Array()));
    return Number(answer.trailers["grpc-status"] ?? answer.headers["grpc-status"]);
  }

  const refusals = new Set([Code.Unauthenticated, Code.PermissionDenied]);

  test.each(Object.entries(expected))("lets call %s: %s", async (method, who) => {
    const callers: [string, string | undefined][] = [
      ["-", undefined],
      ...allRoles.map((role): [string, string] => [role.charAt(0), `Bearer ${token(role)}`]),
    ];
    let allowed = "";
    for (const [letter, authorization] of callers) {
      const code = await codeOf(method, authorization);
      if (!refusals.has(code)) allowed += letter;
      // Who is known and may not is told so; who is not known is asked to say who it is.
      else expect(code).toBe(letter === "-" ? Code.Unauthenticated : Code.PermissionDenied);
    }
    expect(allowed).toBe(who);
    const byProof = !refusals.has(await codeOf(method, peerAuthorization(clusterSecret)));
    expect(byProof).toBe(who.includes("p"));
    const wrong = await codeOf(method, `Bearer ${token("reader", 77)}`);
    expect(wrong === Code.Unauthenticated).toBe(!who.includes("-"));
  });
});
