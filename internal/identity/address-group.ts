import { isIPv6 } from "node:net";

/** What counts as one caller's address: who has one address of IPv6 has 2^64 of them, and is taken for one by what they share. */
export function addressGroupOf(address: string | undefined): string {
  if (address === undefined || !isIPv6(address) || address.toLowerCase().startsWith("::ffff:")) return address ?? "";
  const [head = "", tail] = address.split("%", 1)[0]!.split("::");
  const first = head.split(":").filter((part) => part !== "");
  const last = tail?.split(":").filter((part) => part !== "") ?? [];
  const groups =
    tail === undefined ? first : [...first, ...Array<string>(8 - first.length - last.length).fill("0"), ...last];
  return groups.slice(0, 4).join(":");
}
