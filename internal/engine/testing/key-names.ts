/** For tests: keys that are alike at their beginnings or ends, of all lengths, and of all bytes; one character a byte. */
import fc from "fast-check";

export const numbered = (n: number): string => `key-${String(n).padStart(5, "0")}`;

export const shapes: readonly ((n: number) => string)[] = [
  numbered,
  // Of every length, with the bytes that a signed order would misplace, and zeros at their ends.
  (n) => `${"a".repeat(n % 7)}${String.fromCharCode((n * 89) & 255)}${"\0".repeat(n % 4)}`,
  (n) => `user:${n % 13}:${"x".repeat(n % 29)}:${n}`,
  (n) => "\0".repeat(n % 300),
  (n) => "ÿ".repeat(n % 300),
];

export const keyName = fc.oneof(
  fc.record({ shape: fc.nat(shapes.length - 1), n: fc.nat(4000) }).map(({ shape, n }) => shapes[shape]!(n)),
  fc.array(fc.constantFrom("\0", "a", "\x7f", "\x80", "ÿ"), { maxLength: 6 }).map((bytes) => bytes.join("")),
);
