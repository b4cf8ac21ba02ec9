/** Callers who may not call, and nodes that are not of this cluster or of this release: refused early, and in words. */
import { connect as connectHttp2 } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { Replication, SurveyRequestSchema } from "../../api/gen/cambium/v1/replication_pb.js";
import { idToBytes } from "../base/ids.js";
import { silentLogger } from "../base/logger.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { CLUSTER, NODE, OTHER_NODE } from "./testing/fake-rooms.js";
import { frame, send, sendHttp2, sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return running;
}

const clusterSecret = new TextEncoder().encode("one secret of some length");
const SURVEY = "/cambium.v1.Replication/Survey";
const PUSH = "/cambium.v1.Replication/Push";
const refusal = /did not prove that it knows the secret of this cluster.*cluster\.secret_file/;

describe("who may not call is told so before anything of its message is read", () => {
  const grpc = { "content-type": "application/grpc", te: "trailers" };
  /** The beginning of a message that never comes to its end. */
  const begun = Buffer.from([0, 0, 0, 0x40, 0, 1, 2, 3]);

  test.each([
    ["gRPC", SURVEY, "application/grpc+proto"],
    ["gRPC, in a stream", PUSH, "application/grpc+proto"],
    ["gRPC-web", SURVEY, "application/grpc-web+proto"],
    ["gRPC-web, as JSON", SURVEY, "application/grpc-web+json"],
  ])("over %s", async (_name, path, type) => {
    const { port, replicator } = await start({ clusterSecret });
    const answer = await sendHttp2(port, { ...grpc, "content-type": type, ":path": path }, begun, { end: false });
    expect(answer.headers).toMatchObject({
      ":status": 200,
      "content-type": type,
      "grpc-status": String(Code.Unauthenticated),
      "grpc-message": expect.stringMatching(refusal),
    });
    expect(replicator.asked).toEqual([]);
    expect(replicator.pushes).toEqual([]);
  });

  test("over Connect, on a connection that then ends", async () => {
    const { port } = await start({ clusterSecret });
    const head = ["host: localhost", "content-type: application/json", "content-length: 1000000"];
    const received = await sendRaw(port, [`POST ${SURVEY} HTTP/1.1`, ...head, "", "{"].join("\r\n"), (text) =>
      text.endsWith("}"),
    );
    expect(received).toMatch(/^HTTP\/1\.1 401 /);
    expect(JSON.parse(received.slice(received.indexOf("{")))).toMatchObject({
      code: "unauthenticated",
      message: expect.stringMatching(refusal),
    });
  });

  test("over a stream of Connect, which ends with the error", async () => {
    const { port } = await start({ clusterSecret });
    const type = "application/connect+json";
    const answer = await sendHttp2(port, { "content-type": type, ":path": PUSH }, begun, { end: false });
    expect(answer.headers).toMatchObject({ ":status": 200, "content-type": type });
    expect(answer.body[0]).toBe(2);
    expect(JSON.parse(answer.body.subarray(5).toString())).toMatchObject({
      error: { code: "unauthenticated", message: expect.stringMatching(refusal) },
    });
  });

  test("with a proof that is nearly right, too long, or of another kind", async () => {
    const { port } = await start({ clusterSecret });
    const proof = peerAuthorization(clusterSecret);
    for (const authorization of [
      proof.slice(0, -1),
      `${proof}x`,
      proof.toUpperCase(),
      `Bearer ${proof}`,
      "x".repeat(9000),
    ]) {
      const headers = { "content-type": "application/json", authorization };
      expect(await send(port, SURVEY, { headers, body: "{}" })).toMatchObject({ status: 401 });
    }
  });

  test("many times on one connection, which goes on", async () => {
    const { port } = await start({ clusterSecret });
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    cleanups.push(() => session.destroy());
    const large = frame(new Uint8Array(4 * 1024 * 1024));
    for (let n = 0; n < 20; n++) {
      const stream = session.request({ ...grpc, ":method": "POST", ":path": SURVEY });
      const headers = new Promise((resolve) => stream.once("response", resolve));
      const closed = new Promise((resolve) => stream.once("close", resolve));
      stream.resume().end(large);
      expect(await headers).toMatchObject({ "grpc-status": String(Code.Unauthenticated) });
      await closed;
    }
  });
});

