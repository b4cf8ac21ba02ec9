/**
 * What is known of each call: how many there are, how long they take and how they end, for the metrics; which were slow, for the slow
 * log; and which of them an operator must be able to find again, for the audit. Values are never kept, keys only in the slow log.
 */
import { randomBytes } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, type ContextKey, createContextKey } from "@connectrpc/connect";
import { must } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { AUDIT, type Logger } from "../base/logger.js";
import type { IdentityError } from "../identity/identity-error.js";
import type { Counter, Family, Histogram, Registry } from "../metrics/registry.js";
import { RefusalAudit } from "./audit.js";
import { contentOf } from "./message-content.js";
import { methodName } from "./method-name.js";
import type { SlowCalls } from "./slow-calls.js";
import type { CertificateRefusal } from "./tls.js";
import type { CallContext } from "./caller.js";
import { type CallSpan, Tracing } from "./tracing.js";

/** From a tenth of a millisecond, where reads are, to the ten seconds after which writes give up. */
const CALL_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** What changes the cluster or a node, or takes all of its data away. */
const AUDITED: ReadonlySet<string> = new Set([
  "cambium.v1.Cluster/AddReplica",
  "cambium.v1.Cluster/RemoveReplica",
  "cambium.v1.Cluster/Promote",
  "cambium.v1.Cluster/Transfer",
  "cambium.v1.Cluster/SetStorageLimits",
  "cambium.v1.Cluster/SetLogLevel",
  "cambium.v1.Cluster/Backup",
]);

/** Longer ones, and those with other characters, are replaced: they come from anybody, and stand in the log. */
const REQUEST_ID = /^[\w.:/+=@-]{1,128}$/;

/** How a call ended: 0 is well. */
export type Outcome = Code | 0;

/** A call while it is under way. */
export interface Call {
  readonly requestId: string;
  /** By the monotonic clock. */
  readonly startedAtMs: number;
  readonly callerAddress: string | undefined;
  /** The name of who calls; undefined until it is known that it may. */
  identity: string | undefined;
  /** How its handler ended; undefined while it has not, and when the call does not get to one. */
  outcome: Outcome | undefined;
  /** Why its caller may not make it. */
  refused: IdentityError | undefined;
  /** The request, once it is read; of unary calls only. */
  message: object | undefined;
  /** Where the process traces. */
  readonly span: CallSpan | undefined;
}

/** The span of a call, whichever way it came; undefined where nobody traces. */
export function spanOf({ span, values }: CallContext): CallSpan | undefined {
  return span ?? values?.get(callKey)?.span;
}

/** What a call takes with it to another node, so that the lines and spans of both can be brought together. */
export function headersOnward(call: Call | undefined): Record<string, string> {
  return call ? { ...call.span?.headersOnward(), "x-request-id": call.requestId } : {};
}

/** Of the call that a handler carries out. */
export const callKey: ContextKey<Call | undefined> = createContextKey<Call | undefined>(undefined);

export interface CallLogOptions {
  readonly methods: readonly DescMethod[];
  readonly registry: Registry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly slowCalls: SlowCalls;
}

export class CallLog {
  readonly #slow: SlowCalls;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #methods: ReadonlyMap<DescMethod, MethodLog>;
  readonly #refusals: RefusalAudit;
  readonly #tracing = Tracing.find();
  readonly #idPrefix = `${randomBytes(6).toString("hex")}-`;
  #idCount = 0;

  constructor({ methods, registry, clock, logger, slowCalls }: CallLogOptions) {
    this.#clock = clock;
    this.#logger = logger;
    this.#slow = slowCalls;
    this.#refusals = new RefusalAudit(clock, logger);
    const labels = ["service", "method", "code"];
    const durations = registry.histograms({
      name: "cambium_rpc_duration_seconds",
      help: "Time that unary calls took, from the arrival of their heads to the end of their answers. cambium_rpc_streams_total counts the others.",
      labels,
      buckets: CALL_SECONDS,
    });
    const streams = registry.counters({
      name: "cambium_rpc_streams_total",
      help: "Streaming calls that have ended.",
      labels,
    });
    this.#methods = new Map(methods.map((method) => [method, new MethodLog(method, durations, streams)]));
    this.#showOpen(registry, { name: "cambium_rpc_in_flight", help: "Unary calls that are not answered yet." }, false);
    this.#showOpen(registry, { name: "cambium_rpc_open_streams", help: "Streaming calls that are open." }, true);
    registry.gauge(
      {
        name: "cambium_rpc_slow_calls_total",
        help: "Unary calls that took longer than log.slow_threshold.",
        type: "counter",
      },
      () => this.#slow.total,
    );
  }

  /** The caller's own name for its request, or a new one. */
  requestIdOf(given: string | string[] | undefined): string {
    if (typeof given === "string" && REQUEST_ID.test(given)) return given;
    return this.#idPrefix + (++this.#idCount).toString(36);
  }

