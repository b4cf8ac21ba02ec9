/** `txn`: a transaction, written as JSON. */
import { type Command } from "commander";
import type { Compare, Comparison, TxnOperation, TxnReceipt, WriteResult, Entry } from "../../api/client/node.js";
import { CliError } from "./cli-error.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { addAcknowledgeOption, type WriteFlags } from "./read-options.js";
import { jsonValue, type OutputStream, type Terminal, write, writeJson } from "./terminal.js";
import { readStdin } from "./read-stdin.js";
import { onOneLine, shownValue } from "./text-line.js";

const HELP = `
The transaction is one JSON object, as an argument or (-) from stdin:

  {
    "when": [                                          all of them must hold; none: they hold
      {"key": "order:7", "exists": false},
      {"key": "stock", "value": "3"},                  equal, or with "is": "=", "!=", "<" or ">"
      {"key": "config", "is": "<", "modSeq": 42}       or "createSeq"
    ],
    "do": [                                            when they hold
      {"set": "order:7", "value": "lamp", "ttlMs": 60000, "keepTtl": false, "ifAbsent": true, "ifSeq": 0},
      {"incr": "stock", "by": -1, "initial": 0, "min": 0, "max": 10},
      {"touch": "session:1", "ttlMs": 0},
      {"del": "cart:1"},
      {"get": "stock"}
    ],
    "otherwise": [{"get": "stock"}]                    when one does not
  }

Bytes that are no text are given as "valueBase64", and 64-bit numbers beyond 2^53 as texts.

Example:
  $ cambium txn '{"when": [{"key": "lock", "exists": false}], "do": [{"set": "lock", "value": "me"}]}'`;

export function addTxnCommand(program: Command, terminal: Terminal): void {
  addAcknowledgeOption(program.command("txn"))
    .summary("compare keys, and change them by what they are, at once")
    .description(
      "Carries out a transaction, as one record of the log: one list of operations when all comparisons hold, and another one " +
        "when not. Prints which it was, and a line for each operation's result. Exit code 1 when a comparison did not hold.",
    )
    .argument("[json]", "the transaction; - reads it from stdin", "-")
    .option("--json", "print the answer as JSON")
    .addHelpText("after", HELP)
    .action((text: string, _options, command: Command) => txn(text, command.optsWithGlobals(), terminal));
}

async function txn(
  text: string,
  options: GlobalOptions & WriteFlags & { readonly json?: true },
  { stdin, stdout, signal }: Terminal,
): Promise<void> {
  const { when, operations, otherwise } = parseTxn(
    text === "-" ? new TextDecoder().decode(await readStdin(stdin, signal)) : text,
  );
  const { acknowledge } = options;
  const receipt: TxnReceipt = await withClient(options, (client) =>
    client
      .txn()
      .compare(...when)
      .do(...operations)
      .otherwise(...otherwise)
      .commit({ acknowledge, signal }),
  );
  const done = receipt.succeeded ? operations : otherwise;
  if (options.json) await writeJson(stdout, jsonOf(receipt));
  else await write(stdout, textOf(receipt, done, stdout));
  if (!receipt.succeeded) throw new CliError("failed", "");
}

type Result = Entry | undefined | bigint | WriteResult;

function jsonOf({ succeeded, failedCompares, results, position, token }: TxnReceipt): object {
  return {
    succeeded,
    failedCompares,
    results: (results as readonly Result[]).map(jsonResult),
    position,
    token: Buffer.from(token).toString("base64"),
  };
}

function jsonResult(result: Result): object {
  if (result === undefined) return { exists: false };
  if (typeof result === "bigint") return { value: String(result) };
  if ("existed" in result) return { existed: result.existed };
  const { value, createSeq, modSeq, ttlMs } = result;
  return { exists: true, ...jsonValue(value), createSeq, modSeq, ttlMs };
}

function textOf(
  { succeeded, failedCompares, results, position }: TxnReceipt,
  done: readonly TxnOperation[],
  stdout: OutputStream,
): string {
  const failed = failedCompares.map((place) => place + 1).join(", ");
  const head = succeeded ? "the comparisons hold" : `comparison ${failed} did not hold`;
  const lines = (results as readonly Result[]).map((result, index) => {
    const { kind, key } = done[index]!;
    return `${kind} ${onOneLine(key)}\t${shownResult(result, stdout)}`;
  });
  return [`${head}; seq ${position.seq}, epoch ${position.epoch}`, ...lines, ""].join("\n");
}

function shownResult(result: Result, stdout: OutputStream): string {
  if (result === undefined) return "absent";
  if (typeof result === "bigint") return String(result);
  if ("existed" in result) return result.existed ? "existed" : "was absent";
  return shownValue(result.value, stdout);
}

interface ParsedTxn {
  readonly when: readonly Compare[];
  readonly operations: readonly TxnOperation[];
  readonly otherwise: readonly TxnOperation[];
}

/** Throws `CliError` `usage` that says where it is wrong. Nothing that is not understood is passed over. */
export function parseTxn(text: string): ParsedTxn {
  const plan = new Fields(parseJson(text), "the transaction");
  const when = plan.list("when").map((part) => plan.inside(part, parseCompare));
  const operations = plan.list("do").map((part) => plan.inside(part, parseOperation));
  const otherwise = plan.list("otherwise").map((part) => plan.inside(part, parseOperation));
  plan.end();
  return { when, operations, otherwise };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CliError("usage", `the transaction is no JSON: ${(error as Error).message}`, { cause: error });
  }
}

