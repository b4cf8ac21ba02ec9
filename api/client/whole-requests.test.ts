import http from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { wholeRequests } from "./whole-requests.js";

const AGENT = new http.Agent({ keepAlive: false });

/** Somebody who answers a request with these bytes, once all of it has come, and hangs up then. */
async function answering(answer: (socket: Socket, request: string) => void): Promise<string> {
  const server = createServer((socket) => {
    let request = "";
    socket.setEncoding("latin1");
    socket.on("error", () => undefined);
    socket.on("data", (chunk: string) => {
      request += chunk;
      if (request.includes("whole body")) answer(socket, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function* pieces(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield new TextEncoder().encode(text);
}

function send(baseUrl: string, options: { readonly readMaxBytes?: number; readonly signal?: AbortSignal } = {}) {
  const { readMaxBytes = 1000, signal } = options;
  return wholeRequests({ baseUrl, agent: AGENT, readMaxBytes })({
    url: `${baseUrl}/cambium.v1.KVStore/Get`,
    method: "POST",
    header: new Headers({ "content-type": "application/proto", "connect-timeout-ms": "5" }),
    body: pieces("the ", "whole body"),
    ...(signal && { signal }),
  });
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe("a whole request", () => {
  test("goes out with its headers and its length, and its answer is read to its end", async () => {
    let seen = "";
    const url = await answering((socket, request) => {
      seen = request;
      socket.write(
        "HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
      );
      socket.end("3\r\ntwo\r\n0\r\n\r\n");
    });
    const { status, header, body } = await send(`${url}/below`);
    expect(status).toBe(200);
    expect(header.get("content-type")).toBe("application/proto");
    expect(await textOf(body)).toBe("onetwo");
    expect(seen).toMatch(/^POST \/below\/cambium\.v1\.KVStore\/Get HTTP\/1\.1\r\n/);
    expect(seen).toMatch(/content-length: 14\r\n/i);
    expect(seen).toMatch(/connect-timeout-ms: 5\r\n/);
    expect(seen.endsWith("the whole body")).toBe(true);
  });

  test("of an error gives all headers", async () => {
    const url = await answering((socket) =>
      socket.end("HTTP/1.1 503 No\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"),
    );
    const { status, header, body } = await send(url);
    expect([status, header.get("retry-after"), await textOf(body)]).toEqual([503, "1", "{}"]);
  });

  test("reads no more of an answer than shows that it is too large", async () => {
    const url = await answering((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      // It never ends by itself.
      const more = (error?: Error | null): void => {
        if (!error) socket.write("x".repeat(500), more);
      };
      more();
    });
    const { body } = await send(url);
    expect((await textOf(body)).length).toBeGreaterThan(1000);
  });

  test("whose answer breaks off fails, and says why", async () => {
    const url = await answering((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", () => socket.destroy());
    });
    await expect(send(url)).rejects.toMatchObject({ cause: { code: "ECONNRESET" } });
  });

  test("that nobody takes fails, and says why", async () => {
    await expect(send("http://127.0.0.1:1")).rejects.toMatchObject({
      cause: { code: "ECONNREFUSED", syscall: "connect" },
    });
  });

  test("ends with its signal, before it is sent, and while it waits", async () => {
    await expect(send("http://127.0.0.1:1", { signal: AbortSignal.abort() })).rejects.toThrow("socket hang up");
    const abort = new AbortController();
    let hasLeft: Promise<unknown> | undefined;
    const url = await answering((socket) => {
      hasLeft = new Promise((resolve) => socket.on("close", resolve));
      abort.abort();
    });
    await expect(send(url, abort)).rejects.toThrow("socket hang up");
    await hasLeft;
  });

  test("finds a host by its address of IPv6 too", async () => {
    await expect(send("http://[::1]:1")).rejects.toMatchObject({ cause: { syscall: "connect", address: "::1" } });
  });
});
