import { test } from "vitest";
import { proveEnginesAlike } from "./testing/engines-alike.js";

test(
  "a master, its replica, a restart from snapshot and log, and the plain map hold the same, whatever engine each has",
  () => proveEnginesAlike({ runs: 25, operations: 400 }),
  120_000,
);
