/** The contract as grpc-js reads it from the proto files: clients and servers that share no line with ours. */
import path from "node:path";
import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import { root } from "./programs.js";

/** A message in the form of grpc-js: names as in the proto files, bytes as buffers. */
export type Message = Record<string, unknown>;

const loaded = protoLoader.loadSync(
  [
    "cambium/v1/kvstore.proto",
    "cambium/v1/cluster.proto",
    "cambium/v1/replication.proto",
    "grpc/health/v1/health.proto",
  ],
  { includeDirs: [path.join(root, "api")], keepCase: true, longs: Number, enums: String, defaults: true },
);
const contract = grpc.loadPackageDefinition(loaded);

/** The client of a service, by its full name; its `service` is what a server is made of. */
export function serviceOf(name: string): grpc.ServiceClientConstructor {
  const found = name
    .split(".")
    .reduce<unknown>((scope, part) => (scope as Record<string, unknown> | undefined)?.[part], contract);
  if (typeof found !== "function") throw new Error(`the contract has no service ${name}`);
  return found as grpc.ServiceClientConstructor;
}

/** A unary call, as grpc-js makes one. Rejects with `grpc.ServiceError`. */
export async function callUnary(
  service: grpc.ServiceClientConstructor,
  address: string,
  method: string,
  message: Message,
): Promise<Message> {
  const client = new service(address, grpc.credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      const done = (error: grpc.ServiceError | null, answer?: Message): void =>
        error ? reject(error) : resolve(answer!);
      (client[method] as (request: Message, callback: typeof done) => void).call(client, message, done);
    });
  } finally {
    client.close();
  }
}

/** What gRPC health says of a node as a whole: SERVING, NOT_SERVING, … */
export async function health(address: string): Promise<unknown> {
  return (await callUnary(serviceOf("grpc.health.v1.Health"), address, "Check", { service: "" }))["status"];
}
