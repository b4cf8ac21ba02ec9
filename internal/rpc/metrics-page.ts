/** `/metrics`: what a monitoring system reads of a node. */
import type { ConnectError } from "@connectrpc/connect";
import { CONTENT_TYPE, type Registry } from "../metrics/registry.js";
import { answerRefusal, answerText, answerWhole, type HttpRequest, type HttpResponse } from "./http-answer.js";

export const METRICS_PATH = "/metrics";

/** `refusal`: why its caller may not see it. */
export function answerMetrics(
  request: HttpRequest,
  response: HttpResponse,
  { registry, refusal }: { readonly registry: Registry; readonly refusal: ConnectError | undefined },
): void {
  if (request.method !== "GET" && request.method !== "HEAD") {
    answerText(response, 405, `${METRICS_PATH} is asked for with GET`, { allow: "GET, HEAD" });
  } else if (refusal) answerRefusal(request, response, 403, refusal);
  else answerWhole(response, 200, CONTENT_TYPE, registry.render());
}
