import { expect, test } from "vitest";
import { correctStatus, encodeStatusMessage } from "./library-errors.js";

test("of the message of a status only percent signs and what is no printable ASCII is encoded", () => {
  expect(encodeStatusMessage("key is empty; 1, 2 (~/x?) = 'a' \"b\"")).toBe("key is empty; 1, 2 (~/x?) = 'a' \"b\"");
  expect(encodeStatusMessage("100% of ä 🌱\n")).toBe("100%25 of %C3%A4 %F0%9F%8C%B1%0A");
  expect(encodeStatusMessage(" a b ")).toBe("%20a b%20");
});

test("what clients decode of a message is the message", () => {
  for (const message of ["", "%41", "ä;\u0000 ", "🌱 100 %"]) {
    expect(decodeURIComponent(encodeStatusMessage(message))).toBe(message);
  }
});

test("a status that the library encoded is encoded anew, and one without an error stays", () => {
  const trailer = new Headers({ "grpc-status": "3", "grpc-message": "a%3B%20b%20%25" });
  expect(correctStatus(trailer)).toBe(true);
  expect(trailer.get("grpc-message")).toBe("a; b %25");
  const fine = new Headers({ "grpc-status": "0" });
  expect(correctStatus(fine)).toBe(false);
  expect([...fine.keys()]).toEqual(["grpc-status"]);
});
