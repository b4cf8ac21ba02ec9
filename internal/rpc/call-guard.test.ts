import { Code, ConnectError, createContextValues, createRouterTransport, createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { silentLogger } from "../base/logger.js";
import { Access, type Caller } from "../identity/access.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { callerKey } from "./adapter.js";
import { callGuard } from "./call-guard.js";
import { ErrorMap } from "./errors.js";
import { JsonBytes } from "./json-bytes.js";

const secret = new TextEncoder().encode("one secret of some length");
const errors = new ErrorMap({ logger: silentLogger, masterAddress: () => undefined, onBug: () => undefined });

/** Clients of handlers behind a guard, called by `caller`. */
function guarded(access: Access, caller: Caller) {
  let calls = 0;
  const transport = createRouterTransport(
    (router) => {
      router.service(KVStore, { get: () => ({ exists: ++calls > 0 }) });
      router.service(Replication, { register: () => ({ epoch: BigInt(++calls) }) });
    },
    {
      router: {
        interceptors: [
          (next) => (request) => next({ ...request, contextValues: createContextValues().set(callerKey, caller) }),
          callGuard({ access, errors, jsonBytes: new JsonBytes() }),
        ],
      },
    },
  );
  return {
    get: () => createClient(KVStore, transport).get({ key: "k" }),
    register: () => createClient(Replication, transport).register({}),
    calls: () => calls,
  };
}

const here: Caller = { address: "127.0.0.1", authorization: undefined };
const afar: Caller = { address: "192.0.2.7", authorization: undefined };

describe("the guard before the handlers", () => {
  test("lets nobody from another machine through in protected mode, and says what to change", async () => {
    const access = new Access({ protectedMode: true });
    const near = guarded(access, here);
    expect((await near.get()).exists).toBe(true);
    const far = guarded(access, afar);
    const error = await far.get().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({
      code: Code.PermissionDenied,
      rawMessage: expect.stringMatching(/protected mode.*192\.0\.2\.7.*127\.0\.0\.1.*server\.protected_mode: false/),
    });
    expect(far.calls()).toBe(0);
  });

  test("lets peers through by their proof alone", async () => {
    const access = new Access({ protectedMode: true, clusterSecret: secret });
    const proven = guarded(access, { ...afar, authorization: peerAuthorization(secret) });
    expect((await proven.register()).epoch).toBe(1n);
    const stranger = guarded(access, here);
    await expect(stranger.register()).rejects.toMatchObject({
      code: Code.PermissionDenied,
      rawMessage: expect.stringContaining("cluster.secret_file"),
    });
    expect(stranger.calls()).toBe(0);
  });
});
