import { createServer as createNetServer, connect as connectSocket, type AddressInfo, type Socket } from "node:net";
import { connect as connectHttp2 } from "node:http2";
import https from "node:https";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { KVStore } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { silentLogger } from "../base/logger.js";
import { Identities } from "../identity/identities.js";
import { Registry } from "../metrics/registry.js";
import { ConnectPeerNetwork } from "./peer-network.js";
import { certificate, type CertificateName } from "./testing/certificates.js";
import { CLUSTER, OTHER_NODE } from "./testing/fake-rooms.js";
import { NotingLogger } from "./testing/noting-logger.js";
import { sendRaw, startTestServer, type TestServer } from "./testing/test-server.js";
import { PEER_CONNECTIONS_PER_ADDRESS_MAX } from "./server-limits.js";
import { namesIn, type TlsMaterial } from "./tls.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(options: Parameters<typeof startTestServer>[0] = {}): Promise<TestServer> {
  const running = await startTestServer(options);
  cleanups.push(async () => {
    await running.server.close();
    expect(running.bugs).toEqual([]);
    expect(running.errors).toEqual([]);
  });
  return running;
}

const tls = { material: certificate("node"), clientAuth: "none" } as const;
const { ca } = tls.material;

async function freePort(): Promise<number> {
  const server = createNetServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A handshake: the socket, or the error that ended it. */
function handshake(port: number, options: ConnectionOptions = {}): Promise<TLSSocket | Error> {
  return new Promise((resolve) => {
    const socket = connectTls({ host: "127.0.0.1", port, ca, ...options }, () => resolve(socket));
    socket.on("error", resolve);
    cleanups.push(() => socket.destroy());
  });
}

/** The head of a handshake's first record, and no more. */
function halfHandshake(port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connectSocket(port, "127.0.0.1", () =>
      socket.write(Buffer.from([0x16, 3, 1, 2, 0]), () => resolve(socket)),
    );
    socket.resume().on("error", () => undefined);
    cleanups.push(() => socket.destroy());
  });
}

/** A Get over HTTPS with HTTP/1.1: its status, or the code of the error that ended the connection. */
function get(port: number, options: https.RequestOptions = {}): Promise<number | string> {
  return new Promise((resolve) => {
    const headers = { "content-type": "application/json" };
    const request = https.request(
      {
        host: "127.0.0.1",
        port,
        path: "/cambium.v1.KVStore/Get",
        method: "POST",
        ca,
        agent: false,
        ...options,
        headers,
      },
      (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode ?? 0));
      },
    );
    request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    request.end('{"key":"k"}');
  });
}

