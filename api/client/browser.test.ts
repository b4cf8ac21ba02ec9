import vm from "node:vm";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { BatchRequestSchema, BatchResponseSchema, GetResponseSchema } from "../gen/cambium/v1/kvstore_pb.js";

interface Page {
  readonly requests: string[];
  readonly answer: unknown;
}

/** Runs a program of the entry for browsers where there is nothing of Node. `bodyOf`: of the answer to a request. */
async function inPage(program: string, bodyOf: (url: string, init: RequestInit) => Uint8Array): Promise<Page> {
  const { outputFiles } = await build({
    stdin: {
      contents: `import { createClient } from "./index.js"; globalThis.answer = (${program})();`,
      resolveDir: new URL(".", import.meta.url).pathname,
    },
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    target: "es2022",
    logLevel: "silent",
  });
  const requests: string[] = [];
  const page = {
    location: { origin: "https://shop.example" },
    fetch: (url: string, init: RequestInit) => {
      requests.push(`${init.method} ${url}`);
      const body = new Uint8Array(bodyOf(url, init));
      return Promise.resolve(new Response(body, { headers: { "content-type": "application/proto" } }));
    },
    Headers,
    Request,
    Response,
    ReadableStream,
    URL,
    AbortController,
    AbortSignal,
    TextEncoder,
    TextDecoder,
    performance,
    setTimeout,
    clearTimeout,
    atob,
    btoa,
    answer: undefined as unknown,
  };
  vm.runInNewContext(outputFiles[0]!.text, page);
  return { requests, answer: await page.answer };
}

const hello = create(GetResponseSchema, { exists: true, value: new TextEncoder().encode("hello"), modSeq: 7n });

test("the entry for browsers runs where there is nothing of Node", async () => {
  const { answer, requests } = await inPage(
    `() => createClient({ endpoints: [location.origin] }).getText("greeting")`,
    () => toBinary(GetResponseSchema, hello),
  );
  expect(answer).toBe("hello");
  expect(requests).toEqual([
    "GET https://shop.example/cambium.v1.KVStore/Get?connect=v1&base64=1&encoding=proto&message=CghncmVldGluZw",
  ]);
});

test("calls of one tick travel as one there too, and so do those that are made as soon as these are answered", async () => {
  const sizes: number[] = [];
  const { answer, requests } = await inPage(
    `async () => {
      const kv = createClient({ endpoints: [location.origin] });
      const twice = async (key) => [await kv.getText(key), await kv.getText(key)];
      return JSON.stringify(await Promise.all(["a", "b", "c"].map(twice)));
    }`,
    (_, { body }) => {
      const { operations } = fromBinary(BatchRequestSchema, body as Uint8Array);
      sizes.push(operations.length);
      const results = operations.map(() => ({ result: { case: "get" as const, value: hello } }));
      return toBinary(BatchResponseSchema, create(BatchResponseSchema, { results }));
    },
  );
  expect(answer).toBe(JSON.stringify([1, 2, 3].map(() => ["hello", "hello"])));
  expect(sizes).toEqual([3, 3]);
  expect(requests).toEqual([1, 2].map(() => "POST https://shop.example/cambium.v1.KVStore/Batch"));
});
