import { test } from "vitest";
import { proveEngineModel } from "./testing/engine-model.js";

/** Another number for whoever wants to try more; `npm run prove` tries a million. */
const OPERATIONS = Number(process.env["CAMBIUM_MODEL_OPERATIONS"] ?? 20_000);
/** Against hanging only: a busy machine must not fail the test. */
const TIMEOUT_MS = Math.max(120_000, OPERATIONS * 5);

test.each([1, 2])(
  `${OPERATIONS} random operations leave engine, map, and an engine that was filled from the first equal (seed %i)`,
  (seed) => proveEngineModel(seed, OPERATIONS),
  TIMEOUT_MS,
);