describe("the port with TLS", () => {
  test("speaks HTTP/1.1 and HTTP/2, as the caller asks for", async () => {
    const { port } = await start({ tls });
    expect(await get(port)).toBe(200);
    for (const protocol of ["h2", "http/1.1"]) {
      const socket = await handshake(port, { ALPNProtocols: [protocol] });
      expect(socket).toMatchObject({ alpnProtocol: protocol, authorized: true });
    }
    const session = connectHttp2(`https://127.0.0.1:${port}`, { ca });
    cleanups.push(() => session.destroy());
    const status = await new Promise((resolve, reject) => {
      const stream = session.request({
        ":method": "POST",
        ":path": "/cambium.v1.KVStore/Get",
        "content-type": "application/json",
      });
      stream.on("response", (headers) => resolve(headers[":status"]));
      stream.on("error", reject);
      stream.resume().end('{"key":"k"}');
    });
    expect(status).toBe(200);
    const transport = createGrpcTransport({ baseUrl: `https://127.0.0.1:${port}`, nodeOptions: { ca } });
    expect(await createClient(KVStore, transport).get({ key: "k" })).toMatchObject({ exists: false });
  });

  test("is told of in the metrics: each connection once, with the bytes that went over the wire", async () => {
    const registry = new Registry();
    const { port } = await start({ tls, registry });
    const sample = (name: string): number =>
      Number(new RegExp(`^cambium_${name} (.+)$`, "m").exec(registry.render())?.[1]);
    const socket = (await handshake(port, { ALPNProtocols: ["http/1.1"] })) as TLSSocket;
    expect(await get(port)).toBe(200);
    await expect.poll(() => sample("connections")).toBe(1);
    expect(sample("connections_accepted_total")).toBe(2);
    // The handshakes alone have more than the request and its answer.
    expect(sample("network_received_bytes_total")).toBeGreaterThan(500);
    expect(sample("network_sent_bytes_total")).toBeGreaterThan(1000);
    socket.destroy();
    await expect.poll(() => sample("connections")).toBe(0);
    expect(sample("connections_accepted_total")).toBe(2);
  });

  test("speaks nothing else: not without TLS, not of an old version, and not to the wrong authority", async () => {
    const { port } = await start({ tls });
    expect(await sendRaw(port, "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")).not.toContain("200");
    expect(await handshake(port, { maxVersion: "TLSv1.1", minVersion: "TLSv1" })).toBeInstanceOf(Error);
    expect(await handshake(port, { maxVersion: "TLSv1.2" })).not.toBeInstanceOf(Error);
    expect(await handshake(port, { ca: "" })).toMatchObject({
      code: expect.stringMatching(/SELF_SIGNED|ISSUER|UNABLE/),
    });
    expect(await handshake(port, { ALPNProtocols: ["spdy/3"] })).toBeInstanceOf(Error);
  });

  test("goes down in order while handshakes are half done, and calls are under way", async () => {
    const { port, server } = await start({ tls });
    for (let n = 0; n < 5; n++) await halfHandshake(port);
    await handshake(port, { ALPNProtocols: ["h2"] });
    await handshake(port, { ALPNProtocols: ["http/1.1"] });
    expect(await get(port)).toBe(200);
    await server.close();
    expect(await get(port)).toBe("ECONNREFUSED");
  });

  /** Ways to leave, each at another moment of a connection. Resolves once the caller has left. */
  const departures: Readonly<Record<string, (port: number) => Promise<unknown>>> = {
    "as the handshake ends": async (port) => ((await handshake(port)) as TLSSocket).destroy(),
    "as the handshake ends, with a reset": async (port) => {
      const socket = connectSocket(port, "127.0.0.1");
      await handshake(port, { socket });
      socket.resetAndDestroy();
    },
    "as the handshake of HTTP/2 ends": async (port) =>
      ((await handshake(port, { ALPNProtocols: ["h2"] })) as TLSSocket).destroy(),
    politely: async (port) => ((await handshake(port)) as TLSSocket).end(),
    "in the middle of a handshake": async (port) => (await halfHandshake(port)).destroy(),
    "in the middle of a handshake, with a reset": async (port) => (await halfHandshake(port)).resetAndDestroy(),
    "in the middle of a handshake, politely": async (port) => (await halfHandshake(port)).end(),
    "after what is no handshake": (port) => sendRaw(port, "no handshake at all\r\n\r\n"),
    "because it does not trust the certificate": (port) => handshake(port, { ca: "" }),
    "after a call": (port) => get(port),
    "after a call over HTTP/2": async (port) => {
      const session = connectHttp2(`https://127.0.0.1:${port}`, { ca });
      await new Promise((resolve, reject) => session.once("remoteSettings", resolve).once("error", reject));
      session.destroy();
    },
  };

  describe.each(["connectionsMax", "connectionsPerAddressMax"] as const)("%s", (limit) => {
    test.each(Object.entries(departures))("does not count who left %s", async (_way, leave) => {
      // Out of reach, so that no time limit frees what was not let go.
      const { port } = await start({ tls, serverLimits: { [limit]: 3, handshakeTimeoutMs: 1_000_000 } });
      for (let n = 0; n < 8; n++) {
        await leave(port);
        await expect.poll(() => get(port), { timeout: 30_000 }).toBe(200);
      }
    });

    test("counts handshakes that are half done, and their time is limited, however they trickle", async () => {
      const { port } = await start({ tls, serverLimits: { [limit]: 3, handshakeTimeoutMs: 1000 } });
      const sockets = await Promise.all([1, 2, 3].map(() => halfHandshake(port)));
      const closed = sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
      expect(await get(port)).not.toBe(200);
      const trickling = setInterval(() => void sockets[0]!.write(Buffer.from([0])), 100);
      cleanups.push(() => clearInterval(trickling));
      await Promise.all(closed);
      await expect.poll(() => get(port), { timeout: 30_000 }).toBe(200);
    });
  });

  test("renews its certificate, and connections go on with the one they have", async () => {
    const { port, server } = await start({ tls });
    const serial = async (): Promise<string> =>
      ((await handshake(port)) as TLSSocket).getPeerCertificate().serialNumber;
    const before = await serial();
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca });
    cleanups.push(() => agent.destroy());
    expect(await get(port, { agent })).toBe(200);
    server.renewTls({ port: certificate("node-renewed") });
    expect(await serial()).not.toBe(before);
    let isNew = false;
    agent.on("keylog", () => (isNew = true));
    expect(await get(port, { agent })).toBe(200);
    expect(isNew).toBe(false);
    // What is wrong changes nothing.
    expect(() => server.renewTls({ port: { ...certificate("node"), key: "none" } })).toThrow(/unsupported|PEM/);
    expect(await get(port)).toBe(200);
  });
});

