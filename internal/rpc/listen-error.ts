export type RpcListenErrorCode =
  /** Another program, or another node, has the port. */
  | "address_in_use"
  /** Ports below 1024 are for the administrator only. */
  | "permission_denied"
  /** This machine does not have the address. */
  | "address_not_available"
  /** Anything else; the cause tells. */
  | "failed";

/** Why the server cannot listen, in one line for the operator. */
export class RpcListenError extends Error {
  override readonly name = "RpcListenError";
  readonly code: RpcListenErrorCode;

  constructor(code: RpcListenErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  static from(cause: NodeJS.ErrnoException, host: string, port: number): RpcListenError {
    const place = `cannot listen on ${host.includes(":") ? `[${host}]` : host}:${port}`;
    switch (cause.code) {
      case "EADDRINUSE":
        return new RpcListenError(
          "address_in_use",
          `${place}: the port is in use; stop the program that has it, or choose another server.port`,
          { cause },
        );
      case "EACCES":
        return new RpcListenError(
          "permission_denied",
          `${place}: not permitted; choose a server.port of 1024 or more, or give the program the right to it`,
          { cause },
        );
      case "EADDRNOTAVAIL":
      case "ENOTFOUND":
      case "EAI_AGAIN":
        return new RpcListenError(
          "address_not_available",
          `${place}: this machine does not have the address; choose another server.address`,
          { cause },
        );
      default:
        return new RpcListenError("failed", `${place}: ${cause.message}`, { cause });
    }
  }
}
