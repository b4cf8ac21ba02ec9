/** Durations and sizes, as people write them. */

const millisecondsOf = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

const bytesOf = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
} as const;

/** A number with a unit of `units`. */
const patternOf = (units: object): RegExp =>
  new RegExp(`^(\\d{1,15}(?:\\.\\d{1,9})?) ?(${Object.keys(units).join("|")})$`);

export const durationPattern = patternOf(millisecondsOf);
export const sizePattern = patternOf(bytesOf);

/** Milliseconds of a text like `250ms`, `1.5s`, `5m`, `2h` or `1d`; undefined when it is none, or no whole number of them. */
export function parseDuration(text: string): number | undefined {
  return parse(text, durationPattern, millisecondsOf);
}

/** Bytes of a text like `100MB` (100 million), `64MiB` (64 × 2^20) or `512B`; undefined when it is none, or no whole number of them. */
export function parseSize(text: string): number | undefined {
  return parse(text, sizePattern, bytesOf);
}

/** The duration in the largest unit that takes it whole: `90s`, `2h`. */
export function formatDuration(ms: number): string {
  return format(ms, millisecondsOf);
}

/** The size in the largest unit that takes it whole, a power of 1024 before one of 1000: `64KiB`, `100MB`. */
export function formatSize(bytes: number): string {
  return format(bytes, bytesOf);
}

function parse(text: string, pattern: RegExp, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits, unit] = pattern.exec(text) ?? [];
  const factor = units[unit ?? ""];
  if (digits === undefined || factor === undefined) return undefined;
  const value = Number(digits) * factor;
  const whole = Math.round(value);
  // 0.1s is 100 ms in people's arithmetic, and almost so in the machine's.
  return Number.isSafeInteger(whole) && Math.abs(value - whole) < 1e-6 ? whole : undefined;
}

function format(value: number, units: Readonly<Record<string, number>>): string {
  let best: [string, number] | undefined;
  for (const unit of Object.entries(units)) {
    if (value % unit[1] === 0 && (!best || unit[1] >= best[1]) && (value > 0 || !best)) best = unit;
  }
  return best ? `${value / best[1]}${best[0]}` : String(value);
}
