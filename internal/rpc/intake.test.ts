import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Intake } from "./intake.js";

const BYTES_MAX = 256 * 1024 * 1024;
import { frame } from "./testing/test-server.js";

describe("what of requests lies about", () => {
  test("is all that has come of a message until its call is over", () => {
    const intake = new Intake(BYTES_MAX);
    const [a, b] = [intake.begin({ isStream: false }), intake.begin({ isStream: false })];
    a.add(new Uint8Array(1000));
    b.add(new Uint8Array(5000));
    expect(intake.bytes).toBeGreaterThanOrEqual(6000);
    a.end();
    a.end();
    expect(intake.bytes).toBeLessThan(6000);
    b.end();
    expect(intake.bytes).toBe(0);
  });

  test("is refused beyond what all may have together, which is told to those who count it", () => {
    let overloads = 0;
    const intake = new Intake(1000, () => overloads++);
    const request = intake.begin({ isStream: false });
    request.add(new Uint8Array(500));
    expect(overloads).toBe(0);
    expect(() => request.add(new Uint8Array(500))).toThrow("limits.max_arriving_bytes");
    expect(overloads).toBe(1);
  });

  test("is nothing of a stream between its messages, in whatever pieces they come, and what is there of one in its middle", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(400), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 20 }),
        (sizes, pieces) => {
          const messages = Buffer.concat(sizes.map((size) => frame(new Uint8Array(size).fill(7))));
          const ends = sizes.map((_, n) => sizes.slice(0, n + 1).reduce((sum, size) => sum + size + 5, 0));
          const intake = new Intake(BYTES_MAX);
          const request = intake.begin({ isStream: true });
          for (let at = 0, n = 0; at < messages.length; n++) {
            const next = Math.min(messages.length, at + pieces[n % pieces.length]!);
            request.add(messages.subarray(at, next));
            at = next;
            const begun = at - (ends.findLast((end) => end <= at) ?? 0);
            if (begun === 0) expect(intake.bytes).toBe(0);
            else expect(intake.bytes).toBeGreaterThanOrEqual(begun);
          }
          expect(intake.bytes).toBe(0);
        },
      ),
    );
  });

  test("counts pieces too, since a message may come in as many as it has bytes", () => {
    const intake = new Intake(BYTES_MAX);
    const request = intake.begin({ isStream: false });
    for (let n = 0; n < 1000; n++) request.add(new Uint8Array(1));
    expect(intake.bytes).toBeGreaterThan(100_000);
  });

  test("is bounded: the request that goes beyond is refused, and others are taken again when it is over", () => {
    const intake = new Intake(BYTES_MAX);
    const first = intake.begin({ isStream: false });
    const half = new Uint8Array(BYTES_MAX / 2);
    first.add(half);
    const second = intake.begin({ isStream: false });
    expect(() => second.add(half)).toThrow(
      expect.objectContaining({
        code: Code.ResourceExhausted,
        rawMessage: expect.stringContaining("try again shortly"),
      }),
    );
    second.end();
    const third = intake.begin({ isStream: true });
    third.add(frame(new Uint8Array(1000)));
    third.end();
    first.end();
    expect(intake.bytes).toBe(0);
  });
});
