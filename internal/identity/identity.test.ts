import { describe, expect, test } from "vitest";
import { Access, accessTable, type Caller, protectedModeWarning } from "./access.js";
import { HostNames } from "./host-names.js";
import { IdentityError } from "./identity-error.js";
import { isLoopbackAddress, isLoopbackHost } from "./loopback.js";
import { peerAuthorization, provesPeer } from "./peer-proof.js";

const secret = new TextEncoder().encode("a secret of thirty-two bytes ...");
const here: Caller = { address: "127.0.0.1", authorization: undefined };
const afar: Caller = { address: "192.0.2.7", authorization: undefined };

function codeOf(access: Access, method: string, caller: Caller): string {
  try {
    access.check(method, caller);
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
    const access = new Access({ protectedMode: true });
    expect(codeOf(access, "cambium.v1.KVStore/Get", here)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.KVStore/Get", afar)).toBe("protected_mode");
    expect(() => access.check("cambium.v1.KVStore/Get", afar)).toThrow(
      /serves calls over loopback only \(127\.0\.0\.1 or ::1\).*192\.0\.2\.7.*server\.protected_mode: false/,
    );
    expect(codeOf(new Access({ protectedMode: false }), "cambium.v1.KVStore/Get", afar)).toBe("allowed");
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
    const access = new Access({ protectedMode: false });
    expect(codeOf(access, "cambium.v1.Replication/Push", here)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.Replication/Push", afar)).toBe("unproven_peer");
    expect(() => access.check("cambium.v1.Replication/Push", afar)).toThrow("set cluster.secret_file");
  });

  test("with a secret every peer proves it, on this machine too, and protected mode does not concern peers", () => {
    const access = new Access({ protectedMode: true, clusterSecret: secret });
    const proven = { ...afar, authorization: peerAuthorization(secret) };
    expect(codeOf(access, "cambium.v1.Replication/Register", proven)).toBe("allowed");
    expect(codeOf(access, "cambium.v1.Replication/Register", here)).toBe("unproven_peer");
    expect(codeOf(access, "cambium.v1.KVStore/Get", proven)).toBe("protected_mode");
  });

  test("a method that is not in the table is allowed to nobody, and is named", () => {
    const access = new Access({ protectedMode: false });
    expect(codeOf(access, "cambium.v1.KVStore/Missing", here)).toBe("not_allowed");
    expect(access.unlisted([...accessTable.keys(), "cambium.v1.KVStore/Missing"])).toEqual([
      "cambium.v1.KVStore/Missing",
    ]);
  });
});
