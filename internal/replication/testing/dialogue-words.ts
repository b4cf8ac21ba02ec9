/** The small words of the scripts in `dialogue.ts`: names, places, histories. */
import { assert, must } from "../../base/assert.js";
import type { EpochStart } from "../../base/epoch-history.js";
import { type EpochId, epochId, nodeId, type NodeId, type TransferId, transferId } from "../../base/ids.js";
import { epoch as toEpoch, type LogMark, seq as toSeq } from "../../base/position.js";
import type { CommitMode } from "../core/commit.js";
import type { Electorate, Voter } from "../core/electorate.js";

export const RECORD_BYTES = 100;

/** `a` … `z`, each the name of a node. */
export const nodeNamed = (name: string): NodeId => nodeId(name.charCodeAt(0).toString(16).repeat(16));
export const transferNamed = (name: string): TransferId => transferId(nodeNamed(name));
export const nameOf = (id: NodeId | TransferId): string => String.fromCharCode(parseInt(id.slice(0, 2), 16));

/** Node `a` is at `a:1`. */
export const voterNamed = (name: string): Voter => ({ nodeId: nodeNamed(name), address: `${name}:1` });

/** `voters`: the names of those that are listed; without it, there is one vote. */
export function electorateOf(voters: string | undefined, commit: CommitMode = "master"): Electorate {
  if (voters === undefined) return { commit, mode: "master", voters: [] };
  return { commit, mode: "listed", voters: voters.split("").map(voterNamed) };
}

/** The words that stand by themselves, and those that come in pairs: `name value …`. */
export class Words {
  readonly #words: readonly string[];

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  get text(): string {
    return this.#words.join(" ");
  }

  /** The word at `i`. */
  at(i: number): string {
    return must(this.#words[i], `word ${i} of ${this.text}`);
  }

  after(count: number): Words {
    return new Words(this.#words.slice(count));
  }

  has(word: string): boolean {
    return this.#words.includes(word);
  }

  /** What stands after a name. */
  get(name: string): string | undefined {
    const i = this.#words.indexOf(name);
    return i < 0 ? undefined : this.#words[i + 1]?.replace(",", "");
  }

  number(name: string, otherwise = 0): number {
    return Number(this.get(name) ?? otherwise);
  }

  /** The words after a name that begin an epoch each. */
  history(): EpochStart[] {
    const starts: EpochStart[] = [];
    for (let i = this.#words.indexOf("history") + 1; i > 0 && this.#words[i]?.includes("@"); i++) {
      starts.push(...historyOf(this.at(i).replace(",", "")));
    }
    return starts;
  }

  *[Symbol.iterator](): Iterator<string> {
    yield* this.#words;
  }
}

export function markOf(text: string): LogMark {
  const [, epoch, seq, wrong] = /^(\d+)\/(\d+)(!)?$/.exec(text) ?? [];
  assert(epoch !== undefined && seq !== undefined, `${text} is no mark`);
  const chain = Number(epoch) * 1000 + Number(seq) + (wrong ? 0x8000 : 0);
  return { epoch: toEpoch(Number(epoch)), seq: toSeq(Number(seq)), chain };
}

/** `epoch@firstSeq …`; `'` after the epoch makes its id another one, `!` after the seq marks it as forced. */
export function historyOf(text: string): EpochStart[] {
  return text
    .split(" ")
    .filter((word) => word !== "")
    .map(startOf);
}

function startOf(word: string): EpochStart {
  const [number, first] = word.split("@");
  const name = must(number, "an epoch");
  const start = {
    epoch: toEpoch(parseInt(name, 10)),
    epochId: epochIdOf(name),
    firstSeq: toSeq(parseInt(must(first, "a first seq"), 10)),
  };
  return word.endsWith("!") ? { ...start, forced: true } : start;
}

export function epochIdOf(name: string): EpochId {
  return epochId((name.endsWith("'") ? "f" : "0").repeat(8) + parseInt(name, 10).toString(16).padStart(8, "0"));
}
