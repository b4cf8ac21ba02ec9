import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatIdentity, type IdentityEntry, IdentityFileError, parseIdentities } from "./identity-file.js";
import { allRoles } from "./role.js";

const sha256 = "0123456789abcdef".repeat(4);

function problems(text: string): string[] {
  try {
    parseIdentities(text, "ids");
  } catch (error) {
    if (!(error instanceof IdentityFileError)) throw error;
    return error.message.split("\n");
  }
  return [];
}

describe("the file of identities", () => {
  test("has a line for each credential, comments, and empty lines", () => {
    const text = [
      "\uFEFF# who may call",
      "",
      `web writer sha256:${sha256.toUpperCase()} prefix=web/ prefix="a b\\n\\"" expires=2030-01-01T00:00:00Z\r`,
      "  node-2   peer,reader\tcert:node-2.example.com  ",
    ].join("\n");
    expect(parseIdentities(text, "ids")).toEqual([
      {
        name: "web",
        roles: ["writer"],
        credential: { kind: "token", sha256 },
        prefixes: ["web/", 'a b\n"'],
        expiresAtMs: Date.UTC(2030, 0, 1),
      },
      { name: "node-2", roles: ["peer", "reader"], credential: { kind: "certificate", name: "node-2.example.com" } },
    ]);
    expect(parseIdentities("", "ids")).toEqual([]);
  });

  test.each([
    ["web writer", "must have a name, roles and a credential"],
    [`web owner sha256:${sha256}`, "unknown role"],
    [`web reader,,writer sha256:${sha256}`, "unknown role"],
    [`-web reader sha256:${sha256}`, "begins with no name"],
    ["web reader sha256:abc", "has no credential"],
    ["web reader md5:abc", "has no credential"],
    ["web reader cert:", "has no credential"],
    [`web admin sha256:${sha256} prefix=a`, "prefixes are for reader and writer"],
    [`web reader sha256:${sha256} prefix=`, "prefix that is none"],
    [`web reader sha256:${sha256} prefix="a`, "quotation mark"],
    [`web reader sha256:${sha256} prefix="\\ud800"`, "prefix that is none"],
    [`web reader sha256:${sha256} expires=tomorrow`, "no moment"],
    [`web reader sha256:${sha256} expires=2030-13-01`, "no moment"],
    [`web reader sha256:${sha256} expires=2030-01-01 expires=2031-01-01`, "neither"],
    [`web reader sha256:${sha256} prefxi=a`, "neither"],
  ])("refuses %s", (line, message) => {
    expect(problems(`# first\n${line}`)).toEqual([expect.stringMatching(/^ids:2: /)]);
    expect(problems(line)[0]).toContain(message);
  });

  test("tells all that is wrong at once, and never a hash", () => {
    const text = `a reader sha256:${sha256}\nb writer sha256:${sha256}\nc what sha256:${sha256.slice(1)}\n`;
    const told = problems(text);
    expect(told).toHaveLength(3);
    expect(told[0]).toBe("ids:2: has the credential of line 1; each belongs to one identity, on one line");
    expect(told.join()).not.toContain(sha256.slice(1));
    expect(problems("x\n".repeat(1000))).toHaveLength(21);
  });

  test("gives back every entry that was written as a line", () => {
    const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
    const entry = fc.record(
      {
        name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._@:/-]{0,20}$/),
        roles: fc.constantFrom<IdentityEntry["roles"][]>(["reader"], ["writer"], ["reader", "writer"]),
        credential: hex.map((digits) => ({ kind: "token", sha256: digits }) as const),
        prefixes: fc.array(fc.string({ minLength: 1, unit: "binary" }), { minLength: 1, maxLength: 5 }),
        expiresAtMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
      },
      { requiredKeys: ["name", "roles", "credential"] },
    );
    fc.assert(
      fc.property(entry, (one) => {
        expect(parseIdentities(formatIdentity(one), "ids")).toEqual([one]);
      }),
    );
  });

  test("of noise is refused in words, or read, and nothing else", () => {
    const word = fc.constantFrom(
      "web",
      "#",
      '"',
      "\\",
      "prefix=",
      "expires=",
      "sha256:",
      sha256,
      "cert:x",
      ",",
      " ",
      "\t",
      "\n",
      "\r\n",
      "\u0000",
      ...allRoles,
    );
    const noise = fc
      .array(fc.oneof(word, fc.string({ unit: "binary" })), { maxLength: 40 })
      .map((words) => words.join(""));
    fc.assert(
      fc.property(noise, (text) => void problems(text)),
      { numRuns: 500 },
    );
  });
});
