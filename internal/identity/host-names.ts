/**
 * The names under which callers on this machine may address the node. A page in a browser can make its own name resolve
 * to 127.0.0.1 and then talk to the node as if it were the page's own server (DNS rebinding); its name gives it away.
 */
import { isIP } from "node:net";
import { isLoopbackHost } from "./loopback.js";

export class HostNames {
  readonly #names: ReadonlySet<string>;

  /** Takes hosts, `host:port` addresses and origins alike. */
  constructor(names: Iterable<string>) {
    this.#names = new Set([...names].map((name) => hostOf(name)));
  }

  /** Whether `authority` (`host` or `host:port`, as in a Host header) may be asked for. Addresses cannot be rebound. */
  allows(authority: string): boolean {
    const host = hostOf(authority);
    return isLoopbackHost(host) || isIP(host) !== 0 || this.#names.has(host);
  }
}

/** The host of a host, an authority or an origin, in lower case and without brackets. */
function hostOf(text: string): string {
  const authority = text.replace(/^[a-z][a-z0-9+.-]*:\/\//i, "").toLowerCase();
  const bracketed = /^\[([^\]]*)\]/.exec(authority);
  if (bracketed) return bracketed[1] ?? "";
  if (isIP(authority) === 6) return authority;
  return authority.replace(/:\d*$/, "").replace(/\.$/, "");
}
