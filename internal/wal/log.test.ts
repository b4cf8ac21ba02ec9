import { expect, test } from "vitest";
import { MemoryFileSystem } from "./memory-file-system.js";
import { appendText, openLog, someTexts, textsOf } from "./testing/logs.js";

test("what was appended is there after a close and a new start", async () => {
  const fileSystem = new MemoryFileSystem();
  const texts = someTexts(100);
  const { log, listener } = await openLog({ fileSystem });
  for (const text of texts) appendText(log, text);
  await log.flush();
  expect(listener.keptSeq).toBe(100);
  expect(await textsOf(log)).toEqual(texts);
  await log.close();

  const again = await openLog({ fileSystem });
  expect(again.log.recovery).toMatchObject({ records: 100, tornBytes: 0, cleanShutdown: true, syncedSeq: 100 });
  expect(await textsOf(again.log)).toEqual(texts);
  await again.log.close();
});
