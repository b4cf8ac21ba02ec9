/** What is counted as an answer of Redis has to be the whole of it. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { redisCommand, redisWire } from "./redis-wire.js";

const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** Sends one request to a server that does `answer` with it; resolves once that is an answer, to what the server got. */
async function call(answer: (socket: Socket) => void): Promise<string> {
  let got = "";
  const server = createServer((socket) => {
    closing.push(() => socket.destroy());
    socket.setNoDelay(true);
    socket.once("data", (chunk: Buffer) => {
      got = chunk.toString();
      answer(socket);
    });
  }).listen(0, "127.0.0.1");
  closing.push(() => void server.close());
  await once(server, "listening");
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const request = redisWire.encode(redisCommand("SET", "key", Buffer.from("välue")), { address, path: "" });
  await new Promise<void>((resolve, reject) => {
    const expected = Buffer.from("+OK\r\n:1\r\n");
    redisWire.open({ address, streams: 1, expected, answered: () => resolve(), failed: reject }).then((connection) => {
      closing.push(() => connection.close());
      connection.callers[0]?.call(request);
    }, reject);
  });
  return got;
}

test("a command travels as its words with their lengths in bytes", async () => {
  const got = await call((socket) => socket.write("+OK\r\n:1\r\n"));
  expect(got).toBe("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$6\r\nvälue\r\n");
});

test("an answer that comes in pieces is put together", async () => {
  const got = await call((socket) => {
    socket.write("+OK");
    setImmediate(() => socket.write("\r\n:1\r\n"));
  });
  expect(got).toContain("SET");
});

test("another answer, and a connection that ends, are failures", async () => {
  await expect(call((socket) => socket.write("+OK\r\n:0\r\n"))).rejects.toThrow("unexpected answer");
  await expect(call((socket) => socket.destroy())).rejects.toThrow("closed the connection");
});