describe("certificates of clients", () => {
  const identities = new Identities(
    [
      { name: "web", roles: ["reader"], credential: { kind: "certificate", name: "web.test" } },
      { name: "node-1", roles: ["peer"], credential: { kind: "certificate", name: "node-1.test" } },
    ],
    () => 0,
  );
  const of = (name: CertificateName): { cert: string; key: string } => {
    const { cert, key } = certificate(name);
    return { cert, key };
  };

  test("say who calls, where they are signed by the authority; the same name by another one says nothing", async () => {
    const { port } = await start({ tls: { ...tls, clientAuth: "optional" }, identities });
    expect(await get(port)).toBe(401);
    expect(await get(port, of("client"))).toBe(200);
    expect(await get(port, { ...of("client"), path: "/cambium.v1.KVStore/Set" })).toBe(403);
    expect(await get(port, of("stranger"))).toBe(401);
    expect(await get(port, of("elsewhere"))).toBe(401);
    expect(await get(port, { ...of("client"), path: "/cambium.v1.Replication/Survey" })).toBe(403);
    const asPeer = await get(port, { ...of("node"), path: "/cambium.v1.Replication/Survey" });
    expect([401, 403]).not.toContain(asPeer);
  });

  test("say so over HTTP/2 too", async () => {
    const { port } = await start({ tls: { ...tls, clientAuth: "optional" }, identities });
    const ask = async (name: CertificateName): Promise<unknown> => {
      const transport = createGrpcTransport({ baseUrl: `https://127.0.0.1:${port}`, nodeOptions: { ca, ...of(name) } });
      return createClient(KVStore, transport)
        .get({ key: "k" })
        .then(
          () => "served",
          (error: { rawMessage: string }) => error.rawMessage,
        );
    };
    expect(await ask("client")).toBe("served");
    expect(await ask("stranger")).toContain("needs an identity");
  });

  test("are required where the configuration says so", async () => {
    const logger = new NotingLogger();
    const { port } = await start({ tls: { ...tls, clientAuth: "required" }, logger });
    expect(await get(port, of("client"))).toBe(200);
    for (const options of [{}, of("stranger")]) expect(await get(port, options)).not.toBe(200);
    const refusals = logger.lines.filter(({ fields }) => fields["audit"] === true);
    const refusal = { audit: true, method: "the handshake of TLS", caller: "127.0.0.1" };
    expect(refusals.map(({ fields }) => fields)).toEqual([
      expect.objectContaining({ ...refusal, reason: "no_certificate" }),
      expect.objectContaining({ ...refusal, reason: "bad_certificate" }),
    ]);
  });

  test("have names; one that Node quotes, since it looks like two, is nobody's", () => {
    expect(
      namesIn({
        subjectaltname: 'DNS:a.test, IP Address:10.0.0.1, URI:spiffe://c/d, DNS:"x, DNS:admin.test", email:e@f',
        subject: { CN: "g" } as never,
      }),
    ).toEqual(["a.test", "10.0.0.1", "spiffe://c/d", "g"]);
    expect(namesIn({ subject: { CN: ["a", "b"] } as never })).toEqual(["a", "b"]);
    expect(namesIn({})).toEqual([]);
  });
});

