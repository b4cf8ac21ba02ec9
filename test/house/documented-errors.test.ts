/** Every error that the reference of the API lists is one that a caller gets, with its detail; and nothing is tested that it does not list. */
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { epoch, seq } from "../../internal/base/position.js";
import { frame, callJson, send, startTestServer, type TestServer } from "../../internal/rpc/testing/test-server.js";
import { StoreError, type StoreErrorCode } from "../../internal/store/store.js";
import { WatchError } from "../../internal/watch/watch-types.js";

interface CallError {
  readonly code?: string;
  readonly details?: readonly { readonly type: string }[];
}

let running: TestServer;
beforeEach(async () => {
  running = await startTestServer();
});
afterEach(() => running.server.close());

async function kv(method: string, message: object, headers = {}): Promise<CallError> {
  return (await callJson(running.port, `cambium.v1.KVStore/${method}`, message, headers)).json;
}

/** What a stream ends with. */
async function streamed(method: string, message: object): Promise<CallError> {
  const { body } = await send(running.port, `/cambium.v1.KVStore/${method}`, {
    headers: { "content-type": "application/connect+json" },
    body: frame(Buffer.from(JSON.stringify(message))),
  });
  let at = 0;
  while ((body[at]! & 2) === 0) at += 5 + body.readUInt32BE(at + 1);
  return (JSON.parse(body.subarray(at + 5).toString()) as { error: CallError }).error;
}

function refusedBy(
  code: StoreErrorCode,
  details: ConstructorParameters<typeof StoreError>[2] = {},
  call = () => kv("Set", { key: "k" }),
): () => Promise<CallError> {
  return () => {
    running.store.failure = new StoreError(code, "why", details);
    return call();
  };
}

const key = Buffer.from("k");
const resume = { seq: seq(5), token: new Uint8Array([1]) };
const passed = { limit: "retries.max_bytes", maximum: 1, actual: 2 };
const counter = { key, operation: 0, value: 1n, min: 0n, max: 1n };
const failedCondition = { key, exists: true, modSeq: seq(2), operation: 0 };

function watchEnding(error: WatchError): () => Promise<CallError> {
  return () => {
    running.watches.onOpen = (watch) => watch.fail(error);
    return streamed("Watch", {});
  };
}

/** A stream of the caller's, to which a watch is added that it has. */
async function addedTwice(): Promise<CallError> {
  running.watches.onOpen = (watch) =>
    watch.give({ events: [], position: { epoch: epoch(1), seq: seq(1) }, token: resume.token });
  const stream = await fetch(`${running.url}/cambium.v1.KVStore/WatchMany`, {
    method: "POST",
    headers: { "content-type": "application/connect+json" },
    body: frame(Buffer.from(JSON.stringify({ watches: [{ watchId: "1", watch: {} }] }))),
  });
  const reader = stream.body!.getReader();
  const { value } = await reader.read();
  const first = Buffer.from(value);
  const { streamId } = JSON.parse(first.subarray(5, 5 + first.readUInt32BE(1)).toString()) as { streamId: string };
  const answer = await kv("AddWatch", { streamId, watch: { watchId: "1", watch: {} } });
  await reader.cancel();
  return answer;
}

const cases: Readonly<Record<string, () => Promise<CallError>>> = {
  INVALID_ARGUMENT: () => kv("Get", { key: "" }),
  "DEADLINE_EXCEEDED NotFreshEnough": () =>
    kv("Get", { key: "k", consistency: { atLeast: "CQ==" } }, { "connect-timeout-ms": "20" }),
  NOT_FOUND: () => kv("RemoveWatch", { streamId: Buffer.alloc(16).toString("base64"), watchId: "1" }),
  ALREADY_EXISTS: addedTwice,
  PERMISSION_DENIED: () => kv("Get", { key: "k" }, { host: "elsewhere.example" }),
  RESOURCE_EXHAUSTED: refusedBy("disk_full"),
  "RESOURCE_EXHAUSTED LimitExceeded": refusedBy("retries_full", { passed }),
  "RESOURCE_EXHAUSTED WatchEnded": watchEnding(new WatchError("too_slow", "why", { resume })),
  FAILED_PRECONDITION: refusedBy("not_ordered", {}, () => kv("Scan", {})),
  "FAILED_PRECONDITION NotMaster": refusedBy("not_master"),
  "FAILED_PRECONDITION ConditionFailed": refusedBy("condition_failed", { failedCondition }),
  "FAILED_PRECONDITION RetryTooOld": refusedBy("retry_too_old", { oldestClientSeq: 3 }),
  "FAILED_PRECONDITION NotAnInteger": refusedBy("not_an_integer", { counter }, () => kv("Increment", { key: "k" })),
  "FAILED_PRECONDITION OutOfBounds": refusedBy("out_of_bounds", { counter }, () => kv("Increment", { key: "k" })),
  "ABORTED LineageLost": refusedBy("lineage_lost", {}, () => kv("Set", { key: "k", ifToken: "AQ==" })),
  "OUT_OF_RANGE LogRange": watchEnding(
    new WatchError("out_of_range", "why", { range: { compactSeq: seq(1), appliedSeq: seq(2) } }),
  ),
  "OUT_OF_RANGE OffsetRange": async () =>
    (await callJson(running.port, "cambium.v1.Log/Consume", { offset: "7" })).json,
  UNAVAILABLE: () => {
    running.store.notReadyReason = "not yet";
    return kv("Get", { key: "k" });
  },
  "UNAVAILABLE OutcomeUnknown": refusedBy("outcome_unknown"),
  "UNAVAILABLE NotFreshEnough": () => {
    running.replicator.staleness = undefined;
    return kv("Get", { key: "k", consistency: { maxStalenessMs: "1" } });
  },
  "UNAVAILABLE WatchEnded": watchEnding(new WatchError("ended", "why", { resume })),
};

/** The rows of the table of errors. */
function documented(): string[] {
  const text = readFileSync(new URL("../../docs/api.md", import.meta.url), "utf8");
  const rows = text.matchAll(/^\| `([A-Z_]+)` +\| \d{3} +\| (?:\[(\w+)\])?/gm);
  return Array.from(rows, ([, code = "", detail]) => (detail === undefined ? code : `${code} ${detail}`));
}

describe("the reference of the API", () => {
  test("lists the errors that are tested here, all of them and no others", () => {
    expect(documented().sort()).toEqual(Object.keys(cases).sort());
  });

  test.each(Object.entries(cases))("tells the truth about %s", async (name, call) => {
    const [code = "", detail] = name.split(" ");
    const error = await call();
    expect(error.code).toBe(code.toLowerCase());
    const types = (error.details ?? []).map(({ type }) => type);
    if (detail !== undefined) expect(types).toEqual([`cambium.v1.${detail}`]);
  });
});
