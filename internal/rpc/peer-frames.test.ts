import { ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FrameReader } from "./peer-frames.js";
import { frame } from "./testing/test-server.js";

/** What comes of a stream in these pieces, until it is found broken. */
function readAll(pieces: readonly Uint8Array[], bytesMax = 1000): { messages: string[]; error?: ConnectError } {
  const reader = new FrameReader(bytesMax);
  const messages: string[] = [];
  try {
    for (const piece of pieces) reader.read(Buffer.from(piece), (message) => messages.push(message.toString("hex")));
    reader.end();
    return { messages };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    return { messages, error };
  }
}

/** The bytes, cut at these places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return sorted.slice(1).map((end, at) => bytes.subarray(sorted[at], end));
}

describe("frames", () => {
  test("give the messages in them, however the stream is cut", () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 });
    fc.assert(
      fc.property(messages, fc.array(fc.nat(), { maxLength: 12 }), (sent, places) => {
        const stream = Buffer.concat(sent.map((message) => frame(message)));
        expect(readAll(cut(stream, places))).toEqual({
          messages: sent.map((message) => Buffer.from(message).toString("hex")),
        });
      }),
    );
  });

  test("give a message of megabytes that comes in small pieces", () => {
    const message = Buffer.alloc(5 * 1024 * 1024).map((_, index) => index % 251);
    const stream = frame(message);
    const found: Buffer[] = [];
    const reader = new FrameReader(message.length);
    for (let at = 0; at < stream.length; at += 60_000) {
      reader.read(stream.subarray(at, at + 60_000), (whole) => found.push(whole));
    }
    reader.end();
    expect(found).toHaveLength(1);
    expect(Buffer.compare(found[0]!, message)).toBe(0);
  });

  test("that are too large, compressed or cut off end the stream after what came before, and take no memory", () => {
    const whole = frame(new Uint8Array([7]));
    const tooLarge = frame(new Uint8Array(11)).subarray(0, 5);
    expect(readAll([whole, tooLarge], 10)).toMatchObject({
      messages: ["07"],
      error: { rawMessage: "message size 11 is larger than configured readMaxBytes 10" },
    });
    const compressed = frame(new Uint8Array([1]), 1);
    expect(readAll([whole, compressed])).toMatchObject({
      messages: ["07"],
      error: { rawMessage: "received compressed envelope, but do not know how to decompress" },
    });
    for (let length = 1; length < whole.length; length++) {
      expect(readAll([whole, whole.subarray(0, length)])).toMatchObject({
        messages: ["07"],
        error: { rawMessage: "protocol error: incomplete envelope" },
      });
    }
  });
});
