/** The keys and values of the mixed load, so that whoever reads one can tell what was written last. */

const VALUE_BYTES = 100;

export function mixedKey(n: number): string {
  return `mixed/${String(n).padStart(10, "0")}`;
}

/** A hundred bytes that say which version of which key they are. */
export function mixedValue(key: string, version: number): Buffer {
  return Buffer.alloc(VALUE_BYTES, `${key} ${version};`);
}

/** The version in a value of `key`; undefined when the bytes are not wholly one. */
export function versionIn(key: string, value: Uint8Array): number | undefined {
  const bytes = Buffer.from(value);
  const version = Number(/ (\d+);/.exec(bytes.toString("latin1"))?.[1]);
  return Number.isNaN(version) || !mixedValue(key, version).equals(bytes) ? undefined : version;
}
