import { describe, expect, test } from "vitest";
import { play, type Player, replicaPlayer, tidy } from "../testing/dialogue.js";
import { isFollowing, stalenessMs } from "./view.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

/** A replica with five records of epoch 1, which it has promised. */
const known = (): Player => replicaPlayer({ history: "1@1", last: "1/5", promised: 1 });

/** The same, following the master of epoch 1, after its first Ack. */
function following(): Player {
  const player = known();
  play(
    player,
    `> accepted s1
     > s1 <- hello history 1@1 last 1/5
     > s1 <- align at 1/5
     > mark 1/5
     > flush`,
  );
  expect(isFollowing(player.state)).toBe(true);
  return player;
}

describe("Hello", () => {
  test("of the known master is welcomed at once", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello history 1@1 last 1/9
       s1 -> welcome promised 1, history 1@1, last 1/5`,
    );
  });

  test("of a new epoch is answered only once the promise is durable", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@4
       promise epoch 2 to m
       > flush
       > done
       s1 -> welcome promised 2, history 1@1, last 1/5`,
    );
  });

  test("makes an empty replica join the cluster, then promise, and then answer", () => {
    expectPlayed(
      replicaPlayer({ empty: true }),
      `> accepted s1
       > s1 <- hello epoch 3 history 1@1 3@4
       join
       > done
       promise epoch 3 to m
       > done
       s1 -> welcome promised 3, history none, last 0/0`,
    );
  });

  test("of another cluster is refused, and nothing is remembered of it", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello epoch 9 history 9@1 cluster foreign
       s1 -> reject foreign_cluster, promised 1
       close s1: this node belongs to cluster c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1, the master to f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0`,
    );
  });

  test("without a cluster is refused even by an empty replica", () => {
    const player = replicaPlayer({ empty: true });
    expect(play(player, `> accepted s1\n> s1 <- hello history 1@1 cluster none`)).toContain("reject foreign_cluster");
  });

  test("of an epoch below the promised one is refused, and tells the promised one", () => {
    expectPlayed(
      replicaPlayer({ history: "1@1", last: "1/5", promised: 4 }),
      `> accepted s1
       > s1 <- hello epoch 3 history 1@1 3@6
       s1 -> reject stale_epoch, promised 4
       close s1: this node has promised epoch 4, and follows no master of epoch 3`,
    );
  });

  test.each([
    ["another epoch id", "hello id 1' history 1'@1"],
    ["another node", "hello history 1@1 from x"],
  ])("of the promised epoch with %s is a conflict", (_, hello) => {
    expect(play(known(), `> accepted s1\n> s1 <- ${hello}`)).toContain("s1 -> reject epoch_conflict, promised 1");
  });

  test("of the promised epoch is welcomed though it was promised to another candidate, which did not win then", () => {
    expectPlayed(
      replicaPlayer({ history: "1@1", last: "1/5", promised: "2=v" }),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2'@6 from m
       s1 -> welcome promised 2, history 1@1, last 1/5`,
    );
  });

  test("of an epoch whose other master is followed already is a conflict, and the other one is followed on", () => {
    const player = replicaPlayer({ history: "1@1", last: "1/5", promised: "2=v" });
    play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2'@6 from m\n> accepted s2`);
    const played = play(player, `> s2 <- hello epoch 2 history 1@1 2@6 from v\n> s1 <- align at 1/5 epoch 2`);
    expect(played).toContain("s2 -> reject epoch_conflict, promised 2");
    expect(played).toContain("compare at 5");
  });

  test("of an epoch that the log knows with another id is a conflict, though nothing was promised", () => {
    const player = replicaPlayer({ history: "1@1", last: "1/5" });
    const played = play(player, `> accepted s1\n> s1 <- hello id 1' history 1'@1`);
    expect(played).toContain("s1 -> reject epoch_conflict");
  });

  test("of another version of the protocol is refused", () => {
    expect(play(known(), `> accepted s1\n> s1 <- hello version 2 history 1@1`)).toContain("reject protocol_version");
  });

  test("of a node with this node's own id is refused", () => {
    expect(play(known(), `> accepted s1\n> s1 <- hello history 1@1 from r`)).toContain("reject not_a_replica");
  });

  test("with a history that does not end with the master's epoch is refused", () => {
    expect(play(known(), `> accepted s1\n> s1 <- hello epoch 3 history 1@1 2@4`)).toContain("reject misaligned");
  });

  test("said twice, or not at all, ends the session", () => {
    const player = known();
    expect(play(player, `> accepted s1\n> s1 <- heartbeat`)).toContain("close s1: the master did not say Hello first");
    play(player, `> accepted s2\n> s2 <- hello history 1@1`);
    expect(play(player, `> s2 <- hello history 1@1`)).toContain("close s2: the master said Hello twice");
  });

  test("on a newer connection ends the older session", () => {
    expectPlayed(
      following(),
      `> accepted s2
       > s1 <- heartbeat commit 3
       master time 7000
       > s2 <- hello history 1@1
       close s1: a newer connection of a master has taken its place
       orphaned
       s2 -> welcome promised 1, history 1@1, last 1/5
       > s1 <- append after 1/5 records 6-6
       > left s1`,
    );
  });

  test("of a newer master stops the older one before the promise is durable", () => {
    expectPlayed(
      following(),
      `> accepted s2
       > s2 <- hello epoch 2 history 1@1 2@6 from x
       close s1: a newer connection of a master has taken its place
       orphaned
       promise epoch 2 to x
       > s1 <- append after 1/5 records 6-6
       > done
       s2 -> welcome promised 2, history 1@1, last 1/5
       > accepted s3
       > s3 <- hello history 1@1
       s3 -> reject stale_epoch, promised 2
       close s3: this node has promised epoch 2, and follows no master of epoch 1`,
    );
  });

  test("while another session's work is under way waits for it, and then counts", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@4
       promise epoch 2 to m
       > left s1
       > accepted s2
       > s2 <- hello history 1@1
       > done
       s2 -> reject stale_epoch, promised 2
       close s2: this node has promised epoch 2, and follows no master of epoch 1`,
    );
  });
});

describe("Align", () => {
  test("at the log's end needs no cut", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello history 1@1
       s1 -> welcome promised 1, history 1@1, last 1/5
       > s1 <- align at 1/5
       compare at 5
       > mark 1/5
       follow m at m:1
       > flush
       s1 -> ack match 5, applied 5, probe 1`,
    );
  });

  test("inside the log cuts what lies after, and only then is acknowledged", () => {
    expectPlayed(
      replicaPlayer({ history: "1@1", last: "1/5", applied: 3, promised: 1 }),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@4
       promise epoch 2 to m
       > done
       s1 -> welcome promised 2, history 1@1, last 1/5
       > s1 <- align at 1/3 epoch 2
       compare at 3
       > mark 1/3
       cut after 3
       > flush
       > log last 1/3 written 3 kept 3
       > done
       follow m at m:1
       > flush
       s1 -> ack match 3, applied 3, probe 1`,
    );
  });

  test("below what is committed takes the commit back under commit: master, and what was shown about staleness", () => {
    const player = following();
    play(player, `> s1 <- heartbeat commit 5 echo 1`);
    expect(stalenessMs(player.state, 10)).toBe(10);
    play(
      player,
      `> accepted s2\n> s2 <- hello epoch 2 history 1@1 2@4\n> done\n> s2 <- align at 1/3 epoch 2\n> mark 1/3`,
    );
    play(player, `> log last 1/3 written 3 kept 3 applied 3\n> done`);
    expect(player.state).toMatchObject({ commitSeq: 3, matchSeq: 3 });
    expect(stalenessMs(player.state, 10)).toBeUndefined();
  });

  test("below what a majority has committed is a broken invariant", () => {
    const player = replicaPlayer({ history: "1@1", last: "1/5", promised: 1, commit: "majority" });
    play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2@4\n> done\n> s1 <- align at 1/3 epoch 2`);
    expect(() => play(player, `> mark 1/3`)).toThrow("seq 5 is committed by a majority");
  });

  test("below what a majority has committed is right where a mastership was forced after the agreement", () => {
    const majority = { history: "1@1", last: "1/5", promised: 1, voters: "mrv", commit: "majority" } as const;
    const cut = (history: string): string => {
      const player = replicaPlayer(majority);
      play(player, `> accepted s1\n> s1 <- hello epoch 9 ${history}\n> done\n> s1 <- align at 1/3 epoch 9`);
      return play(player, `> mark 1/3`);
    };
    expect(cut("history 1@1 9@4!")).toContain("cut after 3");
    expect(cut("history 1@1 7@4! 9@6")).toContain("cut after 3");
    expect(() => cut("history 1@1! 9@4")).toThrow("seq 5 is committed by a majority");
  });

  test("of a whole state that lacks what a majority has committed is a broken invariant too", () => {
    const player = replicaPlayer({ history: "1@1", last: "1/5", promised: 1, voters: "mrv", commit: "majority" });
    play(player, `> accepted s1\n> s1 <- hello epoch 9 history 1@1 9@4 last 9/8\n> done`);
    expect(() => play(player, `> s1 <- offer t size 100 epoch 9`)).toThrow("seq 5 is committed by a majority");
  });

  test("with a mark that this log does not have is refused, with both values", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello history 1@1
       s1 -> welcome promised 1, history 1@1, last 1/5
       > s1 <- align at 1/4
       compare at 4
       > mark 1/4!
       s1 -> reject misaligned, promised 1
       close s1: at seq 4 the master has epoch 1, seq 4, chain 000003ec, this node epoch 1, seq 4, chain 000083ec`,
    );
  });

  test("beyond the log's end is refused", () => {
    const player = known();
    play(player, `> accepted s1\n> s1 <- hello history 1@1`);
    expect(play(player, `> s1 <- align at 1/6`)).toContain("reject misaligned");
  });

  test("while records are still being synced is acknowledged as far as they are kept", () => {
    expectPlayed(
      replicaPlayer({ history: "1@1", last: "1/5", kept: 3, promised: 1 }),
      `> accepted s1
       > s1 <- hello history 1@1
       s1 -> welcome promised 1, history 1@1, last 1/5
       > s1 <- align at 1/5
       compare at 5
       > mark 1/5
       follow m at m:1
       > flush
       s1 -> ack match 3, applied 3, probe 1
       > log kept 5
       > flush
       s1 -> ack match 5, applied 3, probe 1`,
    );
  });

  test("whose work fails ends the session, and the next one starts over", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello history 1@1
       s1 -> welcome promised 1, history 1@1, last 1/5
       > s1 <- align at 1/4
       compare at 4
       > mark 1/4
       cut after 4
       > failed
       close s1: cutting failed: no room
       > accepted s2
       > s2 <- hello history 1@1
       s2 -> welcome promised 1, history 1@1, last 1/5`,
    );
  });

  test("whose session ends during the cut leaves a log that the next session finds cut", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@4
       promise epoch 2 to m
       > done
       s1 -> welcome promised 2, history 1@1, last 1/5
       > s1 <- align at 1/3 epoch 2
       compare at 3
       > mark 1/3
       cut after 3
       > left s1
       > accepted s2
       > s2 <- hello epoch 2 history 1@1 2@4
       > log last 1/3 written 3 kept 3 applied 3
       > done
       s2 -> welcome promised 2, history 1@1, last 1/3`,
    );
  });

  test("whose session ends during the cut leaves nothing matched beyond it", () => {
    const player = following();
    expect(player.state.matchSeq).toBe(5);
    play(
      player,
      `> accepted s2\n> s2 <- hello epoch 2 history 1@1 2@4\n> done\n> s2 <- align at 1/3 epoch 2\n> mark 1/3`,
    );
    play(player, `> left s2\n> log last 1/3 written 3 kept 3 applied 3\n> done`);
    expect(player.state).toMatchObject({ matchSeq: 3, commitSeq: 3 });
  });
});

describe("following", () => {
  test("records are appended, acknowledged when kept, and applied when committed", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-7 commit 6 echo 1
       master time 7000
       append 200 bytes
       > log last 1/7
       > appended s1
       > flush
       > log written 7
       > flush
       > log kept 7
       commit 6
       > log applied 6
       caught up
       > flush
       s1 -> ack match 7, applied 6, probe 1
       > s1 <- heartbeat commit 7 echo 1
       master time 7000
       commit 7`,
    );
  });

  test("several appends are acknowledged together", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-7
       master time 7000
       append 200 bytes
       > log last 1/7
       > appended s1
       > s1 <- append after 1/7 records 8-8
       master time 7000
       append 100 bytes
       > log last 1/8
       > appended s1
       > log written 8 kept 8
       > flush
       s1 -> ack match 8, applied 5, probe 1
       > flush`,
    );
  });

  test.each([
    ["a hole", "after 1/6"],
    ["an overlap", "after 1/4"],
    ["another epoch", "after 2/5 "],
    ["another chain", "after 1/5!"],
  ])("records that leave %s are refused before they reach the log", (_, after) => {
    const played = play(following(), `> s1 <- append ${after} records 7-7 commit 7`);
    expect(played).toContain("s1 -> reject misaligned");
    expect(played).toContain("close s1: records that follow");
    expect(played).not.toContain("append 100 bytes");
    expect(played).not.toContain("\ncommit");
  });

  test("records that the log refuses end the session", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-6
       master time 7000
       append 100 bytes
       > unappended s1
       s1 -> reject misaligned, promised 1
       close s1: damaged
       orphaned`,
    );
  });

  test("a full disk ends the session with its reason", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-7
       master time 7000
       append 200 bytes
       > log last 1/7
       > appended s1
       > log last 1/5
       > dropped from 6
       close s1: the replica's disk has no room: records from seq 6 on were not kept
       orphaned`,
    );
  });

  test("a commit beyond what is matched is applied as far as it is matched", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-9 commit 20
       master time 7000
       append 400 bytes
       > log last 1/9 written 7 kept 7
       > appended s1
       commit 7
       > log kept 9 written 9
       commit 9`,
    );
  });

  test("an older commit seq changes nothing", () => {
    const player = following();
    play(player, `> s1 <- heartbeat commit 4`);
    expect(player.state.commitSeq).toBe(5);
  });

  test("a heartbeat that asks is answered with a new probe, one that does not is not answered", () => {
    expectPlayed(
      following(),
      `> s1 <- heartbeat commit 5 echo 1 answer
       master time 7000
       caught up
       > flush
       s1 -> ack match 5, applied 5, probe 2
       > s1 <- heartbeat commit 5 echo 2
       master time 7000
       > flush`,
    );
  });

  test("under load the acks probe by themselves, twice in a heartbeat interval", () => {
    const player = following();
    const probes = new Set<string>();
    for (let seq = 6; seq < 106; seq++) {
      play(player, `> pass 10\n> s1 <- append after 1/${seq - 1} records ${seq}-${seq}`);
      const played = play(player, `> log last 1/${seq} written ${seq} kept ${seq}\n> appended s1\n> flush`);
      probes.add(/probe (\d+)/.exec(played)?.[1] ?? "none");
    }
    expect([...probes]).toEqual(["1", "2", "3"]);
  });

  test.each([
    ["another epoch", "heartbeat epoch 2"],
    ["another node", "heartbeat from x"],
    ["another cluster", "heartbeat cluster foreign"],
  ])("a message of %s than Hello's ends the session", (_, message) => {
    expect(play(following(), `> s1 <- ${message}`)).toContain("close s1: the master's messages contradict its Hello");
  });

  test("a silent master is given up", () => {
    expectPlayed(
      following(),
      `> pass 4999
       > flush
       > s1 <- heartbeat commit 5
       master time 7000
       > pass 4999
       > flush
       > pass 1
       > flush
       close s1: the master has been silent for too long
       orphaned`,
    );
  });

  test("a connection that says nothing is given up", () => {
    expectPlayed(
      known(),
      `> accepted s1
       > pass 5000
       > flush
       close s1: the master has been silent for too long`,
    );
  });
});

