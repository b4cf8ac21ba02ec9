import { mkdir } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import { proveImport } from "../harness/import-proof.js";
import { root } from "../harness/programs.js";

test("the whole of node_modules survives a crash of every process in the middle of an import", async () => {
  const cluster = await TestCluster.start({ replicas: 2 });
  onTestFinished(() => cluster.close());
  const scratch = path.join(cluster.directory, "scratch");
  await mkdir(scratch);
  const { files } = await proveImport({ cluster, folder: path.join(root, "node_modules"), scratch });
  expect(files).toBeGreaterThan(5000);
});
