import { mkdir } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { TestCluster } from "../harness/cluster.js";
import { copySome, proveImport } from "../harness/import-proof.js";
import { root } from "../harness/programs.js";

test("3,000 real files survive a crash of every process in the middle of an import", { timeout: 180_000 }, async () => {
  const cluster = await TestCluster.start({ replicas: 2 });
  onTestFinished(() => cluster.close());
  const folder = path.join(cluster.directory, "input");
  const scratch = path.join(cluster.directory, "scratch");
  await mkdir(scratch);
  await copySome(path.join(root, "node_modules"), folder, 3000);
  expect(await proveImport({ cluster, folder, scratch })).toEqual({ files: 3000 });
});