function parseCompare(fields: Fields): Compare {
  const key = fields.text("key") ?? fields.missing("key");
  const is = (fields.text("is") ?? "=") as Comparison;
  const exists = fields.boolean("exists");
  const value = fields.bytes();
  const seqs = (["modSeq", "createSeq"] as const).map((target) => ({ target, to: fields.number(target) }));
  const compares: Compare[] = [];
  if (exists !== undefined) compares.push({ key, is, target: "exists", to: exists });
  if (value !== undefined) compares.push({ key, is, target: "value", to: value });
  for (const { target, to } of seqs) if (to !== undefined) compares.push({ key, is, target, to });
  const [compare, ...more] = compares;
  if (!compare || more.length > 0) return fields.wrong("has one of exists, value, valueBase64, modSeq and createSeq");
  return compare;
}

const KINDS = { set: "set", del: "delete", touch: "touch", incr: "increment", get: "get" } as const;

function parseOperation(fields: Fields): TxnOperation {
  const named = (Object.keys(KINDS) as (keyof typeof KINDS)[]).filter((name) => fields.has(name));
  const [name, ...more] = named;
  if (!name || more.length > 0) return fields.wrong("has one of set, del, touch, incr and get");
  const key = fields.text(name) ?? fields.missing(name);
  const kind = KINDS[name];
  switch (kind) {
    case "get":
      return { kind, key };
    case "delete":
      return { kind, key, ifSeq: fields.number("ifSeq") };
    case "touch":
      return { kind, key, ttlMs: fields.number("ttlMs") ?? fields.missing("ttlMs"), ifSeq: fields.number("ifSeq") };
    case "increment":
      return {
        kind,
        key,
        delta: fields.int64("by"),
        initial: fields.int64("initial"),
        min: fields.int64("min"),
        max: fields.int64("max"),
        ttlMs: fields.number("ttlMs"),
      };
    case "set":
      return {
        kind,
        key,
        value: fields.bytes() ?? fields.missing("value"),
        ttlMs: fields.number("ttlMs"),
        keepTtl: fields.boolean("keepTtl"),
        ifAbsent: fields.boolean("ifAbsent"),
        ifSeq: fields.number("ifSeq"),
      };
  }
}

/** The fields of a JSON object, each of which is to be taken once. */
class Fields {
  readonly #left: Map<string, unknown>;
  readonly #what: string;

  constructor(value: unknown, what: string) {
    this.#what = what;
    if (typeof value !== "object" || value === null || Array.isArray(value)) this.wrong("is to be an object");
    this.#left = new Map(Object.entries(value));
  }

  has(name: string): boolean {
    return this.#left.has(name);
  }

  text(name: string): string | undefined {
    return this.#take(name, (value) => typeof value === "string", "a text") as string | undefined;
  }

  boolean(name: string): boolean | undefined {
    return this.#take(name, (value) => typeof value === "boolean", "true or false") as boolean | undefined;
  }

  number(name: string): number | undefined {
    const isWhole = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
    return this.#take(name, isWhole, "a whole number from 0 on") as number | undefined;
  }

  int64(name: string): bigint | undefined {
    const isInteger = (value: unknown): boolean =>
      Number.isSafeInteger(value) || (typeof value === "string" && /^-?\d{1,19}$/.test(value));
    const value = this.#take(name, isInteger, "a whole number, beyond 2^53 as a text");
    return value === undefined ? undefined : BigInt(value as string | number);
  }

  bytes(): string | Uint8Array | undefined {
    const text = this.text("value");
    const isBase64 = (value: unknown): boolean =>
      typeof value === "string" && Buffer.from(value, "base64").toString("base64") === value;
    const base64 = this.#take("valueBase64", isBase64, "base64") as string | undefined;
    if (text !== undefined && base64 !== undefined) return this.wrong("has value or valueBase64, not both");
    return text ?? (base64 === undefined ? undefined : new Uint8Array(Buffer.from(base64, "base64")));
  }

  list(name: string): readonly { readonly value: unknown; readonly what: string }[] {
    const values = (this.#take(name, Array.isArray, "a list") ?? []) as readonly unknown[];
    return values.map((value, index) => ({ value, what: `${name}[${index}]` }));
  }

  inside<T>({ value, what }: { readonly value: unknown; readonly what: string }, parse: (fields: Fields) => T): T {
    const fields = new Fields(value, what);
    const parsed = parse(fields);
    fields.end();
    return parsed;
  }

  /** Nothing may be left. */
  end(): void {
    const [name] = this.#left.keys();
    if (name !== undefined) this.wrong(`has a field ${name}, which means nothing there`);
  }

  missing(name: string): never {
    return this.wrong(`lacks ${name}`);
  }

  wrong(how: string): never {
    throw new CliError("usage", `${this.#what} ${how} (cambium txn --help shows an example)`);
  }

  #take(name: string, isRight: (value: unknown) => boolean, what: string): unknown {
    const value = this.#left.get(name);
    if (!this.#left.delete(name)) return undefined;
    return isRight(value) ? value : this.wrong(`has a field ${name} that is to be ${what}`);
  }
}
