/** Three voters that are cut off from each other, by the kernel where it allows that, and by proxies everywhere on Linux. */
import { test } from "vitest";
import { namespaces, proxies } from "./support/networks.js";
import { provePartitions } from "./support/prove-partitions.js";

test("nodes in network namespaces that are cut off from each other lose nothing that was acknowledged, and are equal when healed", async (context) =>
  provePartitions(await namespaces(context, 3)));

test("nodes behind proxies that are cut off from each other lose nothing that was acknowledged, and are equal when healed", async (context) =>
  provePartitions(await proxies(context, 3)));