  /** Each call that begins is to `end`, or to be forgotten. */
  begin(
    method: DescMethod,
    requestId: string,
    callerAddress: string | undefined,
    headers: IncomingHttpHeaders,
    startedAtMs = this.#clock.monotonicMs(),
  ): Call {
    this.#of(method).inFlight++;
    return {
      requestId,
      callerAddress,
      startedAtMs,
      identity: undefined,
      outcome: undefined,
      refused: undefined,
      message: undefined,
      span: this.#tracing && this.#tracing.begin({ method, headers, requestId, callerAddress }),
    };
  }

  /** It begins anew, another way. */
  forget(method: DescMethod): void {
    this.#of(method).inFlight--;
  }

  /** `otherwise`: how it ended that did not get to a handler. */
  end(method: DescMethod, call: Call, otherwise: Outcome): void {
    const log = this.#of(method);
    const outcome = call.outcome ?? otherwise;
    const durationMs = this.#clock.monotonicMs() - call.startedAtMs;
    log.inFlight--;
    log.ended(outcome, durationMs / 1000);
    if (call.span) call.span.end(outcome, codeName(outcome));
    if (!log.isStream && this.#slow.isSlow(durationMs)) this.#noteSlow(log, call, outcome, durationMs);
    if (call.refused || outcome === Code.Unauthenticated || outcome === Code.PermissionDenied) {
      this.#noteRefused(log, call, outcome);
    } else if (log.isAudited) {
      this.#logger.info("an operator's call", {
        ...AUDIT,
        method: log.fullName,
        code: codeName(outcome),
        identity: call.identity,
        caller: call.callerAddress,
        request_id: call.requestId,
      });
    }
  }

  /** A page, as it were a method, was not shown. */
  refusedPage(path: string, { code, identity }: IdentityError, caller: string | undefined): void {
    this.#refusals.add({ method: path, reason: code, identity, caller, requestId: undefined });
  }

  /** A connection was closed before it could call anything. */
  refusedHandshake({ reason, address }: Pick<CertificateRefusal, "reason" | "address">): void {
    this.#refusals.add({
      method: "the handshake of TLS",
      reason,
      identity: undefined,
      caller: address,
      requestId: undefined,
    });
  }

  /** Tells what the audit has counted and not told. */
  close(): void {
    this.#refusals.flush();
  }

  /** Whoever is refused is no operator, and cannot fill the log. */
  #noteRefused({ fullName }: MethodLog, { refused, identity, callerAddress, requestId }: Call, outcome: Outcome): void {
    this.#refusals.add({
      method: fullName,
      reason: refused?.code ?? codeName(outcome),
      identity: refused?.identity ?? identity,
      caller: callerAddress,
      requestId,
    });
  }

  #noteSlow(log: MethodLog, call: Call, outcome: Outcome, durationMs: number): void {
    this.#slow.add({
      method: log.fullName,
      startedMs: Math.floor(this.#clock.wallMs() - durationMs),
      durationMs,
      code: codeName(outcome),
      requestId: call.requestId,
      callerAddress: call.callerAddress ?? "",
      identity: call.identity ?? "",
      ...contentOf(call.message ?? {}),
    });
  }

  #of(method: DescMethod): MethodLog {
    return must(this.#methods.get(method), "calls are of the methods that are served");
  }

  #showOpen(registry: Registry, metric: { name: string; help: string }, areStreams: boolean): void {
    const shown = [...this.#methods.values()].filter(({ isStream }) => isStream === areStreams);
    registry.gauges({ ...metric, labels: ["service", "method"] }, () =>
      shown.map(({ labels, inFlight }) => [labels, inFlight]),
    );
  }
}

/** What is counted of one method. */
class MethodLog {
  readonly labels: readonly [service: string, method: string];
  readonly fullName: string;
  readonly isStream: boolean;
  readonly isAudited: boolean;
  inFlight = 0;
  readonly #durations: Family<Histogram>;
  readonly #streams: Family<Counter>;
  /** By outcome; each from the first time on that it is seen. */
  readonly #durationOf: Histogram[] = [];
  readonly #streamsOf: Counter[] = [];

  constructor(method: DescMethod, durations: Family<Histogram>, streams: Family<Counter>) {
    this.labels = [method.parent.typeName, method.name];
    this.fullName = methodName(method);
    this.isStream = method.methodKind !== "unary";
    this.isAudited = AUDITED.has(this.fullName);
    this.#durations = durations;
    this.#streams = streams;
  }

  ended(outcome: Outcome, seconds: number): void {
    if (this.isStream) {
      (this.#streamsOf[outcome] ??= this.#streams.with(...this.labels, codeName(outcome))).increment();
    } else (this.#durationOf[outcome] ??= this.#durations.with(...this.labels, codeName(outcome))).observe(seconds);
  }
}

/** As Connect writes it: `resource_exhausted`. */
export function codeName(outcome: Outcome): string {
  if (outcome === 0) return "ok";
  return (Code[outcome] ?? "Unknown").replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase();
}
