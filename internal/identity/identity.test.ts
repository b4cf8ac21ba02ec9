import { describe, expect, test } from "vitest";
import { Access, type AccessOptions, type Caller, protectedModeWarning } from "./access.js";
import { bearerToken, bearerTokenHash } from "./bearer-token.js";
import { HostNames } from "./host-names.js";
import { Identities } from "./identities.js";
import { IdentityError } from "./identity-error.js";
import { isLoopbackAddress, isLoopbackHost } from "./loopback.js";
import type { IdentityEntry } from "./identity-file.js";
import { peerAuthorization, provesPeer } from "./peer-proof.js";
import type { Audience } from "./role.js";

const secret = new TextEncoder().encode("a secret of thirty-two bytes ...");
const here: Caller = { address: "127.0.0.1", authorization: undefined };
const afar: Caller = { address: "192.0.2.7", authorization: undefined };

const audiences: ReadonlyMap<string, Audience> = new Map<string, Audience>([
  ["cambium.v1.KVStore/Get", ["reader", "writer", "admin"]],
  ["cambium.v1.KVStore/Set", ["writer", "admin", "peer"]],
  ["cambium.v1.Cluster/Promote", ["admin"]],
  ["cambium.v1.Replication/Push", ["peer"]],
  ["cambium.v1.Replication/Register", ["peer"]],
  ["grpc.health.v1.Health/Check", "anyone"],
]);

const accessOf = (options: Omit<AccessOptions, "audiences">): Access => new Access({ audiences, ...options });

function codeOf(access: Access, method: string, caller: Caller): string {
  try {
    access.admit(method, caller);
    return "allowed";
  } catch (error) {
    expect(error).toBeInstanceOf(IdentityError);
    return (error as IdentityError).code;
  }
}

describe("loopback", () => {
  test.each(["127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1", "::FFFF:127.9.9.9"])("%s is this machine", (a) => {
    expect(isLoopbackAddress(a)).toBe(true);
  });

  test.each([
    undefined,
    "",
    "128.0.0.1",
    "10.0.0.1",
    "::",
    "::2",
    "::ffff:10.0.0.1",
    "127.0.0.1.evil.example",
    "1127.0.0.1",
  ])("%s is not", (a) => {
    expect(isLoopbackAddress(a)).toBe(false);
  });

  test("localhost and the names below it are this machine, names that only look so are not", () => {
    expect(["localhost", "LOCALHOST.", "a.localhost", "[::1]"].map(isLoopbackHost)).toEqual([true, true, true, true]);
    expect(["localhost.evil.example", "evillocalhost"].map(isLoopbackHost)).toEqual([false, false]);
  });
});

describe("host names", () => {
  const names = new HostNames(["kv.example:8080", "https://app.example", "Node-1"]);

  test("addresses, loopback names and listed names may be asked for, with any port", () => {
    const asked = [
      "127.0.0.1:1",
      "[::1]:2",
      "192.0.2.1",
      "localhost:3",
      "kv.example",
      "KV.example.:9",
      "app.example:1",
      "node-1",
    ];
    expect(asked.filter((host) => !names.allows(host))).toEqual([]);
  });

  test("any other name may not", () => {
    expect(["evil.example", "kv.example.evil.example:8080", ""].filter((host) => names.allows(host))).toEqual([]);
  });
});

describe("the proof of a peer", () => {
  test("is accepted by whoever knows the same secret, and by nobody else", () => {
    const header = peerAuthorization(secret);
    expect(header).toMatch(/^Cambium-Peer [\w-]{43}$/);
    expect(provesPeer(header, secret)).toBe(true);
    expect(provesPeer(header, new TextEncoder().encode("another"))).toBe(false);
    expect(provesPeer(`${header}x`, secret)).toBe(false);
    expect(provesPeer(undefined, secret)).toBe(false);
  });
});

