/** What hostile callers do to a port, each attack with sockets of its own and without a word of the server's code. */
import { connect as connectHttp2 } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { isLoopbackAddress } from "../../identity/loopback.js";

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Connections that an attack holds. */
export interface Attack {
  /** Those that the server has not closed. */
  readonly open: number;
  /** Of those that it has closed, how long the longest stood. */
  readonly longestMs: number;
  /** Resolves once the server has closed them all. */
  readonly ended: Promise<void>;
  /** Gives up. */
  end(): void;
}

const GET = "POST /cambium.v1.KVStore/Get HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
/** How every connection of HTTP/2 begins. */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
export const SETTINGS = frame(4, 0, 0, Buffer.alloc(0));
const TRICKLE_MS = 200;

/** A frame of HTTP/2. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The head of a call of Get without a body, in HPACK without a table of its own. */
export function headersBlock(path = "/cambium.v1.KVStore/Get", contentType = "application/json"): Buffer {
  const literal = (name: string, value: string): Buffer =>
    Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    literal(":method", "POST"),
    literal(":scheme", "http"),
    literal(":path", path),
    literal(":authority", "localhost"),
    literal("content-type", contentType),
  ]);
}

/** Those that are being made at the same time: beyond what the system queues, it takes connections for made that nobody has. */
const CONNECTING_MAX = 100;

/** Opens sockets to a port of this machine, and does to each of them what the attack consists of. */
export function attack(count: number, { host, port }: Target, act: (socket: Socket) => void): Attack {
  if (!isLoopbackAddress(host)) throw new Error(`${host} is not attacked; it is not this machine's loopback`);
  const sockets = new Set<Socket>();
  let left = count;
  let longestMs = 0;
  let finish = (): void => undefined;
  const ended = new Promise<void>((resolve) => (finish = resolve));
  const open = (): void => {
    if (left === 0) return;
    left--;
    const socket = connectSocket(port, host);
    sockets.add(socket);
    let sinceMs: number | undefined;
    socket.once("connect", () => {
      sinceMs = performance.now();
      act(socket);
      open();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      sockets.delete(socket);
      if (sinceMs === undefined) open();
      else longestMs = Math.max(longestMs, performance.now() - sinceMs);
      if (sockets.size === 0 && left === 0) finish();
    });
  };
  for (let n = 0; n < Math.min(count, CONNECTING_MAX); n++) open();
  return {
    get open() {
      return sockets.size + left;
    },
    get longestMs() {
      return longestMs;
    },
    ended,
    end: () => {
      left = 0;
      for (const socket of sockets) socket.destroy();
    },
  };
}

function trickle(socket: Socket, next: () => string | Uint8Array): void {
  const timer = setInterval(() => {
    if (socket.writable) socket.write(next());
  }, TRICKLE_MS);
  socket.once("close", () => clearInterval(timer));
}

/** A call, and then its end. */
const RESET_CALL = Buffer.concat([frame(1, 5, 0, headersBlock()), frame(3, 0, 0, Buffer.from([0, 0, 0, 8]))]);
/** Where the number of its stream stands in it. */
const RESET_CALL_IDS = [5, RESET_CALL.length - 8];

