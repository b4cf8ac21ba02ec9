/**
 * Ends a test run: prints one plain line that any program can read, and fails the run when a test was skipped that
 * test/skips.txt does not list, or when no test ran at all.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Reporter, TestModule } from "vitest/node";

const skipsFile = path.join(import.meta.dirname, "skips.txt");

export interface RunTotals {
  passed: number;
  /** Failed tests, and files that could not be loaded at all. */
  failed: number;
  /** Full names of the tests that did not run. */
  skipped: string[];
}

/** The lines of a skip list that are neither empty nor a comment. */
export function parseSkips(text: string): string[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("#"));
}

/** What is wrong with a run, besides its failed tests; empty when nothing is. */
export function judge(totals: RunTotals, listed: readonly string[]): string[] {
  const complaints = totals.skipped
    .filter((name) => !listed.includes(name))
    .map((name) => `skipped without a line in test/skips.txt: ${name}`);
  if (totals.passed + totals.failed === 0) complaints.push("no test ran");
  return complaints;
}

export class ClosingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const totals: RunTotals = { passed: 0, failed: 0, skipped: [] };
    for (const module of modules) {
      let tests = 0;
      for (const test of module.children.allTests()) {
        tests++;
        const { state } = test.result();
        if (state === "passed") totals.passed++;
        else if (state === "failed") totals.failed++;
        else totals.skipped.push(`${module.relativeModuleId} > ${test.fullName}`);
      }
      if (tests === 0 && module.state() === "failed") totals.failed++;
    }
    // Filtering by name (-t) skips the rest on purpose; only a whole run is judged.
    const filtered = process.argv.some((arg) => arg === "-t" || arg.startsWith("--testNamePattern"));
    const complaints = filtered ? [] : judge(totals, parseSkips(readFileSync(skipsFile, "utf8")));
    for (const complaint of complaints) console.error(complaint);
    if (complaints.length > 0) process.exitCode = 1;
    console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped.length} skipped`);
  }
}
