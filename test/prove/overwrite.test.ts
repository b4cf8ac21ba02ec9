import { test } from "vitest";
import { proveOverwriting } from "../harness/overwrite-proof.js";

test("ten thousand keys overwritten a hundred times leave a directory of at most three times the live data", () =>
  proveOverwriting({ keys: 10_000, rounds: 100 }));