export const attacks: Readonly<Record<string, (count: number, target: Target) => Attack>> = {
  "connections that say nothing": (count, target) => attack(count, target, (socket) => void socket.resume()),

  "slow headers": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write(GET);
      let n = 0;
      trickle(socket, () => `x-${n++}: y\r\n`);
    }),

  "slow bodies": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write(`${GET}content-length: 1000000\r\n\r\n{`);
      trickle(socket, () => " ");
    }),

  "empty lines without an end, after a request": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
      trickle(socket, () => "\r\n");
    }),

  "slow bodies over HTTP/2": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write(Buffer.concat([PREFACE, SETTINGS, frame(1, 4, 1, headersBlock())]));
      trickle(socket, () => frame(0, 0, 1, Buffer.from(" ")));
    }),

  "half a preface of HTTP/2": (count, target) =>
    attack(count, target, (socket) => void socket.resume().write(PREFACE.subarray(0, 10))),

  "a preface and nothing else": (count, target) =>
    attack(count, target, (socket) => void socket.resume().write(PREFACE)),

  "frames of CONTINUATION without an end": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write(Buffer.concat([PREFACE, SETTINGS, frame(1, 0, 1, headersBlock())]));
      const literal = Buffer.concat([Buffer.from([0, 1]), Buffer.from("x"), Buffer.from([100]), Buffer.alloc(100, 97)]);
      const more = frame(9, 0, 1, Buffer.concat(Array.from({ length: 100 }, () => literal)));
      const push = (): void => {
        if (!socket.writable) return;
        if (socket.write(more)) setImmediate(push);
        else socket.once("drain", push);
      };
      push();
    }),

  "rapid resets": (count, target) =>
    attack(count, target, (socket) => {
      socket.resume().write(Buffer.concat([PREFACE, SETTINGS]));
      let stream = 1;
      const push = (): void => {
        if (!socket.writable) return;
        // Built for each stream anew it would keep the attacker busier than the attacked.
        const calls = Buffer.alloc(100 * RESET_CALL.length);
        for (let at = 0; at < calls.length; at += RESET_CALL.length, stream += 2) {
          RESET_CALL.copy(calls, at);
          for (const id of RESET_CALL_IDS) calls.writeUInt32BE(stream, at + id);
        }
        if (socket.write(calls)) setImmediate(push);
        else socket.once("drain", push);
      };
      push();
    }),

  "frames that make no sense": (count, target) =>
    attack(count, target, (socket) => {
      socket
        .resume()
        .write(Buffer.concat([PREFACE, SETTINGS, frame(0, 0, 7, Buffer.alloc(10)), Buffer.alloc(1000, 255)]));
    }),

  "PINGs without an end, of which no answer is read": (count, target) =>
    attack(count, target, (socket) => {
      socket.pause().write(Buffer.concat([PREFACE, SETTINGS]));
      const pings = Buffer.concat(Array.from({ length: 1000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
      const push = (): void => {
        if (!socket.writable) return;
        if (socket.write(pings)) setImmediate(push);
        else socket.once("drain", push);
      };
      push();
    }),
};

/** Asks for a value again and again over HTTP/1.1, in one go, and reads nothing of the answers. */
export function neverReading(count: number, target: Target, key: string, consistency: object = {}): Attack {
  const body = JSON.stringify({ keys: [key, key, key], consistency });
  const ask = `POST /cambium.v1.KVStore/BatchGet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  return attack(count, target, (socket) => {
    socket.pause();
    socket.write(ask.repeat(50));
    // Who reads nothing finds out by writing that the connection is gone.
    trickle(socket, () => "\r\n");
  });
}

/** A handshake of TLS that stops after its first bytes. */
export function halfHandshakes(count: number, target: Target): Attack {
  return attack(count, target, (socket) => void socket.resume().write(Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1])));
}

/** Connections of HTTP that have asked once, and say nothing more. */
export function idle(count: number, target: Target): Attack {
  return attack(
    count,
    target,
    (socket) => void socket.resume().write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"),
  );
}

/** One call on a connection of its own: how long it took, ms. Rejects where it is not answered as it should be. */
export function normalCall({ host, port }: Target, body = '{"key":"k"}'): Promise<number> {
  return new Promise((resolve, reject) => {
    const sinceMs = performance.now();
    const session = connectHttp2(`http://${host}:${port}`);
    session.on("error", reject);
    const stream = session.request({
      ":method": "POST",
      ":path": "/cambium.v1.KVStore/Get",
      "content-type": "application/json",
    });
    stream.on("error", reject);
    let status: unknown = "with nothing";
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("close", () => {
      session.destroy();
      if (status === 200) resolve(performance.now() - sinceMs);
      else reject(new Error(`answered ${String(status)}`));
    });
    stream.resume().end(body);
  });
}
