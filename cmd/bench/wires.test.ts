/** The load generator's own protocols, against servers that others wrote: what is counted as an answer has to be one. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { GetRequestSchema, KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Wire } from "./caller.js";
import { connectJsonWire, connectWire } from "./connect-wire.js";
import { connectHttp2Wire, grpcWire } from "./http2-wire.js";
import { redisCommand, redisPairWire, redisWire } from "./redis-wire.js";

const value = Buffer.from("the value that is expected");
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function listen(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  server.on("connection", (socket) => closing.push(() => socket.destroy()));
  closing.push(() => void server.close());
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Makes `count` calls for the keys 0, 1, 2, … from each caller, and resolves when all are answered. */
async function calls(wire: Wire, address: string, options: { streams?: number; count?: number } = {}): Promise<number> {
  const { streams = 1, count = 1 } = options;
  let answers = 0;
  const target = { address, path: "/cambium.v1.KVStore/Get" };
  const requests = Array.from({ length: count }, (_, index) =>
    wire.encode(toBinary(GetRequestSchema, create(GetRequestSchema, { key: String(index) })), target),
  );
  const sent = new Map<unknown, number>();
  await new Promise<void>((resolve, reject) => {
    const opened = wire.open({
      address,
      streams,
      expected: value,
      failed: reject,
      answered: (caller) => {
        answers++;
        const next = (sent.get(caller) ?? 0) + 1;
        sent.set(caller, next);
        if (next < count) caller.call(requests[next]!);
        else if (answers === count * streams) resolve();
      },
    });
    opened.then((connection) => {
      closing.push(() => connection.close());
      for (const caller of connection.callers) caller.call(requests[0]!);
    }, reject);
  });
  return answers;
}

type Get = ServiceImpl<typeof KVStore>["get"];

describe.each<[string, Wire, (get: Get) => Server]>([
  ["Connect over HTTP/1.1", connectWire, (get) => createHttpServer(adapter(get))],
  ["Connect over HTTP/2", connectHttp2Wire, (get) => createHttp2Server(adapter(get))],
  ["gRPC over HTTP/2", grpcWire, (get) => createHttp2Server(adapter(get))],
])("%s", (_, wire, createServer) => {
  test("a server of the stock library gets the requests, and its answers count", async () => {
    const keys: string[] = [];
    const address = await listen(
      createServer(({ key }) => {
        keys.push(key);
        return { exists: true, value };
      }),
    );
    expect(await calls(wire, address, { count: 200 })).toBe(200);
    expect(keys).toEqual(Array.from({ length: 200 }, (_, index) => String(index)));
  });

  test("an answer without the expected value is a failure", async () => {
    const address = await listen(createServer(() => ({ exists: false })));
    await expect(calls(wire, address)).rejects.toThrow(address);
  });

  test("a refused call is a failure", async () => {
    const address = await listen(
      createServer(() => {
        throw new ConnectError(`no ${value.toString()}`, Code.Unavailable);
      }),
    );
    await expect(calls(wire, address)).rejects.toThrow(address);
  });

  test("a server that hangs up is a failure", async () => {
    const address = await listen(createTcpServer((socket) => socket.once("data", () => socket.destroy())));
    await expect(calls(wire, address)).rejects.toThrow(address);
  });

  test("a server that is not there is a failure", async () => {
    const server = createTcpServer();
    const address = await listen(server);
    server.close();
    await once(server, "close");
    await expect(calls(wire, address)).rejects.toThrow("ECONNREFUSED");
  });

  test("answers that come byte by byte are put together", async () => {
    const inner = await listen(createServer(() => ({ exists: true, value })));
    const address = await listen(tricklingProxy(inner));
    expect(await calls(wire, address, { count: 3 })).toBe(3);
  });
});

test("many gRPC calls share one connection, and more bytes than its first window", async () => {
  const address = await listen(
    createHttp2Server(adapter(() => ({ exists: true, value: Buffer.concat([value, Buffer.alloc(1000)]) }))),
  );
  expect(await calls(grpcWire, address, { streams: 64, count: 20 })).toBe(1280);
});