describe("between nodes", () => {
  const asker = { clusterId: CLUSTER, nodeId: OTHER_NODE };

  function networkOf(material: TlsMaterial, port?: number): ConnectPeerNetwork {
    const network = new ConnectPeerNetwork({
      logger: silentLogger,
      tls: { material: () => material, ...(port !== undefined && { port }) },
    });
    cleanups.push(() => network.close());
    return network;
  }
  const survey = (network: ConnectPeerNetwork, address: string): Promise<unknown> =>
    network.survey(address, asker, new AbortController().signal);

  test("a node is trusted by the name in its certificate, and no other", async () => {
    const { port, replicator } = await start({ tls });
    await survey(networkOf(certificate("node")), `127.0.0.1:${port}`);
    await survey(networkOf(certificate("node")), `localhost:${port}`);
    expect(replicator.asked).toHaveLength(2);
    const elsewhere = await start({ tls: { ...tls, material: certificate("elsewhere") } });
    const stranger = await start({ tls: { ...tls, material: certificate("stranger") } });
    for (const { port } of [elsewhere, stranger]) {
      await expect(survey(networkOf(certificate("node")), `127.0.0.1:${port}`)).rejects.toThrow(
        "no trust in the certificate",
      );
    }
  });

  test("have a listener of their own, where everybody of the authority is a node, and nobody else gets a connection", async () => {
    const peerPort = await freePort();
    const { port, replicator } = await start({
      protectedMode: false,
      peerListener: { host: "127.0.0.1", port: peerPort, material: certificate("node") },
    });
    const address = `127.0.0.1:${port}`;
    await survey(networkOf(certificate("client"), peerPort), address);
    expect(replicator.asked).toHaveLength(1);
    await expect(survey(networkOf(certificate("stranger"), peerPort), address)).rejects.toThrow(/alert|closed|broke/);
    expect(await get(peerPort)).not.toBe(200);
    // It is not for clients, and the other one not for nodes.
    const clientThere = await createClient(
      KVStore,
      createGrpcTransport({ baseUrl: `https://127.0.0.1:${peerPort}`, nodeOptions: certificate("node") }),
    )
      .get({ key: "k" })
      .catch((error: { rawMessage: string }) => error.rawMessage);
    expect(clientThere).toContain("the role peer");
    const plain = new ConnectPeerNetwork({ logger: silentLogger });
    cleanups.push(() => plain.close());
    await expect(survey(plain, address)).rejects.toThrow("call at replication.listen");
    expect(replicator.asked).toHaveLength(1);
  });

  test("have so many connections there and no more, in all and of an address, with time limits on each", async () => {
    const peerPort = await freePort();
    await start({
      peerListener: { host: "127.0.0.1", port: peerPort, material: certificate("node") },
      serverLimits: { handshakeTimeoutMs: 1000, headersTimeoutMs: 1000, idleTimeoutMs: 1000 },
    });
    const closed: Promise<unknown>[] = [];
    const isClosed = (socket: Socket): Promise<unknown> => new Promise((resolve) => socket.once("close", resolve));
    // Half a handshake; a whole one, and silence; a connection of HTTP/2, and no call.
    const silent = (await handshake(peerPort, { ...certificate("node"), ALPNProtocols: ["h2"] })) as TLSSocket;
    closed.push(isClosed(silent.resume()));
    const idle = connectHttp2(`https://127.0.0.1:${peerPort}`, certificate("node"));
    closed.push(new Promise((resolve) => idle.once("close", resolve)));
    await new Promise((resolve, reject) => idle.once("remoteSettings", resolve).once("error", reject));
    for (let n = 2; n < PEER_CONNECTIONS_PER_ADDRESS_MAX; n++) closed.push(isClosed(await halfHandshake(peerPort)));
    expect(await handshake(peerPort, { ...certificate("node"), ALPNProtocols: ["h2"] })).toBeInstanceOf(Error);
    await Promise.all(closed);
    await expect
      .poll(() => handshake(peerPort, { ...certificate("node"), ALPNProtocols: ["h2"] }), { timeout: 30_000 })
      .not.toBeInstanceOf(Error);
  });

  test("a port of the listener for nodes that is taken is told, and nothing stays open", async () => {
    const { port } = await start();
    await expect(start({ peerListener: { host: "127.0.0.1", port, material: certificate("node") } })).rejects.toThrow(
      `127.0.0.1:${port}`,
    );
  });
});
