import { test } from "vitest";
import { proveKills } from "../harness/kill-proof.js";

test("a master that is killed under load, two hundred times, has every acknowledged write each time that it is back", () =>
  proveKills(200));
