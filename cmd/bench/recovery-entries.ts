/** What is recovered in the bench: keys of 16 bytes, in ascending order, with values of 100. */
const VALUE_BYTES = 100;
const encoder = new TextEncoder();

export function entryKey(n: number): Uint8Array {
  return encoder.encode(`k${String(n).padStart(15, "0")}`);
}

export function entryValue(): Uint8Array {
  return Uint8Array.from({ length: VALUE_BYTES }, (_, index) => 100 + index);
}
