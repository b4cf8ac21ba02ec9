/** Durations and sizes as people write and read them. */
import { InvalidArgumentError } from "commander";

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_UNITS_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
};

/** Whole milliseconds, at least one. Throws commander's error for what is no duration. */
export function parseDurationMs(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim()) ?? [];
  const ms = Math.round(Number(number) * (DURATION_UNITS_MS[unit ?? ""] ?? NaN));
  if (ms >= 1 && Number.isSafeInteger(ms)) return ms;
  throw new InvalidArgumentError("Write a number and a unit, such as 500ms, 30s, 5m, 1h or 7d.");
}

/** Whole bytes. Throws commander's error for what is no size. */
export function parseSizeBytes(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?(B|[KMG]i?B)?$/.exec(text.trim()) ?? [];
  const bytes = Math.round(Number(number) * (SIZE_UNITS_BYTES[unit ?? "B"] ?? NaN));
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new InvalidArgumentError("Write a number of bytes, or one with a unit such as 512KiB or 1MB.");
}

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Write a whole number from ${least} to ${most}.`);
  };
}

/** Such as `0 B`, `999 B`, `1.5 KiB`, `12 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 999.5) break;
    value /= 1024;
    unit = next;
  }
  return `${unit === "B" || value >= 99.5 ? Math.round(value) : Number(value.toFixed(1))} ${unit}`;
}

/** Such as `350 ms`, `4.2 s`, `3m 05s`, `2h 07m`, `3d 01h`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${Number((ms / 1000).toFixed(1))} s`;
  const seconds = Math.round(ms / 1000);
  const two = (value: number): string => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h ${two(minutes % 60)}m`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** With thin groups of three, as `12,345`. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

/** `1 file`, `2 files`. */
export function counted(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
