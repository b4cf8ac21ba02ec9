/** `wal dump`: the records of a log, a line each. */
import { Option, type Command } from "commander";
import { unreachable } from "../../internal/base/assert.js";
import { decodeRecord } from "../../internal/records/record-codec.js";
import { FormatError } from "../../internal/store/byte-codec.js";
import { type Change, decodeChanges } from "../../internal/store/change.js";
import { readLog } from "../../internal/wal/read-log.js";
import type { LogRecord } from "../../internal/wal/record.js";
import { CliError } from "./cli-error.js";
import { jsonValue, type Terminal, write } from "./terminal.js";
import { wholeNumber } from "./units.js";
import { openDirectory } from "./wal-directory.js";

interface DumpFlags {
  readonly after: number;
  readonly limit?: number;
  readonly keys?: true;
  readonly values?: true;
  readonly records?: true;
  readonly json?: true;
}

/** A record as it is printed. */
interface Line {
  readonly json: Readonly<Record<string, unknown>>;
  readonly text: string;
}

export function addWalDump(wal: Command, terminal: Terminal): void {
  const whole = wholeNumber(0, Number.MAX_SAFE_INTEGER);
  wal
    .command("dump")
    .summary("print the records of the log")
    .description(
      "Prints a line for each record: seq, epoch, time, bytes, and what it changes. Ends at the first place that is not sound, " +
        "with exit code 1, unless it is the end that a running node is writing.",
    )
    .argument("<dir>", "the data directory of a node")
    .addOption(new Option("--after <seq>", "begin with the record after it").argParser(whole).default(0))
    .option("--limit <count>", "end after so many records", wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option("--keys", "name the keys")
    .option("--values", "show the values too")
    .option("--records", "the record log instead; seq is the offset + 1 there")
    .option("--json", "a line of JSON for each record")
    .addHelpText("after", "\nExample:\n  $ cambium wal dump /var/lib/cambium --after 1000 --limit 20 --keys")
    .action((directory: string, _options, command: Command) => dump(directory, command.optsWithGlobals(), terminal));
}

async function dump(directory: string, options: DumpFlags, { stdout, signal }: Terminal): Promise<void> {
  const fileSystem = await openDirectory(directory);
  let left = options.limit ?? Infinity;
  const stop = await readLog({
    fileSystem,
    directory: options.records ? "records" : "wal",
    afterSeq: options.after,
    visit: async (records) => {
      signal.throwIfAborted();
      const lines = records.slice(0, left).map((record) => lineOf(record, options));
      left -= lines.length;
      await write(stdout, lines.map(({ json, text }) => `${options.json ? JSON.stringify(json) : text}\n`).join(""));
      return left > 0;
    },
  });
  if (!stop) return;
  // What a running node is writing is not whole yet, and that is how it is.
  if (stop.isLast && (await fileSystem.lockHolder())?.isAlive) return;
  const { file, offset, expected, found } = stop;
  throw new CliError(
    "failed",
    `${file} is not sound at byte ${offset}: expected ${expected}, found ${found}; cambium wal verify tells torn from corrupt`,
  );
}

function lineOf(record: LogRecord, options: DumpFlags): Line {
  const { seq, epoch, timestampMs, byteLength } = record;
  const content = options.records ? producedOf(record, options) : changesOf(record, options);
  const place = { seq, epoch, timestampMs, bytes: byteLength };
  return {
    json: { ...place, ...content.json },
    text: `${seq}\te${epoch}\t${new Date(timestampMs).toISOString()}\t${byteLength} B\t${content.text}`,
  };
}

function producedOf(record: LogRecord, { values }: DumpFlags): Line {
  const { offset, position, epochId, record: bytes } = decodeRecord(record);
  const value = values ? jsonValue(bytes) : {};
  return {
    json: { offset, logSeq: position.seq, epochId, recordBytes: bytes.length, ...value },
    text: `offset ${offset} of log seq ${position.seq}, ${bytes.length} B${values ? ` ${JSON.stringify(value)}` : ""}`,
  };
}

function changesOf({ payload }: LogRecord, options: DumpFlags): Line {
  let changes: Change[];
  try {
    changes = decodeChanges(payload);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { json: { unreadable: error.message }, text: `unreadable: ${error.message}` };
  }
  const withKeys = options.keys === true || options.values === true;
  if (!withKeys) {
    const counts = new Map<string, number>();
    for (const { kind } of changes) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    return {
      json: { changes: Object.fromEntries(counts) },
      text: [...counts].map(([kind, count]) => `${count} ${kind}`).join(", "),
    };
  }
  const described = changes.map((change) => changeOf(change, options.values === true));
  return { json: { changes: described.map(({ json }) => json) }, text: described.map(({ text }) => text).join(", ") };
}

function changeOf(change: Change, withValues: boolean): Line {
  const { kind } = change;
  switch (change.kind) {
    case "put": {
      const { key, value, expiresAtMs } = change;
      const deadline = expiresAtMs === undefined ? {} : { expiresAtMs };
      const shown = withValues ? jsonValue(value) : {};
      return {
        json: { kind, ...keyOf(key), valueBytes: value.length, ...shown, ...deadline },
        text:
          `put ${quoted(key)} ${withValues ? quoted(value) : `(${value.length} B)`}` +
          (expiresAtMs === undefined ? "" : ` until ${new Date(expiresAtMs).toISOString()}`),
      };
    }
    case "delete":
      return { json: { kind, ...keyOf(change.key) }, text: `delete ${quoted(change.key)}` };
    case "delete-range": {
      const { start, end } = change;
      return {
        json: { kind, ...namedBytes("start", start), ...(end && namedBytes("end", end)) },
        text: `delete-range from ${quoted(start)} ${end ? `to before ${quoted(end)}` : "to the end"}`,
      };
    }
    case "expire":
    case "evict": {
      const { key, modSeq } = change;
      return { json: { kind, ...keyOf(key), modSeq }, text: `${kind} ${quoted(key)} as seq ${modSeq} left it` };
    }
    case "epoch": {
      const { epochId, forced, master } = change;
      return {
        json: { kind, epochId, forced, master },
        text: `epoch ${epochId} of ${master}${forced ? " (forced)" : ""}`,
      };
    }
    case "member": {
      const { nodeId, address, voter, removed } = change.member;
      const state = removed ? "removed" : voter ? "voter" : "replica";
      return { json: { kind, ...change.member }, text: `member ${nodeId} at ${address} (${state})` };
    }
    case "produce": {
      const { offset, record } = change;
      const shown = withValues ? jsonValue(record) : {};
      return {
        json: { kind, offset, recordBytes: record.length, ...shown },
        text: `produce ${offset} ${withValues ? quoted(record) : `(${record.length} B)`}`,
      };
    }
    case "truncate-records":
      return { json: { kind, below: change.below }, text: `truncate-records below ${change.below}` };
    case "remember": {
      const { clientId, clientSeq, answer } = change;
      return {
        json: { kind, clientId, clientSeq, answerBytes: answer.length },
        text: `remember ${JSON.stringify(clientId)} ${clientSeq} (${answer.length} B)`,
      };
    }
    case "forget":
      return {
        json: { kind, clientIds: change.clientIds },
        text: `forget ${change.clientIds.map((id) => JSON.stringify(id)).join(", ")}`,
      };
    case "settings": {
      const { commit, voters } = change.settings;
      return { json: { kind, ...change.settings }, text: `settings: commit ${commit}, voters ${voters}` };
    }
    default:
      return unreachable(change);
  }
}

const keyOf = (key: Uint8Array): Record<string, string> => namedBytes("key", key);

function namedBytes(name: string, bytes: Uint8Array): Record<string, string> {
  const shown = jsonValue(bytes);
  return "value" in shown ? { [name]: shown.value } : { [`${name}Base64`]: shown.valueBase64 };
}

/** Text in quotes, with everything that would break a line escaped; other bytes as base64. */
function quoted(bytes: Uint8Array): string {
  const shown = jsonValue(bytes);
  return "value" in shown ? JSON.stringify(shown.value) : `base64:${shown.valueBase64}`;
}
