/** How fast many watchers of one key are told of its changes, and what they cost. */
import { fixed, grouped } from "./format.js";
import { interleave } from "./interleave.js";
import type { LoadProcess } from "./load-process.js";
import { measureLoad, medianOf, type Sample } from "./measurement.js";
import { defineSection } from "./section.js";

interface WatcherSizes {
  readonly watcherCounts: readonly number[];
  readonly measureMs: number;
}

interface WatcherRow {
  readonly watchers: number;
  readonly connections: number;
  /** Resident memory of the server that came with them, for each. */
  readonly bytesEach: number;
  /** One event at a time, and some of them; an operation is one event at one watcher. */
  readonly oneByOne: readonly Sample[];
  readonly many: readonly Sample[];
}

/** What a server lets one connection have by default, less a few. */
const WATCHES_A_CONNECTION = 250;
/** Events on their way where many are. */
const WINDOW = 8;
const WATCHERS_TOLD = 10_000;
const TOLD_MS_MAX = 250;

export const watchers = defineSection<WatcherSizes, readonly WatcherRow[]>({
  name: "watchers",
  description:
    "1 to 10,000 watchers of one key over few connections: how late an event is, how many a second, and what each costs",
  sizes: {
    quick: { watcherCounts: [250], measureMs: 90 },
    full: { watcherCounts: [1, 100, 1000, WATCHERS_TOLD], measureMs: 3000 },
  },

  async measure(bench, { watcherCounts, measureMs }, progress) {
    const master = await bench.startMaster("watchers", { sections: { wal: { durability: "os" } } });
    const cases: { watchers: number; connections: number; bytesEach: number; load: LoadProcess }[] = [];
    for (const watchers of watcherCounts) {
      progress(`opening ${watchers} watches`);
      const load = bench.load();
      const before = master.residentBytes();
      await load.hold({
        kind: "watch",
        address: master.address,
        // Of its own, so that the others hear nothing of it.
        key: `watched by ${watchers}`,
        watches: watchers,
        watchesAConnection: WATCHES_A_CONNECTION,
      });
      const bytesEach = (master.residentBytes() - before) / watchers;
      cases.push({ watchers, connections: Math.ceil(watchers / WATCHES_A_CONNECTION), bytesEach, load });
    }
    const samples = await interleave(
      cases,
      async ({ load }) => ({
        oneByOne: await measureLoad(load, master, { kind: "tell", window: 1, measureMs }),
        many: await measureLoad(load, master, { kind: "tell", window: WINDOW, measureMs }),
      }),
      progress,
    );
    return [...samples].map(([{ watchers, connections, bytesEach }, found]) => ({
      watchers,
      connections,
      bytesEach,
      oneByOne: found.map(({ oneByOne }) => oneByOne),
      many: found.map(({ many }) => many),
    }));
  },

  render: (rows) => [
    `watchers: gRPC, ${WATCHES_A_CONNECTION} watches at most on a connection; 100-byte values, not synced; from the set to the event at each watcher; medians of three interleaved rounds`,
    {
      head: [
        "watchers",
        "connections",
        "KB each",
        "one event: p50 ms",
        "p99 ms",
        `${WINDOW} events: told per s`,
        "server CPU µs each",
        "load CPU µs each",
      ],
      wordColumns: 0,
      rows: rows.map(({ watchers, connections, bytesEach, oneByOne, many }) => {
        const [one, some] = [medianOf(oneByOne), medianOf(many)];
        return [
          grouped(watchers),
          grouped(connections),
          // One alone is lost in what the process takes and gives back meanwhile.
          watchers < 100 ? "–" : fixed(bytesEach / 1000, 1),
          fixed(one.p50Us / 1000, 2),
          fixed(one.p99Us / 1000, 2),
          grouped(some.operationsPerSecond),
          fixed(some.serverCpuUsPerOperation, 1),
          fixed(some.loaderCpuUsPerOperation, 1),
        ];
      }),
    },
  ],

  goals: [
    {
      figure: `${WATCHERS_TOLD.toLocaleString("en-US")} watchers of one key told of a change, p99`,
      unit: "ms",
      atMost: TOLD_MS_MAX,
      measured: (rows) => {
        const row = rows.find((each) => each.watchers === WATCHERS_TOLD);
        return row ? medianOf(row.oneByOne).p99Us / 1000 : NaN;
      },
    },
  ],
});
