/** How numbers are written. What is unknown is a dash. */

export function grouped(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : "–";
}

export function ratio(value: number): string {
  return fixed(value, 2);
}

export function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

/** Three digits, as far as there are any to show. */
export function rounded(value: number): string {
  if (Math.abs(value) >= 100) return grouped(value);
  return fixed(value, Math.abs(value) >= 10 ? 1 : 2);
}

export function megabytes(bytes: number): string {
  return `${grouped(bytes / 1e6)} MB`;
}
