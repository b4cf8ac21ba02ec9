/** Where a node listens, as people write it (`host:port`, or a URL), turned into the one form that the client compares. */
import { CambiumError } from "./cambium-error.js";

/** The port of a node that was named without one. */
const DEFAULT_PORT = 8080;

/**
 * The base URL of an endpoint, without a slash at its end. `scheme` is for endpoints written without one. Throws
 * `CambiumError` `invalid_argument` for what is no endpoint.
 */
export function endpointUrl(endpoint: string, scheme: "http:" | "https:" = "http:"): string {
  const text = endpoint.trim();
  const withScheme = text.includes("://");
  const url = parse(withScheme ? text : `${scheme}//${text}`);
  if (
    !url ||
    text === "" ||
    (url.protocol !== "http:" && url.protocol !== "https:") ||
    url.username !== "" ||
    url.password !== "" ||
    url.search !== "" ||
    url.hash !== "" ||
    (!withScheme && url.pathname !== "/")
  ) {
    throw new CambiumError(
      "invalid_argument",
      `${JSON.stringify(endpoint)} is no endpoint; write host:port, [ipv6]:port, http://… or https://…`,
    );
  }
  // Only a bare host gets the default: a URL means the port of its scheme, and `:80` was written on purpose.
  if (!withScheme && url.port === "" && !/:\d+$/.test(text)) url.port = String(DEFAULT_PORT);
  return url.origin + url.pathname.replace(/\/+$/, "");
}

function parse(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}
