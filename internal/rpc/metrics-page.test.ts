import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { Access } from "../identity/access.js";
import { IdentityError } from "../identity/identity-error.js";
import { Registry } from "../metrics/registry.js";
import { answerMetrics, METRICS_PATH } from "./metrics-page.js";
import { send } from "./testing/test-server.js";

test("who may not see the metrics is told why, and gets none of them", async () => {
  const registry = new Registry();
  registry.gauge({ name: "cambium_keys", help: "Keys." }, () => 1);
  const refusal = new ConnectError("not for you", Code.PermissionDenied);
  const server = createServer((request, response) => answerMetrics(request, response, { registry, refusal }));
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  onTestFinished(() => void server.close());
  const answer = await send((server.address() as AddressInfo).port, METRICS_PATH, { method: "GET" });
  expect(answer.status).toBe(403);
  expect(JSON.parse(answer.text)).toEqual({ code: "permission_denied", message: "not for you" });
});

test("in protected mode only callers on the same machine see the metrics", () => {
  const from = (address: string) => (): void => access.check(METRICS_PATH, { address, authorization: undefined });
  const access = new Access({ protectedMode: true });
  expect(from("127.0.0.1")).not.toThrow();
  expect(from("10.0.0.1")).toThrow(IdentityError);
});
