import { onTestFinished, expect, test } from "vitest";
import { Access, type AccessOptions } from "../identity/access.js";
import { bearerToken, bearerTokenHash } from "../identity/bearer-token.js";
import { Identities } from "../identity/identities.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { allRoles, type Role } from "../identity/role.js";
import { METRICS_PATH } from "./metrics-page.js";
import { audiences } from "./method-table.js";
import { type HttpAnswer, send, startTestServer } from "./testing/test-server.js";

const tokenOf = (role: Role): string => bearerToken(new Uint8Array(32).fill(allRoles.indexOf(role)));
const identities = new Identities(
  allRoles.map((role) => ({
    name: role,
    roles: [role],
    credential: { kind: "token", sha256: bearerTokenHash(tokenOf(role)) },
  })),
  () => 0,
);

test("where the node knows clients, only they see the metrics; others are told why, and get none of them", async () => {
  const clusterSecret = new TextEncoder().encode("one secret of some length");
  const { server, port, bugs } = await startTestServer({ clusterSecret, identities });
  onTestFinished(async () => {
    await server.close();
    expect(bugs).toEqual([]);
  });
  const ask = (authorization?: string): Promise<HttpAnswer> =>
    send(port, METRICS_PATH, { method: "GET", headers: authorization === undefined ? {} : { authorization } });
  for (const role of ["reader", "writer", "admin"] as const) {
    const answer = await ask(`Bearer ${tokenOf(role)}`);
    expect([answer.status, answer.text.includes("cambium_ready 1")]).toEqual([200, true]);
  }
  const refusals = [
    [undefined, 401, "unauthenticated"],
    [`Bearer ${bearerToken(new Uint8Array(32).fill(77))}`, 401, "unauthenticated"],
    [`Bearer ${tokenOf("peer")}`, 403, "permission_denied"],
    [peerAuthorization(clusterSecret), 403, "permission_denied"],
  ] as const;
  for (const [authorization, status, code] of refusals) {
    const answer = await ask(authorization);
    expect(answer.status).toBe(status);
    expect(answer.headers["www-authenticate"]).toBe(status === 401 ? "Bearer" : undefined);
    expect(JSON.parse(answer.text)).toEqual({ code, message: expect.any(String) });
    expect(answer.text).not.toContain("cambium_ready");
  }
});

test("where the node knows nobody, protected mode lets only callers on the same machine see the metrics", () => {
  const from = (address: string, options: Omit<AccessOptions, "audiences">): string[] => {
    const access = new Access({ audiences, ...options });
    return [...access.admit(METRICS_PATH, { address, authorization: undefined }).roles];
  };
  expect(from("127.0.0.1", { protectedMode: true })).toContain("admin");
  expect(() => from("10.0.0.1", { protectedMode: true })).toThrow("this node is in protected mode");
  expect(from("10.0.0.1", { protectedMode: false })).toContain("admin");
  // Once it knows somebody, it does not count where a caller is.
  expect(() => from("127.0.0.1", { protectedMode: false, identities })).toThrow("needs an identity");
});
