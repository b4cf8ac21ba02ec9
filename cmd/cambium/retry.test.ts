import { expect, test } from "vitest";
import { CambiumError, type CambiumErrorCode } from "../../api/client/node.js";
import { isPassingRead, isPassingWrite, withRetries } from "./retry.js";

const { signal } = new AbortController();
const failing = (codes: CambiumErrorCode[]) => (): Promise<string> => {
  const code = codes.shift();
  return code ? Promise.reject(new CambiumError(code, code)) : Promise.resolve("done");
};

test("what passes by itself is tried again with growing pauses, until it works", async () => {
  const pauses: number[] = [];
  const told: string[] = [];
  const result = await withRetries(failing(["unreachable", "not_master", "outcome_unknown", "resource_exhausted"]), {
    retryForMs: 60_000,
    signal,
    failed: ({ code }) => told.push(code),
    pause: (delayMs) => {
      pauses.push(delayMs);
      return Promise.resolve();
    },
  });
  expect(result).toBe("done");
  expect(told).toEqual(["unreachable", "not_master", "outcome_unknown", "resource_exhausted"]);
  for (const [i, delayMs] of pauses.entries()) {
    expect(delayMs).toBeGreaterThanOrEqual(50 * 2 ** i);
    expect(delayMs).toBeLessThan(100 * 2 ** i);
  }
});

test("when the time is over the last error is thrown", async () => {
  await expect(withRetries(failing(["unavailable"]), { retryForMs: 0, signal })).rejects.toMatchObject({
    code: "unavailable",
  });
});

test("what does not pass is thrown at once, and so is everything after an interruption", async () => {
  await expect(withRetries(failing(["invalid_argument"]), { retryForMs: 9e9, signal })).rejects.toThrow(
    "invalid_argument",
  );
  await expect(withRetries(() => Promise.reject(new TypeError("a bug")), { retryForMs: 9e9, signal })).rejects.toThrow(
    TypeError,
  );
  await expect(
    withRetries(failing(["unavailable"]), { retryForMs: 9e9, signal: AbortSignal.abort() }),
  ).rejects.toMatchObject({ code: "unavailable" });
});

test("an interruption ends the pause", async () => {
  const controller = new AbortController();
  const call = withRetries(failing(["unavailable", "canceled"]), {
    retryForMs: 9e9,
    signal: controller.signal,
    failed: () => setImmediate(() => controller.abort()),
  });
  await expect(call).rejects.toMatchObject({ code: "canceled" });
});

test("a read is not repeated for what only a write has to wait for", () => {
  const error = new CambiumError("resource_exhausted", "too large");
  expect([isPassingRead(error), isPassingWrite(error)]).toEqual([false, true]);
});
