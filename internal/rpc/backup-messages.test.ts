import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, test } from "vitest";
import { type BackupResponse, Cluster } from "../../api/gen/cambium/v1/cluster_pb.js";
import { FakeClock } from "../base/clock.js";
import { StoreError } from "../store/store.js";
import { backupMessages, PROGRESS_MS } from "./backup-messages.js";
import { FakeBackups } from "./testing/fake-backups.js";
import { CLUSTER } from "./testing/fake-rooms.js";
import { callJson, startTestServer, type TestServer } from "./testing/test-server.js";

const servers: TestServer[] = [];

afterEach(async () => {
  for (const { server } of servers.splice(0)) await server.close();
});

async function start(): Promise<TestServer & { client: ReturnType<typeof createClient<typeof Cluster>> }> {
  const started = await startTestServer();
  servers.push(started);
  const transport = createConnectTransport({ baseUrl: started.url, httpVersion: "1.1" });
  return { ...started, client: createClient(Cluster, transport) };
}

async function messagesOf(stream: AsyncIterable<BackupResponse>): Promise<BackupResponse[]> {
  const messages: BackupResponse[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

const untouched = new AbortController().signal;

describe("Cluster.CreateSnapshot", () => {
  test("tells what was written", async () => {
    const { port } = await start();
    const { status, json } = await callJson(port, "cambium.v1.Cluster/CreateSnapshot", {});
    expect(status).toBe(200);
    expect(json).toEqual({
      fromSeq: "5",
      toSeq: "9",
      entries: "3",
      bytes: "1234",
      durationMs: expect.stringMatching(/^\d+$/) as unknown,
    });
  });

  test("says what a full disk says", async () => {
    const { port, backups } = await start();
    backups.failure = new StoreError("disk_full", "no room");
    const { status, json } = await callJson(port, "cambium.v1.Cluster/CreateSnapshot", {});
    expect([status, json["code"], json["message"]]).toEqual([429, "resource_exhausted", "no room"]);
  });
});

describe("Cluster.Backup", () => {
  test("begins with the header at once, and sends the file in messages of 256 KiB at most", async () => {
    const { client, backups } = await start();
    const large = Buffer.alloc(1_000_001, "abc");
    backups.pieces = [Buffer.from("header"), large, Buffer.alloc(0), Buffer.from("end")];
    const [first, ...rest] = await messagesOf(client.backup({}));
    expect(first).toMatchObject({
      header: { clusterId: CLUSTER, position: { epoch: 1n, seq: 5n }, formatVersion: 1, bytesEstimate: 100n },
    });
    expect(first!.chunk).toHaveLength(0);
    expect(rest.every(({ header, chunk }) => !header && chunk.length > 0 && chunk.length <= 256 * 1024)).toBe(true);
    const file = Buffer.concat(rest.map(({ chunk }) => chunk));
    expect(file.equals(Buffer.concat(backups.pieces))).toBe(true);
  });

  test("fails with the store's error, after what was sent before", async () => {
    const { client, backups } = await start();
    backups.failure = new StoreError("lineage_lost", "history was lost");
    const messages: BackupResponse[] = [];
    await expect(
      (async () => {
        for await (const message of client.backup({})) messages.push(message);
      })(),
    ).rejects.toThrow("history was lost");
    expect(messages).toHaveLength(2);
  });

  test("says that it is there while a snapshot is taken", async () => {
    const clock = new FakeClock();
    const backups = new FakeBackups();
    let open = (): void => undefined;
    backups.gate = new Promise((resolve) => (open = resolve));
    const messages = backupMessages({ stream: backups.backup(), clock, signal: untouched });
    await messages.next();
    await messages.next();
    for (let i = 0; i < 3; i++) {
      const next = messages.next();
      await turn();
      clock.advance(PROGRESS_MS);
      expect((await next).value).toMatchObject({ chunk: new Uint8Array(0) });
    }
    open();
    expect(Buffer.from((await messages.next()).value!.chunk).toString()).toBe("the rest");
    expect(await messages.next()).toMatchObject({ done: true });
  });

  test("ends with its caller, also while a snapshot is taken", async () => {
    const backups = new FakeBackups();
    let open = (): void => undefined;
    backups.gate = new Promise((resolve) => (open = resolve));
    const ended = new Promise<void>((resolve) => (backups.onEnd = resolve));
    const caller = new AbortController();
    const messages = backupMessages({ stream: backups.backup(), clock: new FakeClock(), signal: caller.signal });
    await messages.next();
    await messages.next();
    const next = messages.next();
    caller.abort(new Error("gone"));
    await expect(next).rejects.toThrow("gone");
    open();
    await ended;
  });

  test("a caller that does not read holds one piece up, and gives all back when it leaves", async () => {
    const { client, backups } = await start();
    backups.pieces = Array.from({ length: 1000 }, () => Buffer.alloc(256 * 1024));
    const ended = new Promise<void>((resolve) => (backups.onEnd = resolve));
    const caller = new AbortController();
    const stream = client.backup({}, { signal: caller.signal })[Symbol.asyncIterator]();
    await stream.next();
    await stream.next();
    // What the sockets take is all that goes out.
    let before = -1;
    while (before !== backups.taken) {
      before = backups.taken;
      for (let i = 0; i < 100; i++) await turn();
    }
    expect(backups.taken).toBeLessThan(100);
    caller.abort();
    await ended;
  });

  test("ends when the node drains", async () => {
    const { client, backups, server } = await start();
    let open = (): void => undefined;
    backups.gate = new Promise((resolve) => (open = resolve));
    const stream = client.backup({})[Symbol.asyncIterator]();
    await stream.next();
    await stream.next();
    const next = stream.next();
    const closed = server.close();
    await expect(next).rejects.toThrow("shutting down");
    await closed;
    open();
  });
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
