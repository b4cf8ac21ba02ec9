/** A disk that fails under a real process: a sync or a write that answers EIO, and a file system that turns read-only. */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { AuditedLoad } from "../harness/audited-load.js";
import { diskFor, type DiskKind, needs } from "../harness/disks.js";
import { SMALL_FILES } from "../harness/kill-proof.js";
import { TestNode } from "../harness/node.js";
import { until } from "../harness/until.js";

const DISK_BYTES = 32 * 1024 * 1024;

async function masterIn(dataDirectory?: string): Promise<TestNode> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const wal = { ...SMALL_FILES["wal"], ...(dataDirectory !== undefined && { directory: dataDirectory }) };
  const node = new TestNode({ program: "master", directory, config: { ...SMALL_FILES, wal } });
  onTestFinished(async () => {
    if (node.running) await node.kill();
    await rm(directory, { recursive: true, force: true });
  });
  return node;
}

/** Begins to listen to a node; gives what it has said since, on standard error and, once that is open, in its log. */
function hearing(node: TestNode): () => string {
  const [stderrBefore, linesBefore] = [node.stderr.length, node.log.length];
  return () =>
    [node.stderr.slice(stderrBefore), ...node.log.slice(linesBefore).map((line) => JSON.stringify(line))].join("\n");
}

interface Injection {
  readonly syscalls: string;
  /** Which of them fails, at random up to this one. */
  readonly whenMax: number;
}

/** Syncs and writes of the data directory; a node writes to nothing else at a place (pwrite64). */
const INJECTIONS: Injection[] = [
  { syscalls: "fdatasync", whenMax: 120 },
  { syscalls: "pwrite64", whenMax: 200 },
  { syscalls: "fsync", whenMax: 8 },
];

test.for(INJECTIONS)(
  "a $syscalls that fails ends the process, which acknowledges nothing more, and the next has everything",
  async ({ syscalls, whenMax }, context) => {
    needs(context, "strace");
    const node = await masterIn();
    const load = new AuditedLoad({ valueBytesMax: 16 * 1024 });
    await node.start();
    let ended = 0;
    for (let round = 0; round < 10; round++) {
      load.start(node.address);
      const { acknowledged } = load.counts;
      await until("the load is on", () => load.counts.acknowledged > acknowledged + 20);
      await load.stop();
      await node.stop();

      const when = 1 + Math.floor(Math.random() * whenMax);
      // -D leaves the node a child of this process, and not of strace.
      const under = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        `trace=${syscalls}`,
        "-e",
        `inject=${syscalls}:error=EIO:when=${when}`,
      ];
      const heard = hearing(node);
      // Its start may come to the one that fails.
      await node.start({ under }).catch(() => undefined);
      if (node.running) {
        load.start(node.address);
        const endedUnderLoad = await Promise.race([
          node.ended().then((ending) => ({ ending })),
          until("many writes", () => load.counts.acknowledged > acknowledged + 1500, 60_000).then(() => undefined),
        ]);
        // What is injected into may be no part of the way of a write: a snapshot then fails, and the node goes on.
        if (endedUnderLoad) {
          expect(endedUnderLoad.ending).toBe(1);
          await load.ended();
          expect(heard()).toMatch(/the disk failed/);
          expect(heard()).toMatch(/EIO/);
          ended++;
        } else {
          await load.stop();
          await node.kill();
        }
      } else {
        expect(await node.ended()).toBe(1);
        expect(heard(), "it says why it did not start").toMatch(/EIO/);
        ended++;
      }
      await node.start();
      await load.audit(node.address);
    }
    console.log(`${syscalls}: ${ended} of 10 ended the process; ${load.counts.acknowledged} acknowledged, all there`);
    expect(ended).toBeGreaterThan(0);
  },
);

test.for<DiskKind>(["tmpfs", "ext4"])(
  "a file system (%s) that turns read-only loses nothing, and says what is wrong",
  async (kind, context) => {
    const disk = await diskFor(context, kind, DISK_BYTES);
    const node = await masterIn(path.join(disk.directory, "data"));
    const load = new AuditedLoad();
    await node.start();
    load.start(node.address);
    await until("the load is on", () => load.counts.acknowledged > 200);
    // While files are open for writing, Linux refuses to remount; a node that is stopped leaves none.
    await load.stop();
    await node.stop();
    await disk.remount("ro");
    const refusal = await node.start().then(
      () => "it started",
      (error: unknown) => String(error),
    );
    expect(refusal).toMatch(/EROFS|read-only/i);
    expect(await node.ended()).toBe(1);
    await disk.remount("rw");
    await node.start();
    await load.audit(node.address);
  },
);

test("an ext4 file system that turns itself read-only under load ends the process, and nothing acknowledged is lost", async (context) => {
  const disk = await diskFor(context, "ext4", DISK_BYTES);
  const node = await masterIn(path.join(disk.directory, "data"));
  const load = new AuditedLoad();
  await node.start();
  load.start(node.address);
  await until("the load is on", () => load.counts.acknowledged > 200);
  await disk.turnReadOnly();
  expect(await node.ended()).toBe(1);
  await load.ended();
  expect(node.log.at(-1)?.msg).toMatch(/the disk failed/);
  await disk.unmount();
  await disk.mount();
  await node.start();
  await load.audit(node.address);
});
