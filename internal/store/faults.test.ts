import { test } from "vitest";
import { proveRandomFaults } from "./testing/random-faults.js";

test(
  "whatever the disk does, acknowledged writes are there, refused ones are not, and the store goes on once the disk does",
  () => proveRandomFaults(60),
  180_000,
);
