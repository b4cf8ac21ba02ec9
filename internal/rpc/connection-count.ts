/** Connections of each address: one caller must not take the room of all others. */
import type { Socket } from "node:net";
import { addressGroupOf } from "../identity/address-group.js";

export class ConnectionCount {
  readonly perAddressMax: number;
  readonly #counts = new Map<string, number>();

  constructor(perAddressMax: number) {
    this.perAddressMax = perAddressMax;
  }

  /** Counts a new connection until it closes. Returns false, and does not count it, where its address has too many. */
  add(socket: Socket): boolean {
    const address = addressGroupOf(socket.remoteAddress);
    const count = this.#counts.get(address) ?? 0;
    if (count >= this.perAddressMax) return false;
    this.#counts.set(address, count + 1);
    socket.once("close", () => {
      const left = (this.#counts.get(address) ?? 1) - 1;
      if (left > 0) this.#counts.set(address, left);
      else this.#counts.delete(address);
    });
    return true;
  }
}
