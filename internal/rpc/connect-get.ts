/**
 * Calls by GET, which Connect has for methods without side effects, so that caches can keep their answers: their query, and the tags
 * of what a caller has already. See https://connectrpc.com/docs/protocol#unary-get-request.
 */
import type { HttpRequest } from "./http-answer.js";

/** What is wrong with the query of a GET. The library would put replacement characters into keys, and would not say what it misses. */
export function faultOfQuery(query: string): string | undefined {
  const parameters = parametersOf(query);
  if (!parameters || (parameters.get("base64") === "1" && !/^[\w+/-]*={0,2}$/.test(parameters.get("message") ?? ""))) {
    return "the query is not percent-encoded UTF-8 with a message in JSON, or with base64=1 in base64";
  }
  const encoding = parameters.get("encoding");
  if (encoding === "json" || encoding === "proto") return undefined;
  return encoding === undefined
    ? "the query has no encoding; send encoding=json, or encoding=proto with base64=1, and the message"
    : `the encoding ${JSON.stringify(encoding.slice(0, 80))} of the query is not known; it is json or proto`;
}

/** In which form a request comes, in that its answer goes. */
export function wantsJson(request: HttpRequest): boolean {
  // Of the types that come to a handler, those with this word are JSON, and no others.
  if (request.method !== "GET") return /json/i.test(request.headers["content-type"] ?? "");
  const target = request.url ?? "";
  return parametersOf(target.slice(target.indexOf("?") + 1))?.get("encoding") === "json";
}

/** The first of each name counts, as for the library. */
function parametersOf(query: string): ReadonlyMap<string, string> | undefined {
  const parameters = new Map<string, string>();
  try {
    for (const parameter of query.split("&")) {
      const at = parameter.indexOf("=");
      const [name, value] = at < 0 ? [parameter, ""] : [parameter.slice(0, at), parameter.slice(at + 1)];
      const decoded = decodeURIComponent(name.replaceAll("+", " "));
      const text = decodeURIComponent(value.replaceAll("+", " "));
      if (!parameters.has(decoded)) parameters.set(decoded, text);
    }
    return parameters;
  } catch {
    return undefined;
  }
}

/** Whether a caller has what is tagged already; weak tags are compared by their value. */
export function matchesTag(ifNoneMatch: string | undefined, etag: string | null): boolean {
  if (ifNoneMatch === undefined || etag === null) return false;
  const strip = (tag: string): string => tag.trim().replace(/^W\//, "");
  return ifNoneMatch.trim() === "*" || ifNoneMatch.split(",").some((tag) => strip(tag) === strip(etag));
}
