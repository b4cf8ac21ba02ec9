/**
 * Which web pages may call this node: those of origins on a list, which is empty by default, and those that this node itself
 * seems to have given out, under one of its own names. All others are refused here, and not only by the browser, which would
 * keep the answer from them and let them ask; so no page finds out how long an answer takes, or changes anything by a way that
 * some browser has forgotten.
 */
import { Code, ConnectError, cors } from "@connectrpc/connect";
import { answerRefusal, answerText, type HttpRequest, type HttpResponse, isHttp2, writeHead } from "./http-answer.js";

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

  /**
   * Sets the headers that the page may expect. Returns true when all is said: this was only the browser's question, or the page
   * may not call. `isOwnName`: whether this node may be called by the host of an authority.
   */
  handle(request: HttpRequest, response: HttpResponse, isOwnName: (authority: string) => boolean): boolean {
    const { origin } = request.headers;
    if (origin === undefined) return this.#handleUnnamed(request, response);
    const isPreflight = request.method === "OPTIONS" && "access-control-request-method" in request.headers;
    const isListed = this.#all || this.#origins.has(origin);
    response.setHeader("vary", "origin");
    if (isListed) response.setHeader("access-control-allow-origin", origin);
    else if (isPreflight || !isOwnOrigin(origin, request, isOwnName)) {
      refusePage(`pages of ${origin.slice(0, 200)}`, request, response);
      return true;
    }
    if (!isPreflight) {
      if (isListed) response.setHeader("access-control-expose-headers", ANSWER_HEADERS);
      return false;
    }
    writeHead(response, 204, {
      "access-control-allow-methods": METHODS,
      "access-control-allow-headers": REQUEST_HEADERS,
      "access-control-max-age": String(MAX_AGE_SECONDS),
    });
    response.end();
    return true;
  }

  /** A page that embeds an answer, or sends somebody here, names no origin; browsers say that it is another's all the same. */
  #handleUnnamed(request: HttpRequest, response: HttpResponse): boolean {
    const site = request.headers["sec-fetch-site"];
    if ((site !== "cross-site" && site !== "same-site") || this.#all) return false;
    refusePage("pages that do not name their origin", request, response);
    return true;
  }
}

function refusePage(who: string, request: HttpRequest, response: HttpResponse): void {
  const text = `${who} may not call this node; add the origin to server.cors_origins`;
  if (request.method === "OPTIONS") answerText(response, 403, text);
  else answerRefusal(request, response, 403, new ConnectError(text, Code.PermissionDenied));
}

/** Whether a page was given out, as far as it says, by the server that it calls, under a name that is this node's. */
function isOwnOrigin(origin: string, request: HttpRequest, isOwnName: (authority: string) => boolean): boolean {
  const authority = isHttp2(request) ? request.authority : request.headers.host;
  if (authority === undefined || !URL.canParse(origin)) return false;
  const { protocol, host } = new URL(origin);
  const asked = `${protocol}//${authority}`;
  return host !== "" && URL.canParse(asked) && new URL(asked).host === host && isOwnName(authority);
}