describe("access", () => {
  test("in protected mode only callers on this machine are clients, and the others are told what to change", () => {
    const access = accessOf({ protectedMode: true });
    expect(codeOf(access, "cambium.v1.KVStore/Get", here)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.KVStore/Get", afar)).toBe("protected_mode");
    expect(() => access.admit("cambium.v1.KVStore/Get", afar)).toThrow(
      /serves calls over loopback only \(127\.0\.0\.1 or ::1\).*192\.0\.2\.7.*server\.protected_mode: false/,
    );
    expect(codeOf(accessOf({ protectedMode: false }), "cambium.v1.KVStore/Get", afar)).toBe("allowed");
  });

  test("the operator of a node that listens beyond loopback in protected mode is told whom it serves", () => {
    for (const host of ["0.0.0.0", "::", "node-1.example"]) {
      expect(protectedModeWarning({ host, protectedMode: true })).toMatch(
        /^protected mode: .* over loopback \(127\.0\.0\.1 or ::1\) are served, .*server\.protected_mode: false/,
      );
      expect(protectedModeWarning({ host, protectedMode: false })).toBeUndefined();
    }
    // Calls to such an address come from such an address, on this machine too.
    for (const host of ["192.0.2.1", "2001:db8::1"]) {
      expect(protectedModeWarning({ host, protectedMode: true })).toContain(`no client can call over ${host}`);
    }
    for (const host of ["127.0.0.1", "::1", "localhost"]) {
      expect(protectedModeWarning({ host, protectedMode: true })).toBeUndefined();
    }
  });

  test("without a secret only callers on this machine are peers", () => {
    const access = accessOf({ protectedMode: false });
    expect(codeOf(access, "cambium.v1.Replication/Push", here)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.Replication/Push", afar)).toBe("unproven_peer");
    expect(() => access.admit("cambium.v1.Replication/Push", afar)).toThrow("set cluster.secret_file");
  });

  test("with a secret every peer proves it, on this machine too, and protected mode does not concern peers", () => {
    const access = accessOf({ protectedMode: true, clusterSecret: secret });
    const proven = { ...afar, authorization: peerAuthorization(secret) };
    expect(codeOf(access, "cambium.v1.Replication/Register", proven)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.Replication/Register", here)).toBe("no_credential");
    const wrong = { ...here, authorization: `${peerAuthorization(secret)}x` };
    expect(codeOf(access, "cambium.v1.Replication/Register", wrong)).toBe("bad_credential");
    expect(codeOf(access, "cambium.v1.KVStore/Get", proven)).toBe("not_allowed");
    expect(codeOf(access, "cambium.v1.KVStore/Set", proven)).toBe("allowed");
  });

  test("a method that is not in the table is allowed to nobody, and is named", () => {
    const access = accessOf({ protectedMode: false });
    expect(codeOf(access, "cambium.v1.KVStore/Missing", here)).toBe("not_allowed");
    expect(access.unlisted([...audiences.keys(), "cambium.v1.KVStore/Missing"])).toEqual([
      "cambium.v1.KVStore/Missing",
    ]);
  });
});

describe("access with identities", () => {
  const tokens = [1, 2, 3, 4, 5, 6].map((byte) => bearerToken(new Uint8Array(32).fill(byte)));
  const [reader, writer, admin, peer, short, unknown] = tokens as [string, string, string, string, string, string];
  const token = (text: string): IdentityEntry["credential"] => ({ kind: "token", sha256: bearerTokenHash(text) });
  const entries: readonly IdentityEntry[] = [
    { name: "r", roles: ["reader"], credential: token(reader) },
    { name: "w", roles: ["writer"], credential: token(writer) },
    { name: "a", roles: ["admin"], credential: token(admin) },
    { name: "p", roles: ["peer"], credential: token(peer) },
    { name: "r", roles: ["reader"], credential: token(short), expiresAtMs: 1000 },
    { name: "node-2", roles: ["peer"], credential: { kind: "certificate", name: "node-2.example" } },
  ];
  let nowMs = 0;
  const identities = new Identities(entries, () => nowMs);
  const access = accessOf({ protectedMode: true, identities });
  const bearer = (text: string): Caller => ({ ...here, authorization: `Bearer ${text}` });
  const methods = [...audiences.keys()].filter((method) => !method.endsWith("Register"));
  const allowedTo = (caller: Caller): string[] =>
    methods
      .filter((method) => codeOf(access, method, caller) === "allowed")
      .map((method) => method.split("/")[1] ?? "");

  test("each role may do what it is for, from anywhere, and no more", () => {
    expect(allowedTo(bearer(reader))).toEqual(["Get", "Check"]);
    expect(allowedTo(bearer(writer))).toEqual(["Get", "Set", "Check"]);
    expect(allowedTo(bearer(admin))).toEqual(["Get", "Set", "Promote", "Check"]);
    expect(allowedTo(bearer(peer))).toEqual(["Set", "Push", "Check"]);
    expect(allowedTo({ ...bearer(reader), address: "192.0.2.7" })).toEqual(["Get", "Check"]);
  });

  test("who shows nothing may nothing, on this machine neither, and is told to show something", () => {
    expect(allowedTo(here)).toEqual(["Check"]);
    expect(codeOf(access, "cambium.v1.KVStore/Get", here)).toBe("no_credential");
    expect(codeOf(access, "cambium.v1.Replication/Push", here)).toBe("no_credential");
  });

  test("what is no token, or nobody's, is a failed attempt, and a role that is not enough is none", () => {
    for (const authorization of [
      `Bearer ${unknown}`,
      "Bearer",
      "Bearer ",
      `Bearer ${reader} ${reader}`,
      `Basic ${reader}`,
      reader,
      `Bearer ${"x".repeat(100_000)}`,
      `Bearer ${bearerTokenHash(reader)}`,
      peerAuthorization(secret),
    ]) {
      expect(codeOf(access, "cambium.v1.KVStore/Get", { ...here, authorization })).toBe("bad_credential");
    }
    expect(codeOf(access, "cambium.v1.Replication/Push", bearer(admin))).toBe("not_allowed");
    expect(codeOf(access, "cambium.v1.KVStore/Set", bearer(reader))).toBe("not_allowed");
    expect(() => access.admit("cambium.v1.KVStore/Set", bearer(reader))).toThrow(
      "the identity r has the role reader, and cambium.v1.KVStore/Set is for writer or admin or peer",
    );
  });

  test("a token counts until it expires, and a call that was admitted with it ends then", () => {
    nowMs = 999;
    const identity = access.admit("cambium.v1.KVStore/Get", bearer(short));
    expect(() => access.checkCurrent(identity)).not.toThrow();
    nowMs = 1000;
    expect(codeOf(access, "cambium.v1.KVStore/Get", bearer(short))).toBe("bad_credential");
    expect(() => access.checkCurrent(identity)).toThrow("expired or was revoked");
    nowMs = 0;
  });

  test("a certificate stands for its name, whatever its case, unless a header says who calls", () => {
    const node = { ...here, certificateNames: ["other", "NODE-2.example"] };
    expect(allowedTo(node)).toEqual(["Set", "Push", "Check"]);
    expect(allowedTo({ ...node, ...bearer(reader) })).toEqual(["Get", "Check"]);
    expect(codeOf(access, "cambium.v1.Replication/Push", { ...node, authorization: `Bearer ${unknown}` })).toBe(
      "bad_credential",
    );
    expect(codeOf(access, "cambium.v1.KVStore/Get", { ...here, certificateNames: ["other"] })).toBe("no_credential");
  });

  test("a list that replaces another keeps who is on both, and ends who is not", () => {
    const known = new Identities(entries, () => 0);
    const own = accessOf({ protectedMode: true, identities: known });
    const kept = own.admit("cambium.v1.KVStore/Get", bearer(reader));
    const revoked = own.admit("cambium.v1.KVStore/Get", bearer(writer));
    known.replace(structuredClone(entries.filter(({ name }) => name !== "w")));
    expect(own.admit("cambium.v1.KVStore/Get", bearer(reader))).toBe(kept);
    expect(() => own.checkCurrent(kept)).not.toThrow();
    expect(() => own.checkCurrent(revoked)).toThrow("expired or was revoked");
    expect(codeOf(own, "cambium.v1.KVStore/Get", bearer(writer))).toBe("bad_credential");
  });

  test("where peers have a listener of their own, they are peers there and nowhere else", () => {
    const split = accessOf({ protectedMode: false, clusterSecret: secret, hasPeerListener: true });
    const proven = { ...here, authorization: peerAuthorization(secret) };
    expect(codeOf(split, "cambium.v1.Replication/Push", proven)).toBe("not_allowed");
    expect(codeOf(split, "cambium.v1.Replication/Push", here)).toBe("not_allowed");
    expect(codeOf(split, "cambium.v1.Replication/Push", { ...afar, isAtPeerListener: true })).toBe("allowed");
    expect(codeOf(split, "cambium.v1.KVStore/Get", { ...afar, isAtPeerListener: true })).toBe("not_allowed");
  });
});
