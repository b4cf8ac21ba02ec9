import { expect, test } from "vitest";
import { normalAddress } from "./address.js";

test.each([
  ["localhost:8080", "localhost:8080"],
  ["Replica-1.Example.COM:08081", "replica-1.example.com:8081"],
  ["kv_replica:65535", "kv_replica:65535"],
  ["10.0.0.1:1", "10.0.0.1:1"],
  ["[::1]:8080", "[::1]:8080"],
  ["[FE80::1]:8080", "[fe80::1]:8080"],
])("%s is the address %s", (text, address) => {
  expect(normalAddress(text)).toBe(address);
});

test.each([
  "",
  "localhost",
  ":8080",
  "localhost:",
  "localhost:0",
  "localhost:65536",
  "localhost:8080 ",
  "localhost:80a",
  "http://localhost:8080",
  "user@localhost:8080",
  "localhost:8080/path",
  "::1:8080",
  "[::1:8080",
  "[::g]:8080",
  "999.0.0.1:8080",
  "a b:8080",
  "-e:8080\n",
  `${"a".repeat(254)}:8080`,
])("%j is no address", (text) => {
  expect(normalAddress(text)).toBeUndefined();
});
