import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { GetRequestSchema } from "../gen/cambium/v1/kvstore_pb.js";
import { keepByteOrderMarks } from "./text-encoding.js";

test("a byte order mark at the beginning of a key is a part of the key", () => {
  keepByteOrderMarks();
  for (const key of ["\ufeffx", "x", "\ufeff\ufeff", "ключ 🌳"]) {
    expect(fromBinary(GetRequestSchema, toBinary(GetRequestSchema, create(GetRequestSchema, { key }))).key).toBe(key);
  }
});

test("half a surrogate pair is refused, not replaced", () => {
  keepByteOrderMarks();
  expect(() => toBinary(GetRequestSchema, create(GetRequestSchema, { key: "\ud800" }))).toThrow(
    "half a surrogate pair",
  );
});

test("bytes that are no UTF-8 are refused, not replaced", () => {
  keepByteOrderMarks();
  expect(() => fromBinary(GetRequestSchema, new Uint8Array([10, 1, 0xff]))).toThrow(/UTF-8|utf-8|encoded data/i);
});
