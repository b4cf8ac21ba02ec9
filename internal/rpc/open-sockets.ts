/** The connections of one listener, and how many of them each address has: one caller must not take the room of all others. */
import type { Socket } from "node:net";
import { addressGroupOf } from "../identity/address-group.js";

export class OpenSockets implements Iterable<Socket> {
  readonly perAddressMax: number;
  readonly #addresses = new Map<Socket, string>();
  readonly #counts = new Map<string, number>();
  /** The same function for all of them: ten thousand of its own would be most of what is kept of a connection here. */
  readonly #closed: (this: Socket) => void;

  /** `closed` is told of each that was counted, when it is gone. */
  constructor(perAddressMax: number, closed: (socket: Socket) => void) {
    this.perAddressMax = perAddressMax;
    const forget = (socket: Socket): void => this.#forget(socket);
    this.#closed = function (this: Socket): void {
      forget(this);
      closed(this);
    };
  }

  get size(): number {
    return this.#addresses.size;
  }

  [Symbol.iterator](): Iterator<Socket> {
    return this.#addresses.keys();
  }

  /** Counts a new connection until it closes. Returns false, and does not count it, where its address has too many. */
  add(socket: Socket): boolean {
    const address = addressGroupOf(socket.remoteAddress);
    const count = this.#counts.get(address) ?? 0;
    if (count >= this.perAddressMax) return false;
    this.#counts.set(address, count + 1);
    this.#addresses.set(socket, address);
    socket.on("close", this.#closed);
    return true;
  }

  #forget(socket: Socket): void {
    const address = this.#addresses.get(socket);
    if (address === undefined) return;
    this.#addresses.delete(socket);
    const left = (this.#counts.get(address) ?? 1) - 1;
    if (left > 0) this.#counts.set(address, left);
    else this.#counts.delete(address);
  }
}
