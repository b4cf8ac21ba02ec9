import { expect, test } from "vitest";
import { textOf } from "./blocks.js";
import type { RecoveryRow } from "./recovery.js";
import { recoveryBlocks } from "./recovery-report.js";

const row: RecoveryRow = {
  from: "log",
  entries: 1000,
  bytes: 2e6,
  openMs: 500,
  openCpuMs: 520,
  readMs: 10,
  samples: [],
};

test("recovery is shown in entries a second, and next to the bare read", () => {
  const text = textOf(recoveryBlocks([row]));
  expect(text).toMatch(/the log +│ +1,000 │ +500 │ +2,000 │ +520\.00 │ +2\.0 │ +10 │ +50\.00/);
  expect(text).toContain("redis is not installed");
});

test("recovery is compared with redis, by time and by the processor's", () => {
  const redis = { version: "redis 7.0.15", loadMs: 250, cpuMs: 1040 };
  const text = textOf(recoveryBlocks([{ ...row, from: "snapshot", redis }]));
  expect(text).toMatch(/a snapshot +│.*│ +4,000 │ +1040\.00 │ +0\.50 │ +2\.00/);
  expect(text).toContain("redis 7.0.15 loads as many equal entries");
});
