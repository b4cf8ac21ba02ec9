/** Calls to a server by as little code as possible: a load generator must be leaner than what it measures. */

/** One call at a time. */
export interface Caller {
  /** Sends a request as `encode` made it. Never called before the last one is answered. */
  call(request: Buffer): void;
  /** When the call was made, for whoever measures. */
  startedMs: number;
}

/** A connection with as many callers as were asked for. */
export interface Connection {
  readonly callers: readonly Caller[];
  close(): void;
}

export interface ConnectionOptions {
  /** `host:port` */
  readonly address: string;
  /** Callers that share the connection. */
  readonly streams: number;
  /** Bytes that every answer must contain; empty: any answer that is no error. */
  readonly expected: Buffer;
  /** The caller's answer is complete, and as it should be. */
  readonly answered: (caller: Caller) => void;
  /** The server refused, or answered something else, or hung up. Nothing follows. */
  readonly failed: (error: Error) => void;
}

/** How requests travel. */
export interface Wire {
  /** The bytes of a request, made once and sent often. */
  encode(message: Uint8Array, target: { readonly address: string; readonly path: string }): Buffer;
  /** Resolves once the connection stands. */
  open(options: ConnectionOptions): Promise<Connection>;
}