describe("staleness", () => {
  test("is unknown until a probe has come back", () => {
    const player = following();
    expect(stalenessMs(player.state, 5)).toBeUndefined();
  });

  test("counts from when the probe was sent, not from when its echo came", () => {
    const player = following();
    play(player, `> pass 300\n> s1 <- heartbeat commit 5 echo 1`);
    expect(stalenessMs(player.state, 300)).toBe(300);
  });

  test("does not shrink by contact alone", () => {
    const player = following();
    play(player, `> s1 <- heartbeat commit 5 echo 1\n> pass 900\n> s1 <- heartbeat commit 5 echo 1`);
    expect(stalenessMs(player.state, 900)).toBe(900);
  });

  test("waits until the echoed commit seq is applied", () => {
    const player = following();
    play(player, `> s1 <- heartbeat commit 5 echo 1 answer\n> pass 100\n> flush`);
    play(
      player,
      `> s1 <- append after 1/5 records 6-8 commit 8 echo 2\n> log last 1/8 written 8 kept 8\n> appended s1`,
    );
    expect(stalenessMs(player.state, 100)).toBe(100);
    play(player, `> log applied 7`);
    expect(stalenessMs(player.state, 100)).toBe(100);
    play(player, `> log applied 8`);
    expect(stalenessMs(player.state, 100)).toBe(0);
  });

  test("grows on when the master is gone", () => {
    const player = following();
    play(player, `> s1 <- heartbeat commit 5 echo 1\n> left s1`);
    expect(stalenessMs(player.state, 70_000)).toBe(70_000);
  });

  test("is not shown by a probe of an older session", () => {
    const player = following();
    play(player, `> accepted s2\n> s2 <- hello history 1@1\n> s2 <- align at 1/5\n> mark 1/5`);
    play(player, `> s2 <- heartbeat commit 5 echo 1`);
    expect(stalenessMs(player.state, 0)).toBeUndefined();
  });
});

describe("limits", () => {
  test("a master that talks on while this node is busy is cut off", () => {
    const player = known();
    play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2@4`);
    const played = play(player, Array.from({ length: 65 }, () => `> s1 <- heartbeat epoch 2`).join("\n"));
    expect(played).toContain("close s1: too many messages came while this node was busy");
    expect(play(player, `> done`)).toBe("> done");
  });

  test("too many connections are turned away", () => {
    const player = known();
    for (let i = 1; i <= 16; i++) expect(play(player, `> accepted s${i}`)).toBe(`> accepted s${i}`);
    expect(play(player, `> accepted s17`)).toContain("close s17: 16 masters are connected already");
    expect(play(player, `> left s3\n> accepted s18`)).not.toContain("close");
  });
});

test("at shutdown every session is closed, and whoever comes is told", () => {
  expectPlayed(
    following(),
    `> accepted s2
     > shutdown the end
     close s1: the end
     orphaned
     close s2: the end
     > accepted s3
     > s3 <- hello history 1@1
     s3 -> reject not_a_replica, promised 1
     close s3: the end`,
  );
});
