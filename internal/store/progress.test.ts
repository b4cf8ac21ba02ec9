import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { type Logger, type LogFields, silentLogger } from "../base/logger.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { Progress } from "./progress.js";
import { beginSoleMastership, bytes, openStore } from "./testing/stores.js";

interface Line {
  readonly message: string;
  readonly fields: LogFields | undefined;
}

function notingLogger(): { logger: Logger; lines: Line[] } {
  const lines: Line[] = [];
  return { logger: { ...silentLogger, info: (message, fields) => lines.push({ message, fields }) }, lines };
}

/** On which a second passes between any two looks. */
class HastyClock extends FakeClock {
  #looks = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.#looks++ * 1000;
  }
}

test("a long start says once a second how far it has come, and a short one nothing", () => {
  const clock = new FakeClock();
  const { logger, lines } = notingLogger();
  const progress = new Progress(clock, logger, "checking the log");
  for (let reached = 1; reached <= 1000; reached++) progress.tick(reached);
  expect(lines).toEqual([]);
  for (let reached = 1001; reached <= 11_000; reached++) {
    clock.advance(0.25);
    progress.tick(reached);
  }
  expect(lines.map(({ message }) => message)).toEqual(["checking the log", "checking the log"]);
  expect(lines[0]!.fields).toEqual({ reached: 5056, elapsed_ms: 1014 });
});

test("a store that takes long to open says so of its log and of its snapshot", async () => {
  const fileSystem = new MemoryFileSystem();
  const store = await openStore({ fileSystem });
  await beginSoleMastership(store);
  for (let index = 0; index < 200; index++) {
    await store.write([{ kind: "set", key: bytes(`key-${index}`), value: bytes("x") }]);
  }
  await store.close();

  const fromLog = notingLogger();
  const again = await openStore({ fileSystem, clock: new HastyClock(), logger: fromLog.logger });
  const progressOf = (lines: readonly Line[]): Line[] =>
    lines.filter(({ fields }) => fields?.["reached"] !== undefined);
  expect(progressOf(fromLog.lines).map(({ message, fields }) => [message, fields?.["reached"]])).toEqual([
    ["checking the log", 64],
    ["checking the log", 128],
    ["checking the log", 192],
    ["applying the log", 201],
  ]);
  await beginSoleMastership(again);
  for (let index = 200; index < 300; index++) {
    await again.write([{ kind: "set", key: bytes(`key-${index}`), value: bytes("x") }]);
  }
  await again.createSnapshot();
  await again.close();

  const fromSnapshot = notingLogger();
  const last = await openStore({ fileSystem, clock: new HastyClock(), logger: fromSnapshot.logger });
  expect(progressOf(fromSnapshot.lines).map(({ message, fields }) => [message, fields?.["reached"]])).toEqual([
    // As many at a time as are restored together.
    ["loading a snapshot", 256],
    ["loading a snapshot", 300],
  ]);
  await last.close();
});
