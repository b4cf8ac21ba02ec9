import fc from "fast-check";
import { expect, test } from "vitest";
import { AddressError, canonicalHost, formatAddress, isHost, isWildcardHost, parseAddress } from "./address.js";

test.each([
  ["node-1:8080", "node-1", 8080],
  ["NODE-1.Example.COM:1", "node-1.example.com", 1],
  ["my_service:65535", "my_service", 65_535],
  ["10.0.0.1:8080", "10.0.0.1", 8080],
  ["[::1]:8080", "::1", 8080],
  ["[2001:DB8:0:0:0:0:0:1]:8080", "2001:db8::1", 8080],
  ["[::ffff:10.0.0.1]:8080", "::ffff:a00:1", 8080],
  ["1.example:80", "1.example", 80],
])("%s is read", (text, host, port) => {
  expect(parseAddress(text)).toEqual({ host, port });
});

test.each([
  ["", "is no host:port"],
  ["node-1", "has no port"],
  ["10.0.0.1", "has no port"],
  ["::1", "has no port"],
  ["::1:8080", "has no port"],
  ["node-1:", "port"],
  ["node-1:0", "from 1 to 65535"],
  ["node-1:65536", "from 1 to 65535"],
  ["node-1:8e3", "from 1 to 65535"],
  ["node-1:-1", "from 1 to 65535"],
  ["node-1: 80", "from 1 to 65535"],
  [":8080", "the host of"],
  ["a b:8080", "the host of"],
  ["-a:8080", "the host of"],
  ["a..b:8080", "the host of"],
  ["256.0.0.1:8080", "the host of"],
  ["10.0.1:8080", "the host of"],
  ["010.0.0.1:8080", "the host of"],
  [`${"a".repeat(64)}:8080`, "the host of"],
  [`${"a.".repeat(130)}a:8080`, "the host of"],
  ["[::1:8080", "is no host:port"],
  ["[]:8080", "brackets"],
  ["[node-1]:8080", "brackets"],
  ["[10.0.0.1]:8080", "brackets"],
  ["[::1%eth0]:8080", "brackets"],
  ["http://node-1:8080", "is no host:port"],
  ["node-1:8080/", "from 1 to 65535"],
])("%j is refused, and the message says why", (text, why) => {
  expect(() => parseAddress(text)).toThrow(AddressError);
  expect(() => parseAddress(text)).toThrow(why);
});

test("what is formatted is read back as it was", () => {
  const address = fc.record({
    host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()).map((host) => canonicalHost(host)),
    port: fc.integer({ min: 1, max: 65_535 }),
  });
  fc.assert(
    fc.property(address, ({ host, port }) => {
      fc.pre(host !== undefined);
      expect(parseAddress(formatAddress({ host, port }))).toEqual({ host, port });
    }),
  );
});

test("no text does anything but parse or throw AddressError", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }),
      fc.string({ unit: fc.constantFrom("[", "]", ":", ".", "a", "1", "f", "%") }),
      (a, b) => {
        for (const text of [a, b]) {
          try {
            expect(parseAddress(formatAddress(parseAddress(text)))).toEqual(parseAddress(text));
          } catch (error) {
            expect(error).toBeInstanceOf(AddressError);
          }
        }
      },
    ),
  );
});

test("a host may be a name or an IP address, in brackets only where it is IPv6", () => {
  expect(["localhost", "0.0.0.0", "::", "[::]"].map(canonicalHost)).toEqual(["localhost", "0.0.0.0", "::", "::"]);
  expect(["", "[localhost]", "localhost:80", "300.1.1.1", "a b"].some(isHost)).toBe(false);
  expect(["0.0.0.0", "::", "127.0.0.1", "localhost"].map(isWildcardHost)).toEqual([true, true, false, false]);
});
