/**
 * Which web pages of other origins may call this node: those on a list, which is empty by default. A browser asks first;
 * to a page that is not on the list nothing is granted, and the browser keeps the answer from it.
 */
import { cors } from "@connectrpc/connect";
import { answerText, type HttpRequest, type HttpResponse, writeHead } from "./http-answer.js";

/** How long a browser may remember what it was granted. */
const MAX_AGE_SECONDS = 7200;
const METHODS = cors.allowedMethods.join(", ");
// `if-none-match` is asked for by pages that handle the ETag of Get themselves.
const REQUEST_HEADERS = [...cors.allowedHeaders, "Authorization", "If-None-Match", "X-Request-Id"].join(", ");
const ANSWER_HEADERS = [...cors.exposedHeaders, "ETag", "X-Request-Id"].join(", ");

export class Cors {
  readonly #origins: ReadonlySet<string>;
  readonly #all: boolean;

  /** `*` among the origins stands for every one. */
  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
    this.#all = this.#origins.has("*");
  }

  /** Sets the headers that the page may expect. Returns true when this was only the browser's question, now answered. */
  handle(request: HttpRequest, response: HttpResponse): boolean {
    const { origin } = request.headers;
    if (origin === undefined) return false;
    const isPreflight = request.method === "OPTIONS" && "access-control-request-method" in request.headers;
    const isAllowed = this.#all || this.#origins.has(origin);
    response.setHeader("vary", "origin");
    if (isAllowed) response.setHeader("access-control-allow-origin", origin);
    if (!isPreflight) {
      if (isAllowed) response.setHeader("access-control-expose-headers", ANSWER_HEADERS);
      return false;
    }
    if (!isAllowed) {
      const text = `pages of ${origin.slice(0, 200)} may not call this node; add the origin to server.cors_origins`;
      answerText(response, 403, text);
      return true;
    }
    writeHead(response, 204, {
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers": REQUEST_HEADERS,
      "access-control-max-age": String(MAX_AGE_SECONDS),
    });
    response.end();
    return true;
  }
}
