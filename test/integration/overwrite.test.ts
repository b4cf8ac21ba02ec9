import { test } from "vitest";
import { proveOverwriting } from "../harness/overwrite-proof.js";

test("keys overwritten again and again leave a directory of at most three times the live data", () =>
  proveOverwriting({ keys: 2000, rounds: 50 }));
