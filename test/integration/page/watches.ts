/** The program of a web page that keeps many watches, and does other things meanwhile, with the client of this repository. */
import { type CambiumClient, CambiumError, createClient, type UpdateEvent } from "../../../api/client/index.js";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

interface Watched {
  readonly events: UpdateEvent[];
  reached: number;
}

let client: CambiumClient;
const watched: Watched[] = [];

const held = new AbortController();

const page = {
  /** Begins a watch of each prefix; resolves once a node has told all of them from where on. */
  async watch(address: string, prefixes: string[]) {
    client = createClient({ endpoints: [address], timeoutMs: 60_000 });
    await Promise.all(
      prefixes.map(async (prefix, place) => {
        const watch: Watched = { events: [], reached: 0 };
        watched[place] = watch;
        const batches = client.watch({ prefix }).batches();
        await batches.next();
        void (async () => {
          for await (const { events, position } of batches) {
            watch.events.push(...events);
            watch.reached = position.seq;
          }
        })();
      }),
    );
  },

  /** How far each watch has come. */
  reached: () => watched.map(({ reached }) => reached),

  /** What each watch was told. */
  events: () =>
    watched.map(({ events }) =>
      events.map(({ type, key, value, position }) => `${position.seq} ${type} ${key} ${text(value)}`),
    ),

  /** Lets so many calls wait for something that does not happen, each on a connection of its own. */
  holdConnections(count: number) {
    for (let i = 0; i < count; i++) {
      const updates = client.updates({ prefix: "nobody writes here", waitMs: 60_000, signal: held.signal });
      // It ends with the signal only.
      updates.next().catch(() => undefined);
    }
  },

  releaseConnections: () => held.abort(),

  /** Reads a key by so many calls at once. */
  readTogether: (key: string, calls: number) => Promise.all(Array.from({ length: calls }, () => client.getText(key))),

  /** Counts a key up from a number, so many times; the sums, in decimal. */
  async countUp(address: string, key: string, from: string, times: number) {
    const counting = createClient({ endpoints: [address] });
    const sums: string[] = [];
    for (let i = 0; i < times; i++) {
      const { value } = await counting.increment(key, 1n, { initial: BigInt(from) });
      sums.push(String(value));
    }
    counting.close();
    return sums;
  },

  async refusalOfIncrement(address: string, key: string) {
    const counting = createClient({ endpoints: [address] });
    try {
      await counting.increment(key);
      return "none";
    } catch (error) {
      if (!(error instanceof CambiumError)) throw error;
      return { code: error.code, value: String(error.counter?.value) };
    } finally {
      counting.close();
    }
  },
};

Object.assign(globalThis, { page });
