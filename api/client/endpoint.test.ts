import { expect, test } from "vitest";
import { CambiumError } from "./cambium-error.js";
import { endpointUrl } from "./endpoint.js";

test.each([
  ["127.0.0.1:8081", "http://127.0.0.1:8081"],
  ["localhost", "http://localhost:8080"],
  ["node.example:80", "http://node.example"],
  [" [::1]:9000 ", "http://[::1]:9000"],
  ["[::1]", "http://[::1]:8080"],
  ["http://node", "http://node"],
  ["https://node:8443/", "https://node:8443"],
  ["https://gateway/cambium/", "https://gateway/cambium"],
])("%s is the endpoint %s", (text, url) => {
  expect(endpointUrl(text)).toBe(url);
});

test("an address without a scheme takes the one of the node that named it", () => {
  expect(endpointUrl("node:8080", "https:")).toBe("https://node:8080");
});

test.each([
  "",
  " ",
  "a b",
  "::1:8080",
  "host:99999",
  "ftp://host",
  "http://user:secret@host",
  "host/path",
  "http://h?x",
  "h#x",
])("%j is no endpoint", (text) => {
  expect(() => endpointUrl(text)).toThrow(CambiumError);
});
