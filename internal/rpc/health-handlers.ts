/** `grpc.health.v1`: what load balancers and orchestrators of the gRPC world ask. Every service is as ready as the node. */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type Health,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Serving,
  HealthCheckResponseSchema,
} from "../../api/gen/grpc/health/v1/health_pb.js";
import { create } from "@bufbuild/protobuf";
import type { Clock } from "../base/clock.js";
import type { Readiness } from "./readiness.js";
import { RequestError } from "./request-error.js";

/** How often a watch looks; the store does not tell when it becomes ready. */
const LOOK_INTERVAL_MS = 500;

export interface HealthOptions {
  readonly readiness: Readiness;
  readonly clock: Clock;
  /** Full names. */
  readonly services: readonly string[];
}

export function healthHandlers({ readiness, clock, services }: HealthOptions): ServiceImpl<typeof Health> {
  // The empty name stands for the node as a whole.
  const known = new Set(["", ...services]);
  const status = (service: string): Serving => {
    if (!known.has(service)) return Serving.SERVICE_UNKNOWN;
    return readiness.reason() === "" ? Serving.SERVING : Serving.NOT_SERVING;
  };
  return {
    check({ service }) {
      if (!known.has(service)) {
        throw new RequestError(
          "not_found",
          `there is no service ${service.slice(0, 200)}; known are ${services.join(", ")}`,
        );
      }
      return { status: status(service) };
    },

    async *watch({ service }, context): AsyncGenerator<HealthCheckResponse> {
      let last: Serving | undefined;
      for (;;) {
        const now = status(service);
        if (now !== last) yield create(HealthCheckResponseSchema, { status: now });
        last = now;
        await untilNextLook(clock, readiness, context);
      }
    },

    list: () => ({ statuses: Object.fromEntries([...known].map((name) => [name, { status: status(name) }])) }),
  };
}

/** Rejects with the reason of the call's signal once that is aborted. */
function untilNextLook(clock: Clock, readiness: Readiness, { signal }: HandlerContext): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      timer.cancel();
      forget();
      signal.removeEventListener("abort", aborted);
    };
    const look = (): void => {
      end();
      resolve();
    };
    const aborted = (): void => {
      end();
      reject(signal.reason as Error);
    };
    const timer = clock.after(LOOK_INTERVAL_MS, look);
    const forget = readiness.onDrain(look);
    signal.addEventListener("abort", aborted);
    if (signal.aborted) aborted();
  });
}
