/** From wishes to effects: what commands change, judged against the state as the writes in flight will leave it. */
import { assert } from "../base/assert.js";
import type { EpochMs, Seq } from "../base/position.js";
import { epochMs, seq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import type { Change } from "./change.js";
import { keyName, type Proposals } from "./proposals.js";
import type { WriteCommand, WriteResult } from "./write-command.js";

export interface Evaluation {
  /** The effects, in order; none when the commands change nothing. */
  readonly changes: readonly Change[];
  /** One for each command. */
  readonly results: readonly WriteResult[];
  /** The highest seq in flight that a result depends on; 0 when they depend on committed state alone. */
  readonly seenSeq: Seq;
}

/** Judges the commands in order, each against what the ones before it leave. */
export function evaluate(
  commands: readonly WriteCommand[],
  view: { readonly engine: Engine; readonly proposals: Proposals; readonly nowMs: EpochMs },
): Evaluation {
  const { engine, proposals, nowMs } = view;
  const changes: Change[] = [];
  const results: WriteResult[] = [];
  /** Whether the keys of earlier commands exist after them. */
  const earlier = commands.length > 1 ? new Map<string, boolean>() : undefined;
  let seenSeq = 0;
  for (const command of commands) {
    assert(command.kind === "set" || command.kind === "delete", `${command.kind} cannot be evaluated yet`);
    const name = keyName(command.key);
    let existed = earlier?.get(name);
    if (existed === undefined) {
      const inFlight = proposals.look(name);
      if (inFlight) seenSeq = Math.max(seenSeq, inFlight.seq);
      existed = inFlight
        ? inFlight.exists && (inFlight.expiresAtMs === undefined || inFlight.expiresAtMs > nowMs)
        : engine.get(command.key, nowMs) !== undefined;
    }
    results.push({ existed });
    earlier?.set(name, command.kind === "set");
    if (command.kind === "set") {
      const { key, value, ttlMs = 0 } = command;
      changes.push(
        ttlMs > 0 ? { kind: "put", key, value, expiresAtMs: epochMs(nowMs + ttlMs) } : { kind: "put", key, value },
      );
    } else if (existed) {
      changes.push({ kind: "delete", key: command.key });
    }
  }
  return { changes, results, seenSeq: seq(seenSeq) };
}
