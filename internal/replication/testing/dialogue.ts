/**
 * Scripts that the core plays by itself: a line that begins with `>` is what happens, and the lines after it are what the
 * core wants done. A test compares the script with what was really played.
 *
 * Places are `epoch/seq`, and `!` after one makes its chain value wrong. Histories are `epoch@firstSeq …`: `'` after an
 * epoch makes its id another one, `!` after the seq marks the epoch as forced. Connections are `#1`, sessions `s1`. Records
 * have 100 bytes each. Node `a` is at `a:1`.
 */
import { must } from "../../base/assert.js";
import { EpochHistory } from "../../base/epoch-history.js";
import { epoch as toEpoch, seq as toSeq } from "../../base/position.js";
import type { CommitMode } from "../core/commit.js";
import type { PromisedEpoch } from "../core/effect.js";
import type { LogView } from "../core/event.js";
import { newMasterRole } from "../core/master-role.js";
import { newReplicaRole } from "../core/replica.js";
import { type CoreState, newCoreState, type Settings } from "../core/state.js";
import { step } from "../core/step.js";
import { happeningOf, OUR_CLUSTER } from "./dialogue-events.js";
import { showEffect } from "./dialogue-show.js";
import { electorateOf, epochIdOf, historyOf, markOf, nodeNamed, Words } from "./dialogue-words.js";

export { showMessage } from "./dialogue-show.js";

export interface LogOptions {
  readonly history?: string;
  /** The end, all of it written, kept and applied. */
  readonly last?: string;
  readonly written?: number;
  readonly kept?: number;
  readonly applied?: number;
  readonly compact?: number;
  readonly floor?: number;
  /** The names of the listed voters; without it, there is one vote. */
  readonly voters?: string;
  readonly commit?: CommitMode;
}

function logOf({ history = "", last = "0/0", voters, commit, ...seqs }: LogOptions): LogView {
  const end = markOf(last);
  return {
    last: end,
    writtenSeq: toSeq(seqs.written ?? end.seq),
    keptSeq: toSeq(seqs.kept ?? end.seq),
    appliedSeq: toSeq(seqs.applied ?? seqs.kept ?? end.seq),
    compactSeq: toSeq(seqs.compact ?? 0),
    floorSeq: toSeq(seqs.floor ?? 0),
    history: new EpochHistory(historyOf(history)),
    electorate: electorateOf(voters, commit),
  };
}

export interface Player {
  readonly state: CoreState;
  nowMs: number;
}

const SETTINGS: Settings = { heartbeatIntervalMs: 1000, batchBytes: 300, windowBytes: 500 };

/** Node `r`, a replica of our cluster, or of none. `promised`: an epoch, to node `m`, or `epoch=name`. */
export function replicaPlayer(
  options: LogOptions & { empty?: true; promised?: number | string; settings?: Partial<Settings> },
): Player {
  const state = newCoreState({
    self: nodeNamed("r"),
    settings: { ...SETTINGS, ...options.settings },
    clusterId: options.empty ? undefined : OUR_CLUSTER,
    promised: promiseOf(String(options.promised ?? 0)),
    log: logOf(options),
    role: newReplicaRole(),
    seed: 1,
  });
  return { state, nowMs: 0 };
}

/** The same node, which was master when it ended, or is to be one. */
export function startingPlayer(options: Parameters<typeof replicaPlayer>[0]): Player {
  const player = replicaPlayer(options);
  player.state.role = { kind: "idle", why: "this node has not started yet", canFollow: false };
  return player;
}

function promiseOf(text: string): PromisedEpoch {
  const [epoch, candidate] = text.split("=");
  const number = Number(epoch);
  if (number === 0) return { epoch: toEpoch(0) };
  return { epoch: toEpoch(number), candidate: nodeNamed(candidate ?? "m"), epochId: epochIdOf(String(number)) };
}

/** Node `m`, whose log's last epoch has just begun with its last record. */
export function masterPlayer(options: LogOptions & { settings?: Partial<Settings> }): Player {
  const log = logOf(options);
  const { epoch, epochId, firstSeq } = must(log.history.last, "a master has an epoch");
  const self = nodeNamed("m");
  const state = newCoreState({
    self,
    settings: { ...SETTINGS, ...options.settings },
    clusterId: OUR_CLUSTER,
    promised: { epoch, candidate: self, epochId },
    log,
    role: newMasterRole({ epoch, epochId, firstSeq, address: "m:1", masterTimeOffsetMs: 5000 }),
    seed: 1,
  });
  step(state, { kind: "log", log, nowMs: 0 });
  return { state, nowMs: 0 };
}

/** Plays the events of a script, and gives the script back with what the core wanted done. */
export function play(player: Player, script: string): string {
  const played: string[] = [];
  for (const line of tidy(script).split("\n")) {
    if (!line.startsWith(">")) continue;
    played.push(line);
    const [command, ...rest] = line.slice(1).trim().split(/ +/);
    if (command === "pass") {
      player.nowMs += Number(rest[0]);
      continue;
    }
    const happening = happeningOf(player.state, must(command, "a command"), new Words(rest));
    const effects = step(player.state, { ...happening, nowMs: player.nowMs });
    played.push(...effects.map(showEffect));
  }
  return played.join("\n");
}

/** A script without the indentation of its test. */
export function tidy(script: string): string {
  return script
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .join("\n");
}
