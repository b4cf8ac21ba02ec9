/**
 * Passes writes that came to a replica on to its master, where `server.forward_writes` says so: by one hop, with the proof of
 * a peer, for as long as the caller waits. What the master answers is built anew as an answer of this node.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Clock } from "../base/clock.js";
import { peerAuthorization } from "../identity/peer-proof.js";
import { ReplicationError } from "../replication/replicator.js";
import { StoreError } from "../store/store.js";
import { callKey, headersOnward } from "./call-log.js";
import { timeFor, whileWanted } from "./caller.js";
import { PeerCallError, PeerChannels } from "./peer-channels.js";
import type { PeerTls } from "./peer-session.js";
import type { RpcReplicator } from "./ports.js";
import { RequestError } from "./request-error.js";

/** Marks a call that has been passed on once already. */
export const FORWARDED_HEADER = "cambium-forwarded";
/** Beyond the write's own time: for the way there and back. */
const WAY_MS = 5000;

/** Of writes that are passed on and not answered yet, together: the master may be slower than those who write here. */
export const FORWARDED_BYTES_MAX = 64 * 1024 * 1024;
/** Reckoned for a write beside its keys and values. */
const WRITE_OVERHEAD_BYTES = 1024;

export interface WriteForwarderOptions {
  /** `server.forward_writes` */
  readonly isEnabled: boolean;
  readonly replicator: Pick<RpcReplicator, "masterAddress">;
  readonly clock: Clock;
  readonly clusterSecret?: Uint8Array;
  readonly tls?: PeerTls;
  /** Of a write, as the master is set up, presumably. */
  readonly timeoutMs: number;
}

export class WriteForwarder {
  readonly #options: WriteForwarderOptions;
  readonly #channels: PeerChannels;
  #bytes = 0;

  constructor(options: WriteForwarderOptions) {
    const { clock, clusterSecret, tls } = options;
    this.#options = options;
    this.#channels = new PeerChannels({
      clock,
      connectTimeoutMs: 5000,
      pingIntervalMs: 10_000,
      pingTimeoutMs: 5000,
      ...(tls && { tls }),
      headers: clusterSecret ? { authorization: peerAuthorization(clusterSecret) } : {},
    });
  }

  /** Carries a write out here; where this node is not the master, at the master, if it may. */
  async hereOrForward<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    context: HandlerContext,
    here: () => Promise<MessageInitShape<O>>,
  ): Promise<MessageInitShape<O>> {
    try {
      return await here();
    } catch (error) {
      // Nothing was changed here.
      const address = isNotMaster(error) ? this.#masterFor(context) : undefined;
      if (address === undefined) throw error;
      return this.#forward(address, method, request, context);
    }
  }

  /** Ends the calls that are under way, and gives the connections back. */
  async close(): Promise<void> {
    await this.#channels.close();
  }

  /** Two replicas that take each other for the master must not pass a write to and fro: the second one refuses it. */
  #masterFor({ requestHeader }: HandlerContext): string | undefined {
    const { isEnabled, replicator } = this.#options;
    return isEnabled && !requestHeader.has(FORWARDED_HEADER) ? replicator.masterAddress : undefined;
  }

  async #forward<I extends DescMessage, O extends DescMessage>(
    address: string,
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    context: HandlerContext,
  ): Promise<MessageShape<O>> {
    const timeoutMs = timeFor(context, this.#options.timeoutMs + WAY_MS);
    const bytes = bytesOf(request) + WRITE_OVERHEAD_BYTES;
    if (this.#bytes + bytes > FORWARDED_BYTES_MAX) {
      throw new StoreError(
        "overloaded",
        `${this.#bytes} bytes of writes are on their way from this replica to the master at ${address}, ${FORWARDED_BYTES_MAX} are possible; nothing was changed, try again shortly, or write to the master`,
      );
    }
    this.#bytes += bytes;
    try {
      return await whileWanted(context, (signal) =>
        this.#channels.call(
          address,
          async (transport, options) => {
            const answer = await transport.unary(method, options.signal, options.timeoutMs, options.headers, request);
            return answer.message;
          },
          {
            signal,
            timeoutMs,
            isKept: true,
            headers: { ...headersOnward(context.values.get(callKey)), [FORWARDED_HEADER]: "1" },
          },
        ),
      );
    } catch (error) {
      throw explained(error, address);
    } finally {
      this.#bytes -= bytes;
    }
  }
}

/** Of all texts and bytes in a message. */
function bytesOf(value: unknown): number {
  if (value instanceof Uint8Array) return value.byteLength;
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce<number>((sum, part) => sum + bytesOf(part), 0);
}

/** Whether a write was refused by a node that is not the master, without a change. */
export function isNotMaster(error: unknown): boolean {
  return (error instanceof StoreError || error instanceof ReplicationError) && error.code === "not_master";
}

function explained(error: unknown, address: string): unknown {
  if (error instanceof PeerCallError) {
    const { code, message } = error;
    switch (code) {
      case "invalid_address":
      case "closing":
      case "unreached":
        return new RequestError(
          "unreached",
          `this node is a replica, and could not pass the write on to the master at ${address}: ${message}; nothing was changed`,
        );
      case "broken":
      case "timeout":
        return new StoreError(
          "outcome_unknown",
          `this node is a replica, and passed the write on to the master at ${address}, which gave no answer: ${message}; the write may or may not have been done`,
          { cause: error },
        );
    }
  }
  return error instanceof ConnectError ? rebuilt(error, address) : error;
}

/** Of the other call only what was said of the write; its headers and trailers belong to that call. */
function rebuilt({ code, rawMessage, details }: ConnectError, address: string): ConnectError {
  // Of a refusal like these this node is to blame, not its caller.
  const isOurs = code === Code.PermissionDenied || code === Code.Unauthenticated;
  const message = isOurs
    ? `the master at ${address} does not take what this node passes on: ${rawMessage}`
    : rawMessage;
  // The caller's own credential is good, and would be in vain looked for a mistake.
  const error = new ConnectError(message, isOurs ? Code.Unavailable : code);
  error.details = details.flatMap((detail) => ("type" in detail ? [{ type: detail.type, value: detail.value }] : []));
  return error;
}
