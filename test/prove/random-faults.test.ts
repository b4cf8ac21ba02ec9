import { test } from "vitest";
import { proveRandomFaults } from "../../internal/store/testing/random-faults.js";

test("whatever the disk does, acknowledged writes are there, refused ones are not, twenty thousand times", () =>
  proveRandomFaults(20_000));
