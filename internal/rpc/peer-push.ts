/**
 * One `Replication.Push` as the master sees it. It calls its listener on ticks of its own, and `closed` last, whatever
 * happens; `send` and `close` never wait.
 */
import { type Client, ConnectError } from "@connectrpc/connect";
import type { PushRequest, Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import type { MasterMessage, PeerConnection, PeerListener } from "../replication/replicator.js";
import { Outgoing } from "./outgoing.js";
import { masterMessageToWire, replicaMessageFromWire } from "./peer-messages.js";
import type { PeerSession } from "./peer-session.js";

/** Reckoned for a message beside the records in it. */
const MESSAGE_BYTES = 128;

export interface PeerPushOptions {
  readonly listener: PeerListener;
  readonly onBug: (error: Error) => void;
  /** Called after the listener's. */
  readonly onClosed: (reason: string) => void;
}

export class PeerPush implements PeerConnection {
  readonly #options: PeerPushOptions;
  readonly #abort = new AbortController();
  readonly #outgoing: Outgoing<MasterMessage>;
  #session: PeerSession | undefined;
  /** Why the call ended, where that tells more than why the connection did. */
  #reason: string | undefined;
  #isClosed = false;

  constructor(options: PeerPushOptions) {
    this.#options = options;
    this.#outgoing = new Outgoing<MasterMessage>({
      // Replication keeps its own window, and asks for `bufferedBytes` before it sends more.
      bytesMax: Number.POSITIVE_INFINITY,
      sizeOf: (message) => MESSAGE_BYTES + (message.kind === "append" ? message.records.byteLength : 0),
      overflow: () => new Error("too many messages"),
      drained: () => this.#tell(() => this.#options.listener.drained?.()),
    });
  }

  get bufferedBytes(): number {
    return this.#outgoing.bufferedBytes;
  }

  send(message: MasterMessage): void {
    if (!this.#isClosed && this.#reason === undefined) this.#outgoing.add(message);
  }

  readonly close = (): void => {
    this.fail("this node closed the connection");
  };

  /** The connection that carries this push; when it ends, `sessionClosed` is called. */
  use(session: PeerSession): void {
    this.#session = session;
  }

  /** The connection stands: makes the call on it. */
  opened(client: Client<typeof Replication>, headers: Readonly<Record<string, string>>): void {
    this.#tell(() => this.#options.listener.opened());
    void this.#run(client, headers);
  }

  /** Ends the push for a reason of this node's. */
  fail(reason: string): void {
    this.#reason ??= reason;
    this.#outgoing.end();
    this.#abort.abort();
    if (this.#session) this.#session.destroy();
    else setImmediate(() => this.sessionClosed(reason));
  }

  /** The connection is gone, and with it the call. */
  sessionClosed(reason: string): void {
    if (this.#isClosed) return;
    this.#outgoing.end();
    const why = this.#reason ?? reason;
    this.#tell(() => this.#options.listener.closed(why));
    this.#isClosed = true;
    this.#options.onClosed(why);
  }

  async #run(client: Client<typeof Replication>, headers: Readonly<Record<string, string>>): Promise<void> {
    try {
      const answers = client.push(this.#requests(), { headers, signal: this.#abort.signal });
      for await (const answer of answers) {
        const message = replicaMessageFromWire(answer);
        this.#tell(() => this.#options.listener.message(message));
      }
      this.fail("the replica ended the push");
    } catch (error) {
      // The connection's own end tells more than what the call makes of it, so that is let come first.
      const reason = error instanceof ConnectError ? error.rawMessage : String(error);
      setImmediate(() => this.fail(reason));
    }
  }

  async *#requests(): AsyncGenerator<PushRequest> {
    for await (const message of this.#outgoing) yield masterMessageToWire(message);
  }

  /** The listener's failures are bugs of this node: they end the push, and are never taken for the network's. */
  #tell(call: () => void): void {
    if (this.#isClosed) return;
    try {
      call();
    } catch (error) {
      this.#options.onBug(error instanceof Error ? error : new Error(String(error)));
      this.#abort.abort();
      this.#session?.destroy();
    }
  }
}
