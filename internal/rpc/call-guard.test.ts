import { Code, createContextValues, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { silentLogger } from "../base/logger.js";
import { Access } from "../identity/access.js";
import type { Identity } from "../identity/role.js";
import { identityKey } from "./adapter.js";
import { callGuard } from "./call-guard.js";
import { ErrorMap } from "./errors.js";
import { JsonBytes } from "./json-bytes.js";
import { audiences } from "./method-table.js";

const errors = new ErrorMap({ logger: silentLogger, masterAddress: () => undefined, onBug: () => undefined });

const access = new Access({ audiences, protectedMode: true });

/** Clients of handlers behind a guard, called by `identity`. */
function guarded(identity: Identity | undefined) {
  let calls = 0;
  const transport = createRouterTransport(
    (router) => {
      router.service(KVStore, {
        get: () => ({ exists: ++calls > 0 }),
        batchGet: () => ({ token: new Uint8Array(++calls) }),
        scan: () => ({ token: new Uint8Array(++calls) }),
        write: () => ({ token: new Uint8Array(++calls) }),
        getUpdates: () => ({ next: BigInt(++calls) }),
      });
    },
    {
      router: {
        interceptors: [
          (next) => (request) => next({ ...request, contextValues: createContextValues().set(identityKey, identity) }),
          callGuard({ access, errors, jsonBytes: new JsonBytes() }),
        ],
      },
    },
  );
  return { store: createClient(KVStore, transport), calls: () => calls };
}

const outside = {
  code: Code.PermissionDenied,
  rawMessage: expect.stringContaining("the identity web may use the keys below its prefixes only"),
};
const web: Identity = {
  name: "web",
  roles: ["writer"],
  prefixes: ["web/", "shared/"].map((text) => new TextEncoder().encode(text)),
};

describe("the guard before the handlers", () => {
  test("lets through nobody of whom it was not found out who it is", async () => {
    const { store, calls } = guarded(undefined);
    await expect(store.get({ key: "k" })).rejects.toMatchObject({ code: Code.PermissionDenied });
    expect(calls()).toBe(0);
  });

  test("holds an identity to its prefixes, wherever the keys are in a request", async () => {
    const { store, calls } = guarded(web);
    await store.get({ key: "web/a" });
    await store.batchGet({ keys: ["web/a", "shared/b"] });
    await store.scan({ prefix: "web/u/" });
    await store.scan({ start: "web/a", end: "web0" });
    await store.write({
      operations: [
        { operation: { case: "set", value: { key: "web/a" } } },
        { operation: { case: "delete", value: { key: "shared/b" } } },
      ],
    });
    const allowed = calls();
    expect(allowed).toBe(5);
    const refused = [
      store.get({ key: "web" }),
      store.batchGet({ keys: ["web/a", "other"] }),
      store.scan({}),
      store.scan({ prefix: "we" }),
      store.scan({ start: "web/a" }),
      store.scan({ start: "web/a", end: "web1" }),
      store.scan({ prefix: "web/", start: "a", end: "b" }),
      store.write({
        operations: [
          { operation: { case: "set", value: { key: "web/a" } } },
          { operation: { case: "delete", value: { key: "other" } } },
        ],
      }),
      store.getUpdates({}),
    ];
    for (const call of refused) await expect(call).rejects.toMatchObject(outside);
    expect(calls()).toBe(allowed);
  });

  test("lets an identity without prefixes ask for everything", async () => {
    const { store, calls } = guarded({ name: "all", roles: ["reader"] });
    await store.get({ key: "k" });
    await store.scan({});
    await store.getUpdates({});
    expect(calls()).toBe(3);
  });
});
