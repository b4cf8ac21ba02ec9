import { afterEach, beforeEach, describe, expect, test } from "vitest";
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
const starts = new Map<Node, Promise<void>>();
let restarts: (() => Promise<void>)[] = [];
let network: MemoryNetwork;
let nodes: Map<string, Node>;
let seed = 1;
beforeEach(() => {
  network = new MemoryNetwork();
  nodes = new Map();
  starts.clear();
  restarts = [];
});
afterEach(async () => {
  for (const address of nodes.keys()) await stop(address);
});

interface StartOptions {
  readonly fileSystem?: MemoryFileSystem;
  /** The addresses of all voters. */
  readonly voters?: readonly string[];
}

/** Real stores, whose logs have small segments, over files in memory. */
async function start(role: "master" | "replica", address: string, options: StartOptions = {}): Promise<Node> {
  const node = await launch(role, address, options);
  await outcome(`the node at ${address} has started`, must(starts.get(node), "it starts"));
  return node;
}

/** The same, and waits for nothing. */
async function launch(
  role: "master" | "replica",
  address: string,
  { fileSystem = new MemoryFileSystem(), voters = [] }: StartOptions,
): Promise<Node> {
  const random = seededRandom(seed++);
  const store = await openStore({ fileSystem, clock, random, initialRole: role, segmentBytesMax: 1 << 16 });
  const replicator = new Replicator({
    store,
    network: network.as(address),
    clock,
    random,
    logger: silentLogger,
    address: () => address,
    listedReplicas: role === "master" && voters.length === 0 ? ["r:1"] : [],
    nodes: voters,
    heartbeatIntervalMs: 1000,
    batchBytes: 1 << 13,
    restart: () => void restarts.push(() => anew(address, voters)),
    windowBytes: 1 << 15,
  });
  const node = { store, replicator, fileSystem };
  nodes.set(address, node);
  network.add(address, replicator);
  const started = replicator.start();
  // Whoever does not wait for it closes it before it is done.
  started.catch(() => undefined);
  starts.set(node, started);
  return node;
}

/** What the programs do when a node wants other data. */
async function anew(address: string, voters: readonly string[]): Promise<void> {
  const role = must(nodes.get(address), `a node runs at ${address}`).store.role;
  await launch(role, address, { fileSystem: await stop(address), voters });
}

/** Ends a process at once: what was not synced is gone. */
async function kill(address: string): Promise<MemoryFileSystem> {
  const { replicator, store, fileSystem } = must(nodes.get(address), `a node runs at ${address}`);
  const left = fileSystem.crash();
  network.remove(address);
  nodes.delete(address);
  await replicator.close();
  await store.close();
  return left;
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
    for (const restart of restarts.splice(0)) await restart();
    if (!network.deliver((count) => rounds % count) && rounds % 10 === 0) clock.advance(10);
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
  replica = await start("replica", "r:1", { fileSystem: left });
  await until("it has caught up", () => haveTheSame(master, replica));
  expect(replica.store.status()).toMatchObject({ ready: true, keys: 1000 });
  expect(replica.fileSystem.paths().filter((path) => path.startsWith("diverged"))).toEqual([]);
});

test("a replica that begins when the log is no longer in memory is fed from the disk", async () => {
  const begun = await start("master", "m:1");
  await write(begun.store, 500, "first");
  const master = await start("master", "m:1", { fileSystem: await stop("m:1") });
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

  const again = await start("master", "m:1", { fileSystem: afterPowerCut });
  await write(again.store, 5, "later");
  await until("both have the same", () => haveTheSame(again, replica));
  expect(replica.store.get(bytes("lost"))).toBeUndefined();
  expect(replica.fileSystem.paths().filter((path) => path.startsWith("diverged"))).toHaveLength(1);
  expect(replica.store.history.starts.map(({ epoch }) => epoch)).toEqual([1, 2]);

  sync.release();
  await master.store.close();
  expect(await lost).toBe("lost");
});

