/**
 * What a server costs that does nothing: it answers every request with the same bytes. `baseline.js KIND` listens on a
 * free port of 127.0.0.1, says so as the real servers do, and leaves when its standard input ends.
 */
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { toBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { GetResponseSchema, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { type BaselineKind, baselineKinds } from "./baseline-kinds.js";
import { grpcFrame } from "./http2-frames.js";
import { sampleAnswer } from "./workload.js";

function createBaseline(kind: BaselineKind) {
  const answer = Buffer.from(toBinary(GetResponseSchema, sampleAnswer));
  const adapter = connectNodeAdapter({
    routes: (router) => router.service(KVStore, { get: () => sampleAnswer }),
    readMaxBytes: 4 << 20,
  });
  switch (kind) {
    case "connect-http":
      return createHttpServer(adapter);
    case "connect-http2":
      return createHttp2Server(adapter);
    case "http":
      return createHttpServer((request, response) => {
        request.resume();
        request.once("end", () => {
          response.writeHead(200, { "content-type": "application/proto", "content-length": answer.length });
          response.end(answer);
        });
      });
    case "http2": {
      const frame = grpcFrame(answer);
      const server = createHttp2Server();
      server.on("stream", (stream) => {
        stream.on("error", () => undefined);
        stream.resume();
        stream.once("end", () => {
          stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
          stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
          stream.end(frame);
        });
      });
      return server;
    }
  }
}

const kind = baselineKinds.find((known) => known === process.argv[2]);
if (kind === undefined) throw new Error(`the kinds of baselines are ${baselineKinds.join(", ")}`);
const server = createBaseline(kind);
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`${JSON.stringify({ msg: "listening", address: `127.0.0.1:${port}` })}\n`);
});
process.stdin.resume();
process.stdin.once("end", () => process.exit(0));
