/** Where the other nodes reach this one, as far as its configuration tells. */
import { hostname } from "node:os";
import { formatAddress, isWildcardHost } from "../base/address.js";

/** The `host:port` of a server that listens at this host and port, where nothing says otherwise. */
export function addressOf(host: string, port: number): string {
  return formatAddress({ host: isWildcardHost(host) ? hostname().toLowerCase() : host, port });
}
