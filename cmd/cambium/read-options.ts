/** How fresh a read must be, and when a write is answered, as options of commands. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Acknowledge, ReadConsistency } from "../../api/client/node.js";
import { parseDurationMs } from "./units.js";

/** As the flags of a command give it. */
export interface ReadFlags {
  readonly linearizable?: true;
  readonly atLeast?: Pick<ReadConsistency, "atLeast" | "atLeastSeq">;
  readonly maxStaleness?: number;
}

/** As the flags of a command give it. */
export interface WriteFlags {
  readonly acknowledge: Acknowledge;
}

export function addReadOptions(command: Command): Command {
  return command
    .option("--linearizable", "see every write that was answered before, wherever it was; asks a majority")
    .addOption(
      new Option(
        "--at-least <token>",
        "see what this token of an earlier answer saw or wrote (--json prints tokens), or wait for it; also a plain seq",
      ).argParser(parsePlace),
    )
    .addOption(
      new Option(
        "--max-staleness <ms>",
        "be no older than this, in ms or as 2s; fail where that cannot be shown",
      ).argParser(parseStalenessMs),
    );
}

/** What to give the client; nothing where nothing was asked for. */
export function readConsistencyOf({ linearizable, atLeast, maxStaleness }: ReadFlags): ReadConsistency {
  return {
    ...(linearizable && { linearizable }),
    ...atLeast,
    ...(maxStaleness !== undefined && { maxStalenessMs: maxStaleness }),
  };
}

export function addAcknowledgeOption(command: Command): Command {
  return command.addOption(
    new Option(
      "--acknowledge <when>",
      "end once the master keeps the write, once it is committed, or once every connected voter keeps it too",
    )
      .choices(["master", "committed", "all"])
      .default("committed"),
  );
}

/** A token as `--json` prints it, in which there is always more than digits; or else a seq. */
export function parsePlace(text: string): Pick<ReadConsistency, "atLeast" | "atLeastSeq"> {
  const isSeq = /^\d+$/.test(text);
  if (isSeq && Number.isSafeInteger(Number(text))) return { atLeastSeq: Number(text) };
  const bytes = Buffer.from(text, "base64");
  if (isSeq || bytes.length === 0 || bytes.toString("base64").replace(/=+$/, "") !== text.replace(/=+$/, "")) {
    throw new InvalidArgumentError("Give a token, as --json prints it, or a seq.");
  }
  return { atLeast: new Uint8Array(bytes) };
}

function parseStalenessMs(text: string): number {
  return /^\d{1,15}$/.test(text) ? Number(text) : parseDurationMs(text);
}
