/** `limits`: how much the cluster may store. */
import type { Command } from "commander";
import { Option } from "commander";
import type { EvictionPolicy, StorageLimits } from "../../api/client/node.js";
import { type GlobalOptions, withClient } from "./command-context.js";
import { type Terminal, write, writeJson } from "./terminal.js";
import { counted, formatBytes, parseSizeBytes, wholeNumber } from "./units.js";

const POLICIES: readonly EvictionPolicy[] = ["noeviction", "lru", "lfu", "random", "ttl"];

interface LimitsFlags extends GlobalOptions {
  readonly maxEntries?: number;
  readonly maxBytes?: number;
  readonly evictionPolicy?: EvictionPolicy;
  readonly json?: true;
}

export function addLimitsCommand(program: Command, terminal: Terminal): void {
  program
    .command("limits")
    .summary("show or change how much may be stored")
    .description(
      "Shows how much the cluster may store, and changes what is given. The limits are replicated and hold at once, also on " +
        "the next master; `storage` in the configuration counts only when a cluster is founded. Where more is stored than " +
        "new limits allow, keys are evicted as the policy says.",
    )
    .option("--max-entries <number>", "keys at most; 0: no limit", wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option(
      "--max-bytes <size>",
      "bytes at most, such as 512MiB, with 64 bytes for each key; 0: no limit",
      parseSizeBytes,
    )
    .addOption(new Option("--eviction-policy <policy>", "what goes when there is no room").choices(POLICIES))
    .option("--json", "print the limits as JSON")
    .addHelpText("after", "\nExamples:\n  $ cambium limits\n  $ cambium limits --max-bytes 1GiB --eviction-policy lru")
    .action((_options, command: Command) => limits(command.optsWithGlobals(), terminal));
}

async function limits(options: LimitsFlags, { stdout, signal }: Terminal): Promise<void> {
  const { maxEntries, maxBytes, evictionPolicy } = options;
  const changed = {
    ...(maxEntries !== undefined && { maxEntries }),
    ...(maxBytes !== undefined && { maxBytes }),
    ...(evictionPolicy !== undefined && { evictionPolicy }),
  };
  const { timeout: timeoutMs } = options;
  const found = await withClient(options, async (client) =>
    Object.keys(changed).length === 0
      ? (await client.status({ signal, timeoutMs })).node.storageLimits
      : client.setStorageLimits(changed, { signal, timeoutMs }),
  );
  if (options.json) await writeJson(stdout, found);
  else await write(stdout, `${inWords(found)}\n`);
}

export function inWords({ maxEntries, maxBytes, evictionPolicy }: StorageLimits): string {
  const most = [
    ...(maxEntries > 0 ? [counted(maxEntries, "key")] : []),
    ...(maxBytes > 0 ? [formatBytes(maxBytes)] : []),
  ];
  if (most.length === 0) return "no limits";
  return `at most ${most.join(" and ")}, eviction policy ${evictionPolicy}`;
}
