/**
 * Spans of OpenTelemetry, one a call, for whoever has an SDK registered in the process before the node starts (docs/tracing.md).
 * Without one there is no tracing, and a call costs one look at that. A span never has a key or a value.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  type Attributes,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import { methodName } from "./method-name.js";

const NAME = "cambium";

/** What of a call is no fault of its caller: only then a span of a server is one that failed. */
const FAULTS: ReadonlySet<number> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/** The span of a call. */
export interface CallSpan {
  /** Something that has happened by now, with numbers. */
  event(name: string, attributes: Attributes): void;
  /** What another node needs so that its span belongs to this one. */
  headersOnward(): Record<string, string>;
  /** `code`: 0 is well; `codeName` as Connect writes it. */
  end(code: number, codeName: string): void;
}

export interface TracedCall {
  readonly method: DescMethod;
  readonly headers: IncomingHttpHeaders;
  readonly requestId: string;
  readonly callerAddress: string | undefined;
}

export class Tracing {
  readonly #tracer: Tracer;

  private constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** Undefined where nobody in this process wants spans. */
  static find(): Tracing | undefined {
    const provider = trace.getTracerProvider();
    // What the API gives out as long as no SDK is registered.
    if ("getDelegateTracer" in provider && typeof provider.getDelegateTracer === "function") {
      if (provider.getDelegateTracer(NAME) === undefined) return undefined;
    }
    return new Tracing(provider.getTracer(NAME));
  }

  begin({ method, headers, requestId, callerAddress }: TracedCall): CallSpan {
    const isGrpc = headers["content-type"]?.startsWith("application/grpc") === true;
    const parent = propagation.extract(ROOT_CONTEXT, headers);
    const attributes = {
      "rpc.system": isGrpc ? "grpc" : "connect_rpc",
      "rpc.service": method.parent.typeName,
      "rpc.method": method.name,
      "cambium.request_id": requestId,
      ...(callerAddress !== undefined && { "client.address": callerAddress }),
    };
    const span = this.#tracer.startSpan(methodName(method), { kind: SpanKind.SERVER, attributes }, parent);
    return new OpenSpan(span, isGrpc);
  }
}

class OpenSpan implements CallSpan {
  readonly #span: Span;
  readonly #isGrpc: boolean;

  constructor(span: Span, isGrpc: boolean) {
    this.#span = span;
    this.#isGrpc = isGrpc;
  }

  event(name: string, attributes: Attributes): void {
    this.#span.addEvent(name, attributes);
  }

  headersOnward(): Record<string, string> {
    const headers: Record<string, string> = {};
    propagation.inject(trace.setSpan(context.active(), this.#span), headers);
    return headers;
  }

  end(code: number, codeName: string): void {
    if (this.#isGrpc) this.#span.setAttribute("rpc.grpc.status_code", code);
    else if (code !== 0) this.#span.setAttribute("rpc.connect_rpc.error_code", codeName);
    if (FAULTS.has(code)) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end();
  }
}
