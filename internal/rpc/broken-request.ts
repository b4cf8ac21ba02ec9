/** What a caller is told whose bytes are no request of HTTP/1.1. */
import type { Duplex } from "node:stream";

/**
 * Answers on the bare socket, for there is no request to answer, and ends the connection. While another answer is on its
 * way on it (`isAnswering`), the caller would take this one for a part of that, so that the connection just ends.
 */
export function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex, isAnswering: boolean): void {
  const [status, text] = judge(error.code ?? "");
  if (error.code === "ECONNRESET") socket.destroy();
  else endWith(status, text, socket, isAnswering);
}

/** Answers a request that would make a tunnel to somewhere else of the connection. */
export function refuseTunnel(socket: Duplex, isAnswering: boolean): void {
  // It is the bare socket now, and an error that nobody hears would end the process.
  socket.on("error", () => undefined);
  endWith("405 Method Not Allowed", "this node is no proxy; send calls to it, not through it", socket, isAnswering);
}

function endWith(status: string, text: string, socket: Duplex, isAnswering: boolean): void {
  if (isAnswering || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = `${text}\n`;
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    // Whatever else the caller sends belongs to nothing.
    () => socket.destroy(),
  );
}

function judge(code: string): [status: string, text: string] {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return ["431 Request Header Fields Too Large", "the head of the request is too large; send large keys with POST"];
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["408 Request Timeout", "the request did not arrive in time; send it again"];
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return ["413 Payload Too Large", "the extensions of a chunk are too large; send none"];
    default:
      return [
        "400 Bad Request",
        "this is no request of HTTP/1.1 or HTTP/2; this port speaks Connect, gRPC and gRPC-web",
      ];
  }
}