test("chunked answers of HTTP/1.1 are read to their end", async () => {
  const server = createHttpServer((request, response) => {
    request.resume().once("end", () => {
      response.write("first ");
      response.end(value);
    });
  });
  expect(await calls(connectWire, await listen(server), { count: 5 })).toBe(5);
});

test("a request in JSON is answered in JSON", async () => {
  const address = await listen(createHttpServer(adapter(({ key }) => ({ exists: key === "one", value }))));
  const failed = (error: Error): void => expect.unreachable(error.message);
  const request = connectJsonWire.encode(Buffer.from('{"key":"one"}'), { address, path: "/cambium.v1.KVStore/Get" });
  await new Promise((resolve) => {
    const expected = Buffer.from(value.toString("base64"));
    void connectJsonWire.open({ address, streams: 1, expected, failed, answered: resolve }).then((connection) => {
      closing.push(() => connection.close());
      connection.callers[0]!.call(request);
    });
  });
});

describe("the Redis protocol", () => {
  /** Sends GET to a server that answers with these chunks. */
  const getFrom = (...chunks: string[]): Promise<void> => askFrom(redisWire, value, chunks);

  async function askFrom(wire: Wire, expected: Buffer, chunks: readonly string[]): Promise<void> {
    const address = await listen(
      createTcpServer((socket) => {
        socket.setNoDelay(true);
        socket.once("data", (command: Buffer) => {
          expect(command.toString()).toBe("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
          for (const chunk of chunks) socket.write(chunk);
        });
      }),
    );
    const request = wire.encode(redisCommand("GET", "key"), { address, path: "" });
    await new Promise<void>((resolve, reject) => {
      const opened = wire.open({ address, streams: 1, expected, failed: reject, answered: () => resolve() });
      opened.then((connection) => {
        closing.push(() => connection.close());
        connection.callers[0]!.call(request);
      }, reject);
    });
  }

  test("a string is an answer once it is whole", async () => {
    const text = value.toString();
    const answer = getFrom(`$${text.length}`, "\r", `\n${text.slice(0, 5)}`, `${text.slice(5)}\r`, "\n");
    await expect(answer).resolves.toBeUndefined();
  });

  test("two commands that go out together have two answers", async () => {
    const expected = Buffer.from("+OK\r\n:1\r\n");
    await expect(askFrom(redisPairWire, expected, ["+OK\r\n", ":1\r", "\n"])).resolves.toBeUndefined();
    await expect(askFrom(redisPairWire, expected, ["+OK\r\n", ":0\r\n"])).rejects.toThrow("unexpected");
  });

  test("an error, nothing, and another string are failures", async () => {
    await expect(getFrom(`-ERR ${value.toString()}\r\n`)).rejects.toThrow("unexpected");
    await expect(getFrom("$-1\r\n")).rejects.toThrow("unexpected");
    await expect(getFrom("$5\r\nother\r\n")).rejects.toThrow("unexpected");
  });
});

test("HTTP/1.1 refuses to share a connection", async () => {
  await expect(calls(connectWire, "127.0.0.1:1", { streams: 2 })).rejects.toThrow("one call at a time");
});

function adapter(get: Get): ReturnType<typeof connectNodeAdapter> {
  return connectNodeAdapter({ routes: (router) => router.service(KVStore, { get }) });
}

/** Hands the bytes of `address` on one at a time. */
function tricklingProxy(address: string): Server {
  return createTcpServer((client) => {
    const upstream = connect(Number(address.split(":")[1]), "127.0.0.1");
    client.pipe(upstream);
    client.on("error", () => upstream.destroy());
    client.setNoDelay(true);
    upstream.on("data", (chunk: Buffer) => {
      for (const byte of chunk) client.write(Buffer.of(byte));
    });
    closing.push(() => upstream.destroy());
  });
}
