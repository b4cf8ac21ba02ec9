import { afterEach, beforeEach, expect, test } from "vitest";
import { must } from "../base/assert.js";
import { FakeClock } from "../base/clock.js";
import { silentLogger } from "../base/logger.js";
import type { Store } from "../store/store.js";
import { bytes, openStore, seededRandom, text } from "../store/testing/stores.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { Replicator } from "./replicator.js";
import { MemoryNetwork } from "./testing/memory-network.js";

interface Node {
  readonly store: Store;
  readonly replicator: Replicator;
  readonly fileSystem: MemoryFileSystem;
}

const clock = new FakeClock();
let network: MemoryNetwork;
let nodes: Map<string, Node>;
let seed = 1;
beforeEach(() => {
  network = new MemoryNetwork();
  nodes = new Map();
});
afterEach(async () => {
  for (const address of nodes.keys()) await stop(address);
});

/** Real stores, whose logs have small segments, over files in memory. */
async function start(role: "master" | "replica", address: string, fileSystem = new MemoryFileSystem()): Promise<Node> {
  const random = seededRandom(seed++);
  const store = await openStore({ fileSystem, clock, random, initialRole: role, segmentBytesMax: 1 << 16 });
  const replicator = new Replicator({
    store,
    network: network.as(address),
    clock,
    random,
    logger: silentLogger,
    address: () => address,
    listedReplicas: role === "master" ? ["r:1"] : [],
    heartbeatIntervalMs: 1000,
    batchBytes: 1 << 13,
    restart: () => undefined,
    windowBytes: 1 << 15,
  });
  const node = { store, replicator, fileSystem };
  nodes.set(address, node);
  network.add(address, replicator);
  await outcome(`the node at ${address} has started`, replicator.start());
  return node;
}

async function stop(address: string): Promise<MemoryFileSystem> {
  const { store, replicator, fileSystem } = must(nodes.get(address), `a node runs at ${address}`);
  network.remove(address);
  nodes.delete(address);
  await replicator.close();
  await store.close();
  return fileSystem;
}

/** Lets messages arrive and files be written, and time pass, until something has come about. */
async function until(what: string, holds: () => boolean): Promise<void> {
  for (let rounds = 0; rounds < 20_000; rounds++) {
    if (holds()) return;
    await new Promise((resolve) => setImmediate(resolve));
    if (!network.deliver() && rounds % 10 === 0) clock.advance(10);
  }
  throw new Error(`it never came about that ${what}`);
}

/** The same until a promise is settled, and gives what it is settled with. */
async function outcome<T>(what: string, promise: Promise<T>): Promise<T> {
  let settled = false;
  const settle = (): void => void (settled = true);
  promise.then(settle, settle);
  await until(what, () => settled);
  return promise;
}

async function write(store: Store, count: number, name: string): Promise<void> {
  const writes = Array.from({ length: count }, (_, i) =>
    store.write([{ kind: "set", key: bytes(`${name} ${i}`), value: bytes(`value ${i}`.repeat(20)) }]),
  );
  await outcome(`${name} is written`, Promise.all(writes));
}

function haveTheSame({ store: a }: Node, { store: b }: Node): boolean {
  return a.last.seq === b.last.seq && a.last.chain === b.last.chain && a.appliedSeq === b.appliedSeq;
}

test("a replica has the master's log and state, byte for byte, over many segments and a restart", async () => {
  let replica = await start("replica", "r:1");
  const master = await start("master", "m:1");
  await write(master.store, 500, "first");
  await until("both have the same", () => haveTheSame(master, replica));
  expect(replica.store.last).toEqual(master.store.last);
  expect(text(must(replica.store.get(bytes("first 499")), "it is there").value)).toBe("value 499".repeat(20));

  const left = await stop("r:1");
  await write(master.store, 500, "second");
  replica = await start("replica", "r:1", left);
  await until("it has caught up", () => haveTheSame(master, replica));
  expect(replica.store.status()).toMatchObject({ ready: true, keys: 1000 });
  expect(replica.fileSystem.paths().filter((path) => path.startsWith("diverged"))).toEqual([]);
});

test("a replica that begins when the log is no longer in memory is fed from the disk", async () => {
  const begun = await start("master", "m:1");
  await write(begun.store, 500, "first");
  const master = await start("master", "m:1", await stop("m:1"));
  const replica = await start("replica", "r:1");
  await until("it has caught up", () => haveTheSame(master, replica));
  expect(replica.store.status().keys).toBe(500);
});

test("what the master lost in a power cut the replica sets aside, and follows the new epoch", async () => {
  const replica = await start("replica", "r:1");
  const master = await start("master", "m:1");
  await write(master.store, 20, "kept");
  await until("both have the same", () => haveTheSame(master, replica));
  const common = master.store.last.seq;

  const sync = master.fileSystem.holdNext("datasync");
  const lost = master.store.write([{ kind: "set", key: bytes("lost"), value: bytes("x") }]).catch(() => "lost");
  await sync.reached;
  await until("the replica has what is not synced", () => replica.store.last.seq === common + 1);
  expect(replica.store.appliedSeq).toBe(common);
  const afterPowerCut = master.fileSystem.crash();
  network.remove("m:1");
  await master.replicator.close();
  nodes.delete("m:1");

  const again = await start("master", "m:1", afterPowerCut);
  await write(again.store, 5, "later");
  await until("both have the same", () => haveTheSame(again, replica));
  expect(replica.store.get(bytes("lost"))).toBeUndefined();
  expect(replica.fileSystem.paths().filter((path) => path.startsWith("diverged"))).toHaveLength(1);
  expect(replica.store.history.starts.map(({ epoch }) => epoch)).toEqual([1, 2]);

  sync.release();
  await master.store.close();
  expect(await lost).toBe("lost");
});
