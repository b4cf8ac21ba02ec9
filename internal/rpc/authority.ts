/** By what names this node may be called: the `Host` header of HTTP/1.1, the `:authority` of HTTP/2. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { HostNames } from "../identity/host-names.js";
import { isLoopbackAddress } from "../identity/loopback.js";

const AUTHORITY = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]+)(?::\d{0,5})?$/;

export interface AuthorityCheckOptions {
  /** The names under which callers on this machine, and web pages, may address the node. */
  readonly hostNames: () => HostNames;
  /** Whether those on other machines may use no other names either. */
  readonly checksEveryHost: boolean;
}

export class AuthorityCheck {
  readonly #options: AuthorityCheckOptions;

  constructor(options: AuthorityCheckOptions) {
    this.#options = options;
  }

  /** Whether this node goes by that name. */
  isOwn(authority: string): boolean {
    return this.#options.hostNames().allows(authority);
  }

  /** Why a caller at this address may not call the node so, as text where it is no name at all; undefined: it may. */
  refusalOf(authority: string | undefined, address: string | undefined): string | ConnectError | undefined {
    if (authority === undefined || !AUTHORITY.test(authority) || !URL.canParse(`http://${authority}`)) {
      return "the request needs a Host header with the host, or host:port, of this node";
    }
    const isHere = isLoopbackAddress(address);
    if ((!isHere && !this.#options.checksEveryHost) || this.isOwn(authority)) return undefined;
    const text = `this node does not answer to the name ${authority.slice(0, 200)}; use its address, localhost, the name in server.advertise, or one in server.allowed_hosts`;
    return new ConnectError(text, Code.PermissionDenied);
  }
}

/** HTTP/1.1 wants exactly one Host; two of them are read in two ways by two programs. HTTP/1.0 knew of none. */
export function hasItsHost({
  rawHeaders,
  httpVersion,
}: {
  readonly rawHeaders: string[];
  readonly httpVersion: string;
}): boolean {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  return hosts === 1 || (hosts === 0 && httpVersion === "1.0");
}