describe("a question between nodes", () => {
  function peer(url: string) {
    const sessionManager = new Http2SessionManager(url);
    cleanups.push(() => sessionManager.abort());
    return createClient(Replication, createGrpcTransport({ baseUrl: url, sessionManager }));
  }
  const clusterId = idToBytes(CLUSTER);
  const nodeId = idToBytes(OTHER_NODE);
  const candidate = {
    clusterId,
    candidate: nodeId,
    address: "node-2:8080",
    epoch: 4n,
    epochId: 5n,
    last: { epoch: 3n, seq: 9n },
  };
  const questions: Record<string, (client: ReturnType<typeof peer>, protocolVersion: number) => Promise<unknown>> = {
    Register: (client, protocolVersion) =>
      client.register({ clusterId, nodeId, address: "node-2:8080", protocolVersion }),
    Survey: (client, protocolVersion) => client.survey({ clusterId, nodeId, protocolVersion }),
    RequestPromise: (client, protocolVersion) => client.requestPromise({ ...candidate, protocolVersion }),
    ReadIndex: (client, protocolVersion) => client.readIndex({ clusterId, nodeId, protocolVersion }),
  };

  test.each(Object.entries(questions))(
    "of another protocol is refused in words to both operators: %s",
    async (_name, ask) => {
      const warnings: unknown[] = [];
      const logger = { ...silentLogger, warn: (message: string, fields?: object) => warnings.push([message, fields]) };
      const { url, replicator } = await start({ logger });
      const words =
        "this node speaks version 1 of the protocol between nodes, the one that asks version 2; run the same release on both";
      for (let n = 0; n < 3; n++) {
        const error = ConnectError.from(await ask(peer(url), 2).catch((reason: unknown) => reason));
        expect(error).toMatchObject({ code: Code.FailedPrecondition, rawMessage: words });
      }
      expect(replicator.asked).toEqual([]);
      expect(warnings).toEqual([["a node of another release is not answered", { reason: words }]]);
    },
  );

  test.each(Object.entries(questions).filter(([name]) => name !== "ReadIndex"))(
    "that names no version is of the first one: %s",
    async (_name, ask) => {
      const { url } = await start();
      expect(await ask(peer(url), 0)).toMatchObject({});
    },
  );

  test("that is larger than any needs to be is refused", async () => {
    const { url, port, replicator } = await start();
    const address = "x".repeat(20_000);
    const error = await peer(url)
      .register({ nodeId, address })
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: Code.ResourceExhausted });
    // By its announced length alone.
    const grpc = { "content-type": "application/grpc", te: "trailers" };
    const prefix = Buffer.from([0, 3, 0xff, 0xff, 0xff]);
    const answer = await sendHttp2(port, { ...grpc, ":path": SURVEY }, prefix, { end: false });
    expect(answer.trailers).toMatchObject({ "grpc-status": String(Code.ResourceExhausted) });
    expect(replicator.asked).toEqual([]);
  });

  test("whose fields are noise is refused, or answered for what it is, and never ends the process", async () => {
    const { port } = await start();
    const grpc = { "content-type": "application/grpc", te: "trailers" };
    const good = toBinary(SurveyRequestSchema, create(SurveyRequestSchema, { clusterId, nodeId: idToBytes(NODE) }));
    for (let n = 0; n < good.length; n++) {
      for (const byte of [0x00, 0x7f, 0xff]) {
        const noisy = Uint8Array.from(good);
        noisy[n] = byte;
        const answer = await sendHttp2(port, { ...grpc, ":path": SURVEY }, frame(noisy));
        const status = Number(answer.trailers["grpc-status"] ?? answer.headers["grpc-status"]);
        expect([0, Code.InvalidArgument]).toContain(status);
      }
    }
  });
});
