import { expect, test } from "vitest";
import { proveEngineModel } from "../../internal/engine/testing/engine-model.js";
import { proveEnginesAlike } from "../../internal/store/testing/engines-alike.js";

test("a million random operations leave the engine, the map, and an engine that was filled from the first equal", () => {
  expect(() => proveEngineModel(3, 1_000_000)).not.toThrow();
});

test("through a million random operations a master, its replica, their restarts from snapshot and log, and the map hold the same", () =>
  proveEnginesAlike({ runs: 500, operations: 2000 }));
