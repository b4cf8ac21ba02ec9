import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { NotingLogger } from "./testing/noting-logger.js";
import { type Refusal, RefusalAudit, SOURCES_MAX, WINDOW_MS } from "./audit.js";

const refusal: Refusal = {
  method: "cambium.v1.KVStore/Set",
  reason: "not_allowed",
  identity: "web",
  caller: "10.0.0.1",
  requestId: "id-1",
};

function start(): { clock: FakeClock; audit: RefusalAudit; lines: NotingLogger["lines"] } {
  const clock = new FakeClock();
  const logger = new NotingLogger();
  return { clock, audit: new RefusalAudit(clock, logger), lines: logger.lines };
}

test("the first refusal is told at once, and whole", () => {
  const { audit, lines } = start();
  audit.add(refusal);
  expect(lines).toEqual([
    {
      level: "warn",
      message: "a call was refused",
      fields: {
        audit: true,
        method: "cambium.v1.KVStore/Set",
        identity: "web",
        caller: "10.0.0.1",
        reason: "not_allowed",
        request_id: "id-1",
      },
    },
  ]);
});

test("those that follow it are counted, and told by their number and their methods", () => {
  const { clock, audit, lines } = start();
  for (let n = 0; n < 1_000_000; n++)
    audit.add(n % 2 === 0 ? refusal : { ...refusal, method: "cambium.v1.Log/Produce" });
  expect(lines).toHaveLength(1);
  clock.advance(WINDOW_MS);
  expect(lines.slice(1)).toEqual([
    {
      level: "warn",
      message: "calls were refused again",
      fields: {
        audit: true,
        identity: "web",
        caller: "10.0.0.1",
        reason: "not_allowed",
        calls: 999_999,
        methods: "cambium.v1.Log/Produce, cambium.v1.KVStore/Set",
      },
    },
  ]);
  audit.add(refusal);
  expect(lines).toHaveLength(3);
  clock.advance(WINDOW_MS);
  expect(lines).toHaveLength(3);
  expect(clock.pendingTimers).toBe(0);
});

test("another caller, another identity and another reason are told beside the first", () => {
  const { audit, lines } = start();
  const all = [
    refusal,
    { ...refusal, caller: "10.0.0.2" },
    { ...refusal, identity: undefined },
    { ...refusal, reason: "outside_prefixes" },
  ];
  for (const one of [...all, ...all]) audit.add(one);
  expect(lines).toHaveLength(all.length);
});

test("the addresses of one network of IPv6 are one caller", () => {
  const { audit, lines } = start();
  for (let n = 1; n < 100; n++) audit.add({ ...refusal, caller: `2001:db8:1:2::${n.toString(16)}` });
  audit.add({ ...refusal, caller: "2001:db8:1:3::1" });
  expect(lines).toHaveLength(2);
});

test("however many call in vain, and from wherever, the lines of a minute have an end", () => {
  const { clock, audit, lines } = start();
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 10_000; n++) audit.add({ ...refusal, caller: `10.1.${n >> 8}.${n & 255}` });
  }
  clock.advance(WINDOW_MS);
  expect(lines).toHaveLength(2 * SOURCES_MAX + 1);
  expect(lines.at(-1)).toEqual({
    level: "warn",
    message: "calls of many more callers were refused",
    fields: { audit: true, calls: 3 * (10_000 - SOURCES_MAX) },
  });
});

test("what was counted is told at the end too", () => {
  const { clock, audit, lines } = start();
  for (let n = 0; n < 3; n++) audit.add(refusal);
  audit.flush();
  expect(lines.map(({ fields }) => fields["calls"])).toEqual([undefined, 2]);
  expect(clock.pendingTimers).toBe(0);
  audit.flush();
  expect(lines).toHaveLength(2);
});
