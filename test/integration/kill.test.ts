import { test } from "vitest";
import { proveKills } from "../harness/kill-proof.js";

test("a master that is killed under load, five times, has every acknowledged write when it is back", () =>
  proveKills(5));
