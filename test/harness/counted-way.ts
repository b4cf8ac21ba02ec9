/** A way to a node that counts the connections that come by it, as the node sees them; it closes each when either end does. */
import { connect, createServer, type Server, type Socket } from "node:net";

export class CountedWay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Connections that are open. */
  open = 0;
  /** The most that were open at once. */
  openMax = 0;

  private constructor(port: () => number) {
    this.#server = createServer((from) => {
      const to = connect(port(), "127.0.0.1");
      this.open++;
      this.openMax = Math.max(this.openMax, this.open);
      from.once("close", () => this.open--);
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        this.#sockets.add(one);
        // Its end is told by `close`.
        one.on("error", () => undefined);
        one.once("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  /** Listens on a free port of 127.0.0.1, and leads to the one that `port` tells. */
  static async to(port: () => number): Promise<CountedWay> {
    const way = new CountedWay(port);
    await new Promise<void>((resolve) => way.#server.listen(0, "127.0.0.1", resolve));
    return way;
  }

  get address(): string {
    const { port } = this.#server.address() as { readonly port: number };
    return `127.0.0.1:${port}`;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
