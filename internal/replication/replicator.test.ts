import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cluster } from "./testing/cluster.js";

let cluster: Cluster;
beforeEach(() => {
  cluster = new Cluster();
});
afterEach(() => cluster.close());

test("a listed replica gets what the master writes, and both commit it", async () => {
  const replica = await cluster.start("replica", "r:1");
  const master = await cluster.start("master", "m:1", { listedReplicas: ["r:1"] });
  master.store.write("a");
  await cluster.settle();
  console.log(master.lines, replica.lines, master.replicator.members());
  expect(replica.store.records).toEqual(master.store.records);
  expect(replica.replicator.commitSeq).toBe(master.replicator.commitSeq);
});
