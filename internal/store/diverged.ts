/** The records that this node had and the history of others does not: each was saved in a file, whose name counts them. */
import type { Epoch, Seq } from "../base/position.js";
import type { FileSystem } from "../wal/file-system.js";

export interface DivergedRange {
  /** Of the last. */
  readonly epoch: Epoch;
  readonly firstSeq: Seq;
  readonly lastSeq: Seq;
}

const NAME = /^diverged-\d+-(\d+)-(\d+)-\d+\.log$/;

/** The file in the data directory that such records are saved in, as encoded records. */
export function divergedName({ epoch, firstSeq, lastSeq }: DivergedRange, wallMs: number): string {
  return `diverged-${epoch}-${firstSeq}-${lastSeq}-${wallMs}.log`;
}

/** How many there are, as long as nobody takes their files away. */
export class DivergedRecords {
  #count = 0;

  static async find(fileSystem: FileSystem): Promise<DivergedRecords> {
    const diverged = new DivergedRecords();
    for (const name of await fileSystem.list("")) {
      const [, firstSeq, lastSeq] = NAME.exec(name) ?? [];
      if (firstSeq !== undefined) diverged.#count += Number(lastSeq) - Number(firstSeq) + 1;
    }
    return diverged;
  }

  get count(): number {
    return this.#count;
  }

  add({ firstSeq, lastSeq }: DivergedRange): void {
    this.#count += lastSeq - firstSeq + 1;
  }
}
