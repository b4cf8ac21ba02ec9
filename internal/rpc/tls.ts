/** TLS on a port: the handshake stands before everything else, and certificates are replaced while connections go on. */
import type { Socket } from "node:net";
import { createServer, type PeerCertificate, type SecureContextOptions, type Server, type TLSSocket } from "node:tls";

/** All as PEM. */
export interface TlsMaterial {
  /** The certificate, and after it those that lead to its authority. */
  readonly cert: string;
  readonly key: string;
  /** Of the authorities that the other end's certificate may be signed by; absent: those that Node knows. */
  readonly ca?: string | undefined;
}

/** Whether callers are asked for a certificate, and whether those without a good one are sent away. */
export type ClientAuth = "none" | "optional" | "required";

/** Bytes of each direction after which nothing is lost: what older versions had is not worth their weaknesses. */
export const TLS_VERSION_MIN = "TLSv1.2";

export interface TlsFrontOptions {
  readonly material: TlsMaterial;
  readonly clientAuth: ClientAuth;
  /** What is spoken inside, the best first. */
  readonly protocols: readonly string[];
  /** How long a handshake may take. */
  readonly handshakeTimeoutMs: number;
  /** Takes over a connection whose handshake is done. */
  readonly accept: (socket: TLSSocket) => void;
  /** Told why a handshake came to nothing; its socket is closed. */
  readonly failed: (error: Error) => void;
  /** Told of each caller without a certificate that it must have; its socket is closed. */
  readonly refused: (refusal: CertificateRefusal) => void;
}

export interface CertificateRefusal {
  readonly reason: "no_certificate" | "bad_certificate";
  /** Of the caller. */
  readonly address: string | undefined;
  /** What OpenSSL calls it. */
  readonly code: string;
}

export class TlsFront {
  readonly #server: Server;

  /** Throws what OpenSSL finds wrong with the material. */
  constructor(options: TlsFrontOptions) {
    const { material, clientAuth, protocols, handshakeTimeoutMs, accept, failed, refused } = options;
    this.#server = createServer({
      ...contextOf(material),
      ALPNProtocols: [...protocols],
      handshakeTimeout: handshakeTimeoutMs,
      requestCert: clientAuth !== "none",
      // Node would cut them off without a word about who it was.
      rejectUnauthorized: false,
    });
    this.#server.on("secureConnection", (socket) => {
      // Each costs us more than it costs the caller, and nobody needs it.
      socket.disableRenegotiation();
      if (clientAuth !== "required" || socket.authorized) {
        accept(socket);
        return;
      }
      refused(refusalOf(socket));
      socket.destroy();
    });
    this.#server.on("tlsClientError", (error, socket) => {
      failed(error);
      socket.destroy();
    });
  }

  /** Takes over a new connection, which closes when what is inside it does. */
  handshake(socket: Socket): void {
    // Or else a caller that leaves before it has said all would keep the connection until its time is over.
    socket.allowHalfOpen = false;
    this.#server.emit("connection", socket);
  }

  /** For the handshakes from now on. Throws what OpenSSL finds wrong with the material, and keeps what there was. */
  renew(material: TlsMaterial): void {
    this.#server.setSecureContext(contextOf(material));
  }
}

function refusalOf(socket: TLSSocket): CertificateRefusal {
  const hasOne = Object.keys(socket.getPeerCertificate()).length > 0;
  return {
    reason: hasOne ? "bad_certificate" : "no_certificate",
    address: socket.remoteAddress,
    code: String(socket.authorizationError),
  };
}

function contextOf({ cert, key, ca }: TlsMaterial): SecureContextOptions {
  return { cert, key, minVersion: TLS_VERSION_MIN, ...(ca !== undefined && { ca }) };
}

/** What both ends of a connection between sockets of TLS have in common, so that the wrappings of HTTP/2 will do. */
type Provable = Partial<Pick<TLSSocket, "authorized" | "getPeerCertificate">>;

/** The names in a certificate that the other end has proven; undefined where it has none, or one that is not signed as it must be. */
export function certificateNamesOf(socket: Provable): readonly string[] | undefined {
  if (socket.authorized !== true || !socket.getPeerCertificate) return undefined;
  return namesIn(socket.getPeerCertificate());
}

export function namesIn({
  subject,
  subjectaltname,
}: Partial<Pick<PeerCertificate, "subject" | "subjectaltname">>): string[] {
  // Node puts a name into quotes that has signs in it by which two names could look like one; such a name is nobody's.
  const alternatives = (subjectaltname ?? "").split(", ").flatMap((part) => {
    const name = /^(?:DNS|URI|IP Address):([^"]+)$/.exec(part)?.[1];
    return name === undefined ? [] : [name];
  });
  const common: unknown = subject?.CN;
  const names = Array.isArray(common) ? common : [common];
  return [...alternatives, ...names.filter((name): name is string => typeof name === "string" && name !== "")];
}
