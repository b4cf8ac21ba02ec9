/** What a disk that fails, or a crash, at a bad moment must not make of a log. */
import { describe, expect, test } from "vitest";
import { seq } from "../base/position.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { appendText, openLog, someTexts, textsOf, turn } from "./testing/logs.js";

describe("the name of a segment", () => {
  test.each(["EIO", "ENOSPC"])("that could not be synced at a rotation (%s) ends the log", async (code) => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem });
    appendText(log, "before");
    await log.flush();
    fileSystem.failNext("syncDirectory", code, { path: /^wal$/ });
    await expect(log.rotate()).rejects.toMatchObject({ code: "failed" });
    expect(listener.failures).toHaveLength(1);
    expect(() => appendText(log, "after")).toThrow(expect.objectContaining({ code: "failed" }));
    await log.close();
    const again = await openLog({ fileSystem: fileSystem.copy() });
    expect(await textsOf(again.log)).toEqual(["before"]);
    await again.log.close();
  });

  test("that could not be given for lack of room leaves the log as it was", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem });
    appendText(log, "before");
    await log.flush();
    fileSystem.failNext("rename", "ENOSPC");
    await log.rotate();
    appendText(log, "after");
    await log.flush();
    expect(listener.failures).toEqual([]);
    await log.close();
    const again = await openLog({ fileSystem });
    expect(await textsOf(again.log)).toEqual(["before", "after"]);
    await again.log.close();
  });

  test("that is gone when the sync of the directory fails stands in the way of no later compaction", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem });
    for (const text of someTexts(3)) {
      appendText(log, text);
      await log.rotate();
    }
    fileSystem.failNext("syncDirectory", "EIO", { path: /^wal$/ });
    await expect(log.truncateBelow(seq(2))).rejects.toMatchObject({ code: "io" });
    await log.truncateBelow(seq(3));
    expect(log.compactSeq).toBe(3);
    await log.close();
    const again = await openLog({ fileSystem });
    expect(again.log.compactSeq).toBe(3);
    await again.log.close();
  });
});

test.each(["EIO", "ENOSPC"])(
  "a sync that fails (%s) at a rotation which was asked for is as final as any other",
  async (code) => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem, durability: "os" });
    appendText(log, "unsynced");
    fileSystem.failNext("datasync", code);
    await expect(log.rotate()).rejects.toMatchObject({ code: "failed" });
    expect(listener.failures).toHaveLength(1);
    await log.close();
  },
);

test("a cut inside a frame has everything before it on the disk, in mode os too", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, durability: "os" });
  for (const group of [
    ["1", "2"],
    ["3", "4", "5"],
  ]) {
    for (const text of group) appendText(log, text);
    while (log.writtenSeq < log.lastSeq) await turn();
  }
  await log.cutAfter(seq(4));
  const again = await openLog({ fileSystem: fileSystem.crash() });
  expect(await textsOf(again.log)).toEqual(["1", "2", "3", "4"]);
  await again.log.close();
  await log.close();
});

test("a disk that is full after unproven records got a segment of their own is no reason to write to the old one", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem });
  for (const text of ["1", "2"]) {
    appendText(log, text);
    await log.flush();
  }
  // The last frame is not proven to be synced by any after it.
  const left = fileSystem.copy();
  await log.close();
  left.failNext("truncate", "ENOSPC");
  await expect(openLog({ fileSystem: left })).rejects.toMatchObject({ code: "disk_full" });
  const again = await openLog({ fileSystem: left.copy() });
  expect(await textsOf(again.log)).toEqual(["1", "2"]);
  appendText(again.log, "3");
  await again.log.close();
  const last = await openLog({ fileSystem: left.copy() });
  await last.log.close();
});

test("an end that another segment took over stays gone, although the run that cut it off could not sync that", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem });
  for (const group of [["1"], ["2", "3", "4"]]) {
    for (const text of group) appendText(log, text);
    await log.flush();
  }
  fileSystem.failNext("datasync", "EIO", { after: 2 });
  await expect(log.cutAfter(seq(3))).rejects.toMatchObject({ code: "failed" });
  const left = fileSystem.copy();
  const again = await openLog({ fileSystem: left });
  expect(await textsOf(again.log)).toEqual(["1", "2", "3"]);
  // Another segment comes in the place of the one that took over.
  await again.log.cutAfter(seq(2));
  const last = await openLog({ fileSystem: left.crash() });
  expect(await textsOf(last.log)).toEqual(["1", "2"]);
  await last.log.close();
});

test("a cut between two frames survives a crash that zeroes the first block of what goes and leaves the later ones", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, durability: "os" });
  for (const text of ["1", "2", "3"]) {
    appendText(log, text.repeat(1500));
    await log.flush();
  }
  const remains: MemoryFileSystem[] = [];
  fileSystem.onOperation = () => {
    remains.push(fileSystem.crash({ sector: (_path, sector, versions) => (sector === 4 ? versions : 0) }));
  };
  await log.cutAfter(seq(1));
  fileSystem.onOperation = undefined;
  await log.close();
  expect(remains.length).toBeGreaterThan(3);
  for (const fileSystem of remains) {
    const again = await openLog({ fileSystem });
    expect((await textsOf(again.log))[0]).toBe("1".repeat(1500));
    await again.log.close();
  }
});
