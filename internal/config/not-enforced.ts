import type { NodeConfig } from "./node-config.js";

/** A sentence for each limit that is configured and that this version does not hold yet. The operator is told at start. */
export function notEnforced({ storage }: NodeConfig): string[] {
  const sentences: string[] = [];
  const say = (key: string, value: string | number, consequence: string): void => {
    sentences.push(`storage.${key} (${value}) is not enforced by this version: ${consequence}`);
  };
  if (storage.entriesMax > 0) say("max_entries", storage.entriesMax, "the number of keys has no limit");
  if (storage.bytesMax > 0) say("max_bytes", storage.bytesMax, "memory is the only limit of what is stored");
  if (storage.evictionPolicy !== "noeviction") {
    say("eviction_policy", storage.evictionPolicy, "no key is removed to make room");
  }
  return sentences;
}