describe("three voters", () => {
  const VOTERS = ["a:1", "b:1", "c:1"];
  const node = (address: string): Node => must(nodes.get(address), `a node runs at ${address}`);
  const isServing = (address: string): boolean =>
    node(address).replicator.survey({ nodeId: node(address).store.nodeId }).isMaster;
  const areSame = (): boolean => VOTERS.every((address) => haveTheSame(node("a:1"), node(address)));
  const options = { voters: VOTERS };

  async function found(): Promise<void> {
    for (const address of VOTERS.slice(1)) await start("replica", address, options);
    await start("master", "a:1", options);
    await until("all have the first record", areSame);
  }

  test("take over from each other, by an operator's word and by handing over, and all are the same after a restart", async () => {
    await found();
    await write(node("a:1").store, 50, "first");
    await outcome("b is master", node("b:1").replicator.promote({ force: false }));
    await write(node("b:1").store, 50, "second");
    const transfer = node("b:1").replicator.transfer({ address: "c:1" }, new AbortController().signal);
    expect(await outcome("c is master", transfer)).toMatchObject({ address: "c:1", epoch: 3 });
    await write(node("c:1").store, 50, "third");
    await until("all have the same", areSame);
    const left = new Map<string, MemoryFileSystem>();
    for (const address of VOTERS) left.set(address, await stop(address));
    for (const [address, fileSystem] of left) await launch("replica", address, { ...options, fileSystem });
    await until("c is master again", () => isServing("c:1"));
    await until("all have the same", areSame);
    expect(VOTERS.map((address) => node(address).store.role)).toEqual(["replica", "replica", "master"]);
    expect(node("a:1").store.status()).toMatchObject({ ready: true, keys: 150, divergedRecords: 0 });
    expect(node("b:1").store.history.starts.map(({ epoch }) => epoch)).toEqual([1, 2, 3, 4]);
  });

  test("need two of them, although their founder died before anything was committed", async () => {
    for (const address of VOTERS.slice(1)) await start("replica", address, options);
    const founder = await launch("master", "a:1", options);
    await until("its first record is synced", () => founder.store.keptSeq === 1);
    expect(founder.store.appliedSeq).toBe(0);
    const fileSystem = await kill("a:1");
    for (const address of VOTERS.slice(1)) network.silent.add(address);
    const again = await launch("master", "a:1", { ...options, fileSystem });
    expect(again.store.electorate.settings).toEqual({ commit: "majority", voters: "listed" });
    await until("it has tried", () => again.replicator.notServing().includes("no majority"));
    expect(isServing("a:1")).toBe(false);
    network.silent.clear();
    await until("it serves", () => isServing("a:1"));
    await until("all have the same", areSame);
  });

  test("say what is in their logs from the first moment on, for nobody must found where there are records", async () => {
    await found();
    await write(node("a:1").store, 5, "first");
    await until("all have the same", areSame);
    for (const address of VOTERS) network.silent.add(address);
    const { epoch, seq } = node("b:1").store.last;
    const again = await launch("master", "b:1", { ...options, fileSystem: await stop("b:1") });
    // Nothing has been heard of anybody yet.
    expect(again.replicator.survey({ nodeId: node("a:1").store.nodeId }).last).toEqual({ epoch, seq });
  });

  test("give a new disk to one whose data is damaged, and its vote counts once it has everything", async () => {
    await found();
    await write(node("a:1").store, 50, "first");
    await until("all have the same", areSame);
    const fileSystem = await stop("b:1");
    const path = must(
      fileSystem.paths().find((found) => found.startsWith("wal/") && !found.endsWith(".index")),
      "there is a log",
    );
    const content = fileSystem.bytes(path);
    content[200]! ^= 1;
    fileSystem.setBytes(path, content);
    await write(node("a:1").store, 5, "second");
    const { nodeId } = node("a:1").store;
    const again = await start("replica", "b:1", { ...options, fileSystem });
    expect(again.store.mustCatchUp).toBe(true);
    expect(again.replicator.survey({ nodeId })).toMatchObject({ unclean: true, last: { seq: 0 } });
    await until("all have the same", areSame);
    await until("it is shown so", () => !again.store.mustCatchUp);
    expect(again.store.status()).toMatchObject({
      ready: true,
      keys: 55,
      setAside: expect.stringMatching(/^set-aside-/),
    });
    await outcome("it is master", again.replicator.promote({ force: false }));
  });
});
