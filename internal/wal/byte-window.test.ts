import { expect, test } from "vitest";
import { ByteWindow } from "./byte-window.js";
import type { File } from "./file-system.js";
import { MemoryFileSystem } from "./memory-file-system.js";

const SIZE = 3_000_000;
const CHUNK = 100_000;
const content = Buffer.from(Uint8Array.from({ length: SIZE }, (_, at) => (at * 31 + (at >>> 8)) & 255));

async function fileOf(): Promise<File> {
  const file = await new MemoryFileSystem().open("file", "create");
  await file.write(content, 0);
  return file;
}

function expectBytes(window: ByteWindow, offset: number, length: number): void {
  const found = Math.min(length, SIZE - offset);
  expect(window.has(offset, found)).toBe(true);
  expect(window.view(offset, found).equals(content.subarray(offset, offset + found))).toBe(true);
}

test.each([false, true])(
  "a window gives the bytes of the file, small pieces and large ones (reads ahead: %s)",
  async (readsAhead) => {
    const window = new ByteWindow(await fileOf(), SIZE, CHUNK, { readsAhead });
    // Of all sizes: within a chunk, over its end, larger than the room that is left for what is kept, larger than all.
    const sizes = [40, 5000, 99_999, 1, 100_000, 40, 350_000, 7, 700_000, 40, 60_000];
    let offset = 80;
    for (let n = 0; offset < SIZE; n++) {
      const length = sizes[n % sizes.length]!;
      await window.ensure(offset, 40);
      expectBytes(window, offset, 40);
      await window.ensure(offset, length);
      expectBytes(window, offset, length);
      offset += length;
    }
    await window.settled();
  },
);

test.each([false, true])("a window may go on elsewhere, ahead or back (reads ahead: %s)", async (readsAhead) => {
  const window = new ByteWindow(await fileOf(), SIZE, CHUNK, { readsAhead });
  for (const offset of [0, 90_000, 150_000, 1_000_000, 1_099_990, 20, 2_999_990, 2_000_000, 5]) {
    await window.ensure(offset, 30_000);
    expectBytes(window, offset, 30_000);
  }
  await window.settled();
});

test("a file that gives less than it had is read as far as it goes, whether ahead or not", async () => {
  const file = await fileOf();
  const window = new ByteWindow(file, SIZE, CHUNK, { readsAhead: true });
  await window.ensure(0, 40);
  await file.truncate(620_000);
  for (let offset = 0; offset < 600_000; offset += 30_000) {
    await window.ensure(offset, 30_000);
    expectBytes(window, offset, 30_000);
  }
  await window.ensure(610_000, 30_000);
  expectBytes(window, 610_000, 10_000);
  expect(window.available(610_000)).toBe(10_000);
  await window.ensure(700_000, 40);
  expect(window.available(700_000)).toBe(0);
  await window.settled();
});

test("a read ahead that fails is told to who needs the bytes, and to nobody else", async () => {
  const file = await fileOf();
  let isBroken = false;
  const breaking: File = Object.create(file, {
    read: {
      value: (into: Uint8Array, position: number) =>
        isBroken ? Promise.reject(new Error("broken")) : file.read(into, position),
    },
  }) as File;
  const window = new ByteWindow(breaking, SIZE, CHUNK, { readsAhead: true });
  isBroken = true;
  await expect(window.fill(0, 40)).rejects.toThrow("broken");
  isBroken = false;
  const reading = window.fill(0, 40);
  await reading;
  isBroken = true;
  // The chunk behind the next one is asked for while this one is brought in.
  await window.fill(window.available(0), 40);
  await expect(window.fill(window.available(0) + 4 * CHUNK, 40)).rejects.toThrow("broken");
  await window.settled();
  isBroken = false;
  await window.fill(0, 40);
  expectBytes(window, 0, 40);
  await window.settled();
});
