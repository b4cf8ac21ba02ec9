/**
 * `npm run check`: everything about the sources that a machine can judge without starting a program. Runs the checks two
 * at a time, shows the output of those that fail, and says what mends each.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { checkNode, install, orExit, root } from "../cmd/setup.mjs";

/** A check: a name, what to run (npm's own programs by name, or a function), and what mends a failure. */
const checks = [
  {
    name: "types",
    run: ["tsc", "--noEmit", "-p", "tsconfig.json"],
    mend: "mend the types that the compiler names above",
  },
  {
    name: "lint",
    run: ["oxlint", "--type-aware"],
    mend: "mend what is named above; `npm run lint -- --fix` does some of it",
  },
  { name: "format", run: ["prettier", "--check", "--log-level=warn", "."], mend: "npm run format" },
  { name: "contract lint", run: ["buf", "lint"], mend: "mend the .proto files as said above" },
  { name: "contract format", run: ["buf", "format", "--diff", "--exit-code"], mend: "npm run format" },
  { name: "generated code", run: generatedCodeIsCurrent, mend: "npm run generate, and commit api/gen" },
  { name: "API reference", run: apiReferenceIsCurrent, mend: "npm run docs, and commit docs/api.md" },
  {
    name: "contract is compatible",
    run: ["buf", "breaking", "--against", "api/baseline.binpb"],
    mend: "take the change back: clients rely on the released contract. CONTRIBUTING.md says when the baseline moves",
  },
  {
    name: "house rules",
    run: ["vitest", "run", "--project", "unit", "--reporter=dot", "test/house"],
    mend: "mend the imports that are named above, or the map in test/house/import-map.ts where the design has changed",
  },
];

async function generatedCodeIsCurrent() {
  const folder = mkdtempSync(path.join(os.tmpdir(), "cambium-generate-"));
  try {
    const generated = await runProgram(["buf", "generate", "--output", folder]);
    if (!generated.ok) return generated;
    const fresh = readTree(path.join(folder, "api", "gen"));
    const committed = readTree(path.join(root, "api", "gen"));
    const names = new Set([...fresh.keys(), ...committed.keys()]);
    const different = [...names].filter((name) => fresh.get(name) !== committed.get(name));
    return { ok: different.length === 0, output: different.map((name) => `not current: api/gen/${name}\n`).join("") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function apiReferenceIsCurrent() {
  // Not imported above: the packages that it needs may not be installed yet.
  const { apiDocument, documentPath } = await import("./api-docs.mjs");
  const ok = readFileSync(documentPath, "utf8") === (await apiDocument());
  return { ok, output: ok ? "" : "not current: docs/api.md\n" };
}

function readTree(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return new Map(files.map((file) => [path.relative(folder, file), readFileSync(file, "utf8")]));
}

function runProgram([name, ...args]) {
  const programs = path.join(root, "node_modules", ".bin");
  const PATH = `${programs}${path.delimiter}${process.env.PATH ?? ""}`;
  return new Promise((resolve) => {
    const child = spawn(path.join(programs, name), args, {
      cwd: root,
      env: { ...process.env, PATH },
      shell: process.platform === "win32",
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("error", (error) => resolve({ ok: false, output: `${error.message}\n` }));
    child.on("close", (code) => resolve({ ok: code === 0, output }));
  });
}

async function runCheck({ name, run, mend }) {
  const startMs = performance.now();
  const { ok, output } = await (typeof run === "function" ? run() : runProgram(run));
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  if (ok) console.log(`  ok      ${name} (${seconds} s)`);
  else console.log(`${output}  FAILED  ${name} (${seconds} s)\n          to mend it: ${mend}`);
  return ok;
}

await orExit(async () => {
  checkNode();
  install();
  const waiting = [...checks];
  let failed = 0;
  const work = async () => {
    for (let check = waiting.shift(); check; check = waiting.shift()) if (!(await runCheck(check))) failed++;
  };
  await Promise.all([work(), work()]);
  console.log(failed === 0 ? `All ${checks.length} checks hold.` : `${failed} of ${checks.length} checks failed.`);
  process.exitCode = failed === 0 ? 0 : 1;
});
