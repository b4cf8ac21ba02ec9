/** Writers that overwrite keys without a pause, and how long each of their writes took. */
import http from "node:http";

export interface MeasuredLoadOptions {
  readonly address: string;
  readonly writers: number;
  readonly valueBytes: number;
}

/** What was measured between two moments. */
export interface Measurement {
  readonly writes: number;
  readonly bytes: number;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const KEYS_A_WRITER = 50;

export class MeasuredLoad {
  readonly #options: MeasuredLoadOptions;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  readonly #values = new Map<string, string>();
  readonly #running: Promise<unknown>;
  #tookMs: number[] = [];
  #sinceMs = performance.now();
  #isOver = false;

  constructor(options: MeasuredLoadOptions) {
    this.#options = options;
    this.#running = Promise.all(Array.from({ length: options.writers }, (_, writer) => this.#write(writer)));
  }

  /** The newest value of each key, in base64. */
  get values(): ReadonlyMap<string, string> {
    return this.#values;
  }

  /** Writes since the last measurement. */
  get writes(): number {
    return this.#tookMs.length;
  }

  /** What was measured since the last time. */
  measure(): Measurement {
    const sorted = this.#tookMs.toSorted((a, b) => a - b);
    const nowMs = performance.now();
    const measurement = {
      writes: sorted.length,
      bytes: sorted.length * this.#options.valueBytes,
      elapsedMs: nowMs - this.#sinceMs,
      p50Ms: sorted[Math.floor(sorted.length / 2)] ?? NaN,
      p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? NaN,
    };
    this.#tookMs = [];
    this.#sinceMs = nowMs;
    return measurement;
  }

  /** Rejects when a write has failed. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    this.#agent.destroy();
  }

  async #write(writer: number): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      const key = `writer-${writer}-key-${turn % KEYS_A_WRITER}`;
      const value = Buffer.alloc(this.#options.valueBytes, `${writer}, ${turn};`).toString("base64");
      const startMs = performance.now();
      await this.#set(key, value);
      this.#tookMs.push(performance.now() - startMs);
      this.#values.set(key, value);
    }
  }

  #set(key: string, value: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const outgoing = http.request(
        `http://${this.#options.address}/cambium.v1.KVStore/Set`,
        { method: "POST", headers: { "content-type": "application/json" }, agent: this.#agent },
        (incoming) => {
          incoming.on("error", reject);
          incoming.on("end", () =>
            incoming.statusCode === 200 ? resolve() : reject(new Error(`a write answered ${incoming.statusCode}`)),
          );
          incoming.resume();
        },
      );
      outgoing.on("error", reject);
      outgoing.end(JSON.stringify({ key, value }));
    });
  }
}
