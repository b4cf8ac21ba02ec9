import { Socket } from "node:net";
import { expect, test } from "vitest";
import { Doorway, FIRST_WORDS_BYTES_MAX } from "./doorway.js";

/** A connection that has said so much. */
function saying(bytes: number): Socket {
  const socket = new Socket();
  socket.unshift(Buffer.alloc(bytes));
  return socket;
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function start(): { doorway: Doorway; entered: Socket[] } {
  const entered: Socket[] = [];
  return { doorway: new Doorway((socket) => entered.push(socket)), entered };
}

test("who says little comes in at once, past all who wait", () => {
  const { doorway, entered } = start();
  const [large, small] = [saying(FIRST_WORDS_BYTES_MAX + 1), saying(FIRST_WORDS_BYTES_MAX)];
  doorway.come(large);
  doorway.come(small);
  expect(entered).toEqual([small]);
});

test("who says much comes in when it is its turn, one in each turn of the event loop", async () => {
  const { doorway, entered } = start();
  const all = Array.from({ length: 5 }, () => saying(FIRST_WORDS_BYTES_MAX + 1));
  for (const socket of all) doorway.come(socket);
  for (let n = 0; n <= all.length; n++) {
    expect(entered).toEqual(all.slice(0, n));
    await nextTurn();
  }
  doorway.come(all[0]!);
  await nextTurn();
  expect(entered).toHaveLength(6);
  for (const socket of all) expect(socket.listenerCount("error")).toBe(0);
});

test("who leaves or fails while it waits takes nobody's turn for long, and ends nothing", async () => {
  const { doorway, entered } = start();
  const [failing, staying] = [saying(FIRST_WORDS_BYTES_MAX + 1), saying(FIRST_WORDS_BYTES_MAX + 1)];
  doorway.come(failing);
  doorway.come(staying);
  failing.destroy(new Error("reset"));
  await nextTurn();
  await nextTurn();
  expect(entered).toEqual([staying]);
});
