/** `/metrics`: what a monitoring system reads of a node. */
import { CONTENT_TYPE, type Registry } from "../metrics/registry.js";
import { answerText, answerWhole, type HttpRequest, type HttpResponse } from "./http-answer.js";

export const METRICS_PATH = "/metrics";

export function answerMetrics(request: HttpRequest, response: HttpResponse, registry: Registry): void {
  if (request.method !== "GET" && request.method !== "HEAD") {
    answerText(response, 405, `${METRICS_PATH} is asked for with GET`, { allow: "GET, HEAD" });
  } else answerWhole(response, 200, CONTENT_TYPE, registry.render());
}
