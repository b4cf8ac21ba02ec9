/** Who decides, as the whole log says. */
import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { epochId, nodeId } from "../base/ids.js";
import { MapEngine } from "../engine/map-engine.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import type { Change } from "./change.js";
import { ClusterState } from "./cluster-state.js";
import { LoggedCluster } from "./logged-cluster.js";
import type { ClusterChange, Member, Store } from "./store.js";
import { beginMastership, bytes, joinReplica, kept, openStore, push, seq } from "./testing/stores.js";

const IDS = ["aa", "bb", "cc"].map((pair) => nodeId(pair.repeat(16)));
const OTHER = IDS[0]!;
const member = (id: Member["nodeId"], voter: boolean, address = `${id.slice(0, 4)}:1`): Member => ({
  nodeId: id,
  address,
  voter,
  source: "listed",
  removed: false,
});
const LISTED: ClusterChange = { kind: "settings", settings: { commit: "majority", voters: "listed" } };

describe("a node's electorate", () => {
  test("counts what is not committed yet, and the same object stays until it changes", async () => {
    const store = await openStore();
    expect(store.electorate).toEqual({ settings: { commit: "master", voters: "master" }, members: [] });
    await beginMastership(store, {
      changes: [LISTED, { kind: "member", member: member(OTHER, true) }],
      commits: false,
    });
    const before = store.electorate;
    expect(before).toEqual({ settings: LISTED.settings, members: [member(OTHER, true)] });
    await store.write([{ kind: "set", key: bytes("a"), value: bytes("1") }], { acknowledge: "kept" });
    store.commit(store.last.seq);
    expect(store.electorate).toBe(before);
    void store.proposeMember(member(store.nodeId, true)).catch(() => undefined);
    expect(store.electorate.members).toEqual([member(OTHER, true), member(store.nodeId, true)]);
    expect(store.members).toEqual([member(OTHER, true)]);
    await kept(store, store.last.seq);
    store.commit(store.last.seq);
    expect(store.members).toEqual(store.electorate.members);
    await store.close();
  });

  test("of a replica is that of its log, through restarts, with a snapshot and without", async () => {
    const master = await openStore();
    await beginMastership(master, { changes: [LISTED, { kind: "member", member: member(OTHER, true) }] });
    await master.proposeMember(member(IDS[1]!, true));
    const fileSystem = new MemoryFileSystem();
    const replica = await joinReplica(master, { fileSystem });
    await push(master, replica);
    expect([replica.electorate, replica.members]).toEqual([master.electorate, []]);
    await replica.close();
    const again = await openStore({ fileSystem, initialRole: "replica" });
    expect([again.electorate, again.members]).toEqual([master.electorate, []]);
    again.commit(again.last.seq);
    await again.markCaughtUp();
    await again.createSnapshot();
    await again.close();
    const third = await openStore({ fileSystem, initialRole: "replica", engine: new MapEngine() });
    expect([third.compactSeq, third.electorate]).toEqual([third.last.seq, master.electorate]);
    await Promise.all([third.close(), master.close()]);
  });

  test("goes back with a cut, also where that lies before a snapshot, and with records that found no room", async () => {
    const fileSystem = new MemoryFileSystem();
    const store = await openStore({ fileSystem, snapshots: { intervalMs: 0, logBytes: Infinity, keep: 3 } });
    await beginMastership(store, { changes: [{ kind: "member", member: member(OTHER, false) }] });
    await store.createSnapshot();
    const early = { electorate: store.electorate, seq: store.last.seq };
    await store.proposeMember(member(IDS[1]!, false));
    const found = store.electorate;
    fileSystem.failNext("write", "ENOSPC");
    await expect(store.proposeMember(member(IDS[2]!, false))).rejects.toMatchObject({ code: "disk_full" });
    expect(store.electorate).toEqual(found);
    await beginMastership(store, { changes: [LISTED] });
    await store.createSnapshot();
    store.endMastership();
    await store.cutAfter(seq(early.seq));
    expect([store.electorate, store.members]).toEqual([early.electorate, early.electorate.members]);
    await store.close();
  });

  test("follows the one vote: it is the master's of the newest epoch in the log", async () => {
    const store = await openStore();
    await beginMastership(store, { changes: [{ kind: "member", member: member(OTHER, true) }] });
    expect(votersOf(store)).toEqual([OTHER]);
    await store.proposeMember(member(store.nodeId, false));
    await beginMastership(store);
    expect(votersOf(store)).toEqual([store.nodeId]);
    await store.close();
  });
});

function votersOf(store: Store): readonly string[] {
  return store.electorate.members.filter(({ voter }) => voter).map(({ nodeId: id }) => id);
}

describe("what is logged", () => {
  const change = fc.oneof(
    fc
      .record({ id: fc.constantFrom(...IDS), voter: fc.boolean() })
      .map(({ id, voter }): Change[] => [{ kind: "member", member: member(id, voter) }]),
    fc.constantFrom<Change[]>(
      [LISTED],
      [{ kind: "settings", settings: { commit: "master", voters: "master" } }],
      [{ kind: "delete", key: bytes("k"), previousSeq: seq(1) }],
    ),
    fc
      .constantFrom(...IDS)
      .map((master): Change[] => [{ kind: "epoch", epochId: epochId("12".repeat(8)), forced: false, master }]),
  );
  const act = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("append" as const), changes: change }) },
    fc.record({ kind: fc.constantFrom("cut" as const, "forget" as const, "restore" as const), at: fc.nat(1000) }),
  );

  test("is the fold of the log, whatever is cut, forgotten and restored", () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const logged = new LoggedCluster([]);
        const log: (readonly Change[])[] = [];
        let forgotten = 0;
        let base = 0;
        const fold = (end: number): { settings: ClusterState["settings"]; members: readonly Member[] } => {
          const state = new ClusterState();
          for (const changes of log.slice(0, end)) for (const one of changes) state.apply(one);
          return { settings: state.settings, members: state.members };
        };
        for (const { kind, ...rest } of acts) {
          if ("changes" in rest) logged.note(seq(log.push(rest.changes)), rest.changes);
          // As in a store: nothing is cut or loaded from before what was forgotten, and a cut behind a snapshot loads another.
          const at = "at" in rest ? forgotten + (rest.at % (log.length - forgotten + 1)) : 0;
          if (kind === "cut") {
            logged.cutAfter(seq(at));
            log.length = at;
          }
          if (kind === "forget") {
            logged.forgetBefore(seq(at));
            forgotten = at;
            base = Math.max(base, at);
          }
          if (kind === "restore" || (kind === "cut" && at < base)) {
            base = at;
            logged.restore(fold(at), seq(at));
          }
          expect(logged.state).toEqual(fold(log.length));
          expect(logged.state).toBe(logged.state);
        }
      }),
      { numRuns: 300 },
    );
  });
});
