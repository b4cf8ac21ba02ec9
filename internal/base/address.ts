/** Where a node is reached: `host:port`, the host a name, an IPv4 address, or an IPv6 address in brackets. */

export interface Address {
  /** In lower case; an IPv6 address in its short form, without brackets. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** A text that is no address. Its message is a clause that says what is wrong and what is right. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** DNS allows 253 characters; an IPv6 address needs fewer. */
const hostLengthMax = 253;
/** Underscores are no part of DNS host names, but container networks make names with them. */
const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
const octet = /^(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/;

/** Reads `host:port`. Two spellings of one address give the same result. Throws `AddressError`. */
export function parseAddress(text: string): Address {
  const shown = JSON.stringify(text.slice(0, 300));
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<host>[^:]*)):(?<port>[^:]*)$/.exec(text);
  if (!match?.groups) {
    const why = isHost(text) ? "has no port" : "is no host:port";
    throw new AddressError(`${shown} ${why}; write it like "node-1:8080", "10.0.0.1:8080" or "[2001:db8::1]:8080"`);
  }
  const { v6, host = "", port = "" } = match.groups;
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    throw new AddressError(`the port of ${shown} must be a number from 1 to 65535`);
  }
  const canonical = v6 === undefined ? canonicalName(host) : canonicalIpv6(v6);
  if (canonical === undefined) {
    throw new AddressError(
      v6 === undefined
        ? `the host of ${shown} must be a name of letters, digits and hyphens, or an IP address`
        : `${shown} has no valid IPv6 address in its brackets`,
    );
  }
  return { host: canonical, port: Number(port) };
}

/** `host:port`, with brackets where the host needs them. */
export function formatAddress(address: Address): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** The host in the form of `Address.host`; undefined when it is none. An IPv6 address may stand in brackets. */
export function canonicalHost(text: string): string | undefined {
  const inner = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  return inner.includes(":") ? canonicalIpv6(inner) : inner === text ? canonicalName(text) : undefined;
}

/** Whether `text` is a host that can be named in an address. */
export function isHost(text: string): boolean {
  return canonicalHost(text) !== undefined;
}

/** Whether a server that listens at this host listens on all addresses of its machine. */
export function isWildcardHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

function canonicalName(text: string): string | undefined {
  if (text.length > hostLengthMax) return undefined;
  const name = text.toLowerCase();
  const labels = name.split(".");
  if (!labels.every((part) => label.test(part))) return undefined;
  // What ends in a number is an IPv4 address or a slip of the finger.
  if (/^\d+$/.test(labels.at(-1) ?? ""))
    return labels.length === 4 && labels.every((part) => octet.test(part)) ? name : undefined;
  return name;
}

function canonicalIpv6(text: string): string | undefined {
  // The URL parser knows the grammar, but not zones (%eth0), which mean something on one machine only.
  const url = `http://[${text}]/`;
  if (!/^[0-9A-Fa-f:.]{2,45}$/.test(text) || !URL.canParse(url)) return undefined;
  return new URL(url).hostname.slice(1, -1);
}
