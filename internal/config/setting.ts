/**
 * The kinds of settings that a configuration is made of. Each is a zod schema that reads what stands in the file, says in
 * one sentence what is wrong and what is right, and describes itself to editors.
 */
import { z } from "zod";
import { AddressError, canonicalHost, formatAddress, parseAddress } from "../base/address.js";
import { durationPattern, formatDuration, formatSize, parseDuration, parseSize, sizePattern } from "./unit.js";

// A type and not an interface, since only types are taken for a record of metadata.
export type About = {
  /** What the setting means, in sentences. */
  readonly description: string;
  /** A value that is worth showing, where there is no default. */
  readonly sample?: string;
  /** What counts when it is left out, where that is no fixed value. */
  readonly otherwise?: string;
};

/** Entries of a list. */
const listMax = 1000;
const shownMax = 60;

/** A value of a configuration file, as an error shows it. */
function shown(value: unknown): string {
  if (typeof value === "string")
    return JSON.stringify(value.length > shownMax ? `${value.slice(0, shownMax)}…` : value);
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  return Array.isArray(value) ? "a list" : "a mapping";
}

/** The message of a setting that must be `what`. */
function mustBe(what: string): (issue: { readonly input?: unknown }) => string {
  return ({ input }) => {
    if (input === undefined) return `is required: it must be ${what}`;
    if (input === null) return `has no value: it must be ${what}`;
    return `must be ${what}, not ${shown(input)}`;
  };
}

/** Reports a refused text from within a transformation. */
function refuse(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}

export function wholeNumber({ min, max, ...about }: About & { min: number; max: number }) {
  const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `from ${min} to ${max}`;
  const error = mustBe(`a whole number ${range}`);
  return z.int({ error }).min(min, { error }).max(max, { error }).meta(about);
}

export function flag(about: About) {
  return z.boolean({ error: mustBe("true or false") }).meta(about);
}

/** One of a few words. `elsewhere` holds words that are refused with an explanation of their own. */
export function choice<const Word extends string>(
  words: readonly Word[],
  { elsewhere = {}, ...about }: About & { elsewhere?: Readonly<Record<string, string>> },
) {
  const error = mustBe(words.length === 1 ? `"${words[0]}"` : `one of ${words.join(", ")}`);
  const explain = (issue: { readonly input?: unknown }): string => {
    const { input } = issue;
    return (typeof input === "string" && Object.hasOwn(elsewhere, input) && elsewhere[input]) || error(issue);
  };
  return z.enum(words, { error: explain }).meta(about);
}

/** A duration, in ms once read. */
export function duration({ min, max, ...about }: About & { min: string; max: string }) {
  const [minMs, maxMs] = [parseDuration(min)!, parseDuration(max)!];
  const error = mustBe(`a duration from ${min} to ${max}, a number and its unit (ms, s, m, h, d) like "1s"`);
  return z
    .string({ error })
    .regex(durationPattern, { error })
    .transform((text, context) => {
      const ms = parseDuration(text);
      return ms !== undefined && ms >= minMs && ms <= maxMs ? ms : refuse(context, error({ input: text }));
    })
    .meta({ ...about, range: `${formatDuration(minMs)} to ${formatDuration(maxMs)}` });
}

/** A size, in bytes once read. */
export function size({ min, max, ...about }: About & { min: string; max?: string }) {
  const minBytes = parseSize(min)!;
  const maxBytes = max === undefined ? Number.MAX_SAFE_INTEGER : parseSize(max)!;
  const range = max === undefined ? `of ${min} or more` : `from ${min} to ${max}`;
  const units = "KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024";
  const error = mustBe(`a size ${range}, a number of bytes or a number and its unit (${units})`);
  return z
    .union(
      [z.int({ error }).min(minBytes, { error }).max(maxBytes, { error }), z.string().regex(sizePattern, { error })],
      { error },
    )
    .transform((input, context) => {
      const bytes = typeof input === "number" ? input : parseSize(input);
      return bytes !== undefined && bytes >= minBytes && bytes <= maxBytes ? bytes : refuse(context, error({ input }));
    })
    .meta({
      ...about,
      range:
        max === undefined ? `${formatSize(minBytes)} or more` : `${formatSize(minBytes)} to ${formatSize(maxBytes)}`,
    });
}

/** A path of this machine. */
export function filePath(about: About) {
  const error = mustBe("a path");
  return z
    .string({ error })
    .min(1, { error })
    .refine((text) => !text.includes("\0"), { error })
    .meta(about);
}

/** A host, without a port. */
export function host(about: Partial<About> = {}) {
  const error = mustBe("an IP address or a host name, without a port");
  return z
    .string({ error })
    .transform((text, context) => canonicalHost(text) ?? refuse(context, error({ input: text })))
    .meta(about);
}

/** A `host:port`, in its canonical spelling once read. */
export function address(about: Partial<About> = {}) {
  return z
    .string({ error: mustBe('a host and a port like "node-1:8080"') })
    .transform((text, context) => {
      try {
        return formatAddress(parseAddress(text));
      } catch (error) {
        if (!(error instanceof AddressError)) throw error;
        return refuse(context, error.message);
      }
    })
    .meta(about);
}

/**
 * Applications in a web view have schemes of their own, which have no origin in the URL standard. A star within a host
 * would look like a pattern, and match nothing.
 */
const originPattern = /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@*\\]+$/;

/** The origin of web pages, exactly as browsers send it, or `*`. */
export function origin() {
  const error = mustBe('an origin like "https://app.example.com", without a path, or "*" for every page');
  return z.string({ error }).transform((text, context) => {
    if (text === "*") return text;
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const web = url?.protocol === "http:" || url?.protocol === "https:";
    if (url && web && url.origin !== text) {
      return refuse(context, `${error({ input: text })}; browsers would send ${JSON.stringify(url.origin)}`);
    }
    return url && originPattern.test(text) ? text : refuse(context, error({ input: text }));
  });
}

/** A list of other settings. */
export function list<Item extends z.ZodType>(item: Item, about: About, max = listMax) {
  const error = mustBe(`a list of at most ${max} entries`);
  const tooMany = (issue: { readonly input?: unknown }): string =>
    Array.isArray(issue.input) ? `has ${issue.input.length} entries; at most ${max} are allowed` : error(issue);
  return z.array(item, { error }).max(max, { error: tooMany }).meta(about);
}
