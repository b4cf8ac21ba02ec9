/** The proof by `kill -9`: a master is killed at random moments under load, and has everything when it is back. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "vitest";
import { AuditedLoad } from "./audited-load.js";
import { type ConfigSections, TestNode } from "./node.js";
import { until } from "./until.js";

/** Small files, so that faults meet rotations, snapshots, compaction and the record log as often as plain writes. */
export const SMALL_FILES: ConfigSections = {
  wal: { max_file_size: "64KiB" },
  snapshots: { log_bytes: "64KiB" },
  records: { max_file_size: "64KiB" },
};

/** Kills a master so many times, each time a random moment after its start, and audits it after each restart. */
export async function proveKills(rounds: number): Promise<void> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const node = new TestNode({ program: "master", directory, config: SMALL_FILES });
  const load = new AuditedLoad({ valueBytesMax: 16 * 1024 });
  const said = (msg: string): number => node.log.filter((line) => line.msg === msg).length;
  try {
    await node.start();
    // Kills that meet nothing but plain writes would prove less.
    load.start(node.address);
    await until("a snapshot lets some of the log go", () => said("log compacted") > 0);
    await load.stop();
    for (let round = 1; round <= rounds; round++) {
      load.start(node.address);
      await pause(20 + Math.random() * 600);
      await node.kill();
      await load.ended();
      await node.start();
      await load.audit(node.address);
    }
    expect(node.stderr).toBe("");
    const { acknowledged, unknown } = load.counts;
    console.log(
      `killed ${rounds} times: ${acknowledged} writes acknowledged, all there; ${unknown} without an answer, each there as a whole or not at all; ${said("snapshot taken")} snapshots, ${said("log compacted")} compactions`,
    );
    expect(unknown).toBeGreaterThan(rounds);
  } finally {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  }
}
