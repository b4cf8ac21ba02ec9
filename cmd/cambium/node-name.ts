/** How a command's argument names a node. */
import { InvalidArgumentError } from "commander";
import { AddressError, formatAddress, parseAddress } from "../../internal/base/address.js";

/** `host:port`, in its canonical spelling. Throws commander's error for what is none. */
export function parseNodeAddress(text: string): string {
  try {
    return formatAddress(parseAddress(text));
  } catch (error) {
    if (error instanceof AddressError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

/** A node id of 32 hexadecimal digits, or else an address. */
export function parseNodeName(text: string): { readonly nodeId: string } | { readonly address: string } {
  return /^[0-9a-f]{32}$/i.test(text) ? { nodeId: text.toLowerCase() } : { address: parseNodeAddress(text) };
}
