import { expect, test } from "vitest";
import { textOf } from "./blocks.js";
import { answersTooEarly } from "./durable.js";
import { interleave } from "./interleave.js";
import { cpuRatio, limitOf, loadTable, medianOf, rateRatio, rowOf, type Sample, spreadOf } from "./measurement.js";
import { logLine } from "./server-process.js";
import { median, percentile } from "./statistics.js";

const sample = (operationsPerSecond: number, cpuUs = 10): Sample => ({
  operationsPerSecond,
  p50Us: 100,
  p99Us: 200,
  serverCpuUsPerOperation: cpuUs,
  loaderCpuUsPerOperation: NaN,
  serverBusy: 0.5,
  loaderBusy: 0.5,
});

const row = (contestant: string, rate: number, clients = { connections: 64, streams: 1 }, cpuUs = 10) =>
  rowOf({ contestant, protocol: "grpc", operation: "get", baseline: "bare", ...clients }, [sample(rate, cpuUs)]);

const shared = { connections: 1, streams: 64 };
const apart = { connections: 64, streams: 1 };
const rows = [row("bare", 1000), row("ours", 500, apart, 5), row("bare", 100, shared), row("ours", 200, shared)];

test("what is compared has as many connections, and as many calls on each", () => {
  expect(rateRatio(rows, "ours", "bare", apart)).toBe(0.5);
  expect(cpuRatio(rows, "ours", "bare", apart)).toBe(2);
  expect(rateRatio(rows, "ours", "bare", shared)).toBe(2);
  expect(rateRatio(rows, "ours", "bare", { connections: 16, streams: 1 })).toBeNaN();
  expect(rateRatio(rows, "ours", "theirs", apart)).toBeNaN();
});

test("the table has a line for each row, and shows what is unknown as such", () => {
  const text = textOf([loadTable(rows)]);
  expect(text).toMatch(/ours +│ +64 │ +500 │ +0 │ +100 │ +200 │ +5 │ +– │ +– │ +0\.50 │ +2\.00 │/);
  expect(text).toContain("64 on 1");
  expect(text).not.toContain("NaN");
});

test("a load is limited by whoever has a processor for itself, by the server where both have", () => {
  expect(limitOf({ ...sample(1), serverBusy: 0.99, loaderBusy: 0.99 })).toBe("server");
  expect(limitOf({ ...sample(1), serverBusy: 0.5, loaderBusy: 0.99 })).toBe("load");
  expect(limitOf(sample(1))).toBe("–");
  expect(limitOf({ ...sample(1), serverBusy: NaN })).toBe("–");
});

test("every case is measured once in each round, and what was measured before the first does not count", async () => {
  const order: string[] = [];
  const rounds: number[] = [];
  const samples = await interleave(
    ["a", "b"],
    async (each, isSettling) => {
      order.push(isSettling ? `(${each})` : each);
      return order.length;
    },
    () => undefined,
    async () => void rounds.push(order.length),
  );
  expect(order).toEqual(["(a)", "(b)", "a", "b", "a", "b", "a", "b"]);
  expect(samples.get("a")).toEqual([3, 5, 7]);
  expect(samples.get("b")).toEqual([4, 6, 8]);
  expect(rounds).toEqual([4, 6, 8]);
});

test("a set that was answered before the disk can have synced is called wrong, in the middle of the rounds", () => {
  const pairsOf = (...setsUs: number[]) =>
    setsUs.map((setP50Us) => ({ setP50Us, setP99Us: 900, syncP50Us: 100, syncP99Us: 500 }));
  const late = pairsOf(101, 150, 120);
  expect(answersTooEarly({ pairs: { connect: late, grpc: pairsOf(99, 100, 300) } })).toEqual([]);
  expect(answersTooEarly({ pairs: { connect: late, grpc: pairsOf(99, 98, 300) } })).toHaveLength(1);
});

test("the spread of a figure is what its rounds differ by", () => {
  expect(spreadOf([sample(90), sample(100), sample(130)])).toBeCloseTo(0.4);
});

test("medians and percentiles are values that were measured", () => {
  expect([median([3, 1, 2]), median([4, 1]), median([NaN, 5]), median([])]).toEqual([2, 2.5, 5, NaN]);
  expect(medianOf([sample(3), sample(1), sample(2)]).operationsPerSecond).toBe(2);
  const sorted = Float64Array.from({ length: 100 }, (_, index) => index);
  expect([percentile(sorted, 0.5), percentile(sorted, 0.99), percentile(sorted, 1)]).toEqual([50, 99, 99]);
  expect(percentile([], 0.5)).toBeNaN();
});

test("a server's log lines are read, and other output is not taken for one", () => {
  expect(logLine('{"level":30,"address":"127.0.0.1:1","msg":"listening"}')).toMatchObject({ address: "127.0.0.1:1" });
  expect(logLine("(node:1) Warning: listening")).toBeUndefined();
});
