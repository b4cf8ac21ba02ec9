import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bearerTokenHash } from "../../internal/identity/bearer-token.js";
import { parseIdentities } from "../../internal/identity/identity-file.js";
import { cambium } from "./testing/test-terminal.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "cambium-token-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("prints the token once, and the line by which nodes know it", async () => {
  const { exitCode, stdout, stderr } = await cambium([
    ..."token create --role writer --name web --prefix web/ --prefix".split(" "),
    "a b",
    "--expires",
    "90d",
  ]);
  expect(exitCode).toBe(0);
  const token = stdout.trimEnd();
  expect(token).toMatch(/^cambium_[\w-]{43}$/);
  const [entry] = parseIdentities(stderr.split("\n")[1] ?? "", "line");
  expect(entry).toMatchObject({
    name: "web",
    roles: ["writer"],
    credential: { kind: "token", sha256: bearerTokenHash(token) },
    prefixes: ["web/", "a b"],
  });
  expect(entry?.expiresAtMs).toBeGreaterThan(Date.now() + 89 * 86_400_000);
  expect(stderr).not.toContain(token);
  expect((await cambium(["token", "create", "--role", "writer"])).stdout).not.toBe(stdout);
});

test("adds the line to a file, which it makes for its owner alone", async () => {
  const file = path.join(folder, "identities");
  const first = await cambium(["token", "create", "--role", "reader", "--file", file]);
  expect(first.exitCode).toBe(0);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  writeFileSync(file, readFileSync(file, "utf8").trimEnd());
  const second = await cambium(["token", "create", "--role", "admin", "--name", "ops", "--file", file, "--json"]);
  const { token, line } = JSON.parse(second.stdout) as { token: string; line: string };
  const entries = parseIdentities(readFileSync(file, "utf8"), file);
  expect(entries.map(({ name }) => name)).toEqual(["reader", "ops"]);
  expect(entries[1]?.credential).toEqual({ kind: "token", sha256: bearerTokenHash(token) });
  expect(readFileSync(file, "utf8")).toContain(line);
});

test("adds nothing to a file that others can read, or that is wrong already", async () => {
  const file = path.join(folder, "identities");
  writeFileSync(file, "nonsense\n", { mode: 0o600 });
  expect(await cambium(["token", "create", "--role", "reader", "--file", file])).toMatchObject({
    exitCode: 1,
    stdout: "",
    stderr: expect.stringContaining(`${file}:1: must have a name`),
  });
  writeFileSync(file, "# mine\n");
  chmodSync(file, 0o644);
  expect(await cambium(["token", "create", "--role", "reader", "--file", file])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("chmod 600"),
  });
  expect(readFileSync(file, "utf8")).toBe("# mine\n");
});

test.each([
  ["no role", []],
  ["a role that there is not", ["--role", "owner"]],
  ["a prefix for a role that has all keys", ["--role", "admin", "--prefix", "a"]],
  ["a name that is none", ["--role", "reader", "--name", "a b"]],
  ["a time that is none", ["--role", "reader", "--expires", "soon"]],
])("refuses %s as wrong usage", async (_name, args) => {
  expect(await cambium(["token", "create", ...args])).toMatchObject({ exitCode: 2, stdout: "" });
});
