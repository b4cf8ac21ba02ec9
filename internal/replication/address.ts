/** `host:port`, as operators write it and nodes advertise it. */

const HOST_CHARACTERS_MAX = 253;

/**
 * The one way to write an address: the host in lower case, the port without leading zeros. Undefined for what is none. An
 * IPv6 host stands in brackets.
 */
export function normalAddress(text: string): string | undefined {
  const [, host, port] = /^([a-z0-9._-]+|\[[0-9a-f:.]+\]):0*([1-9][0-9]{0,4})$/i.exec(text) ?? [];
  if (host === undefined || port === undefined || host.length > HOST_CHARACTERS_MAX || Number(port) > 65_535) {
    return undefined;
  }
  const lower = host.toLowerCase();
  return URL.canParse(`http://${lower}:${port}/`) ? `${lower}:${port}` : undefined;
}
