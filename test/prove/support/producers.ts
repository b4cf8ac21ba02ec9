/** Clients that produce all the time, through whatever happens to the cluster, and know what was acknowledged. */
import { setTimeout as pause } from "node:timers/promises";
import { type CambiumClient, createClient } from "../../../api/client/node.js";
import { until } from "../../harness/until.js";

export interface ProducerCounts {
  readonly acknowledged: number;
  readonly failed: number;
}

export class Producers {
  readonly #client: CambiumClient;
  readonly #acknowledged: string[] = [];
  /** Messages of the failures, with how many there were of each kind. */
  readonly failures = new Map<string, number>();
  #failed = 0;
  #isOver = false;
  readonly #running: Promise<unknown>;

  constructor(endpoints: readonly string[], count = 4) {
    this.#client = createClient({ endpoints });
    this.#running = Promise.all(Array.from({ length: count }, (_, producer) => this.#produce(producer)));
  }

  get counts(): ProducerCounts {
    return { acknowledged: this.#acknowledged.length, failed: this.#failed };
  }

  /** Resolves once so many more were acknowledged. */
  async more(count: number): Promise<void> {
    const enough = this.#acknowledged.length + count;
    await until(`${count} more records are acknowledged`, () => this.#acknowledged.length >= enough);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    this.#client.close();
  }

  /** Says what of the acknowledged is not in the node's record log, or is there twice. */
  async missingIn(endpoint: string): Promise<{ readonly missing: string[]; readonly twice: string[] }> {
    const client = createClient({ endpoints: [endpoint] });
    const found = new Map<string, number>();
    try {
      for await (const { record } of client.consume({ offset: 0, follow: false })) {
        const text = Buffer.from(record).toString();
        found.set(text, (found.get(text) ?? 0) + 1);
      }
    } finally {
      client.close();
    }
    return {
      missing: this.#acknowledged.filter((record) => !found.has(record)),
      twice: [...found].filter(([, times]) => times > 1).map(([record]) => record),
    };
  }

  async #produce(producer: number): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      const record = `producer ${producer}, turn ${turn}`;
      try {
        await this.#client.produce(record);
        this.#acknowledged.push(record);
      } catch (error) {
        this.#failed++;
        const kind = error instanceof Error ? error.message.replace(/\d+/g, "N").slice(0, 100) : String(error);
        this.failures.set(kind, (this.failures.get(kind) ?? 0) + 1);
        await pause(5);
      }
    }
  }
}
