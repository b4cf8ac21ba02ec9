import vm from "node:vm";
import { create, toBinary } from "@bufbuild/protobuf";
import { build } from "esbuild";
import { expect, test } from "vitest";
import { GetResponseSchema } from "../gen/cambium/v1/kvstore_pb.js";

test("the entry for browsers runs where there is nothing of Node", async () => {
  const { outputFiles } = await build({
    stdin: {
      contents: `import { createClient } from "./index.js";
        globalThis.answer = createClient({ endpoints: [location.origin] }).getText("greeting");`,
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
      const value = new TextEncoder().encode("hello");
      const body = toBinary(GetResponseSchema, create(GetResponseSchema, { exists: true, value, modSeq: 7n }));
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
    answer: undefined as Promise<string> | undefined,
  };
  vm.runInNewContext(outputFiles[0]!.text, page);
  expect(await page.answer).toBe("hello");
  expect(requests).toEqual([
    "GET https://shop.example/cambium.v1.KVStore/Get?connect=v1&base64=1&encoding=proto&message=CghncmVldGluZw",
  ]);
});
