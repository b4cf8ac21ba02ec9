/** How fast a master answers, next to servers that do nothing. All are measured in turn, several rounds of it. */
import type { BaselineKind } from "./baseline.js";
import { type Case, cases, jobOf, measure, medianOf, type Sample } from "./measurement.js";
import type { CallsReport, Row } from "./report.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

const rounds = 3;
/** Of a round that does not count, in which the servers' code is compiled. */
const settle = { warmupMs: 0, measureMs: 200 };
const syncs = { bytes: 200, count: 200 };

export async function measureCalls(
  bench: Workbench,
  times: { readonly warmupMs: number; readonly measureMs: number },
  progress: (text: string) => void,
): Promise<CallsReport> {
  const load = bench.load();
  const master = await bench.startMaster("master");
  const serverOf = await startBaselines(bench, master);

  const preload = jobOf(
    { contestant: "cambium", protocol: "connect", operation: "set", connections: 16, streams: 1 },
    master.address,
    {
      warmupMs: 0,
      measureMs: 0,
    },
  );
  await load.load(preload);
  const samples = new Map<Case, Sample[]>(cases.map((each) => [each, []]));
  const syncP50s: number[] = [];
  const syncP99s: number[] = [];
  const steps = cases.length * (rounds + 1);
  let step = 0;
  for (let round = 0; round <= rounds; round++) {
    for (const [each, found] of samples) {
      progress(`measuring calls, ${++step} of ${steps}`);
      const server = serverOf(each);
      const sample = await measure(load, server, jobOf(each, server.address, round === 0 ? settle : times));
      if (round > 0) found.push(sample);
    }
    if (round === 0) continue;
    const { p50Us, p99Us } = await load.sync({ kind: "sync", directory: bench.directory, ...syncs });
    syncP50s.push(p50Us);
    syncP99s.push(p99Us);
  }
  const rows: Row[] = [];
  for (const [each, found] of samples) rows.push({ ...each, sample: medianOf(found) });
  const setAlone = rows.find((row) => row.protocol === "connect" && row.operation === "set" && row.connections === 1);
  await bench.stopServers();
  return {
    rounds,
    measureMs: times.measureMs,
    rows,
    durability: {
      setP50Us: setAlone?.sample.p50Us ?? NaN,
      sync: { p50Us: median(syncP50s), p99Us: median(syncP99s) },
    },
  };
}

/** Starts the others, and tells which server a case is for. */
async function startBaselines(bench: Workbench, master: ServerProcess): Promise<(each: Case) => ServerProcess> {
  const baseline = (kind: BaselineKind): Promise<ServerProcess> =>
    bench.start({
      name: `the baseline ${kind}`,
      program: "bench/baseline.js",
      args: [kind],
      readyMessage: "listening",
    });
  const [http, http2, connectHttp, connectHttp2] = await Promise.all([
    baseline("http"),
    baseline("http2"),
    baseline("connect-http"),
    baseline("connect-http2"),
  ]);
  return ({ contestant, protocol }) => {
    switch (contestant) {
      case "cambium":
        return master;
      case "connect-node":
        return protocol === "connect" ? connectHttp : connectHttp2;
      case "node:http":
        return http;
      case "node:http2":
        return http2;
    }
  };
}
