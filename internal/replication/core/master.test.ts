import { describe, expect, test } from "vitest";
import { must } from "../../base/assert.js";
import { masterPlayer, play, type Player, tidy } from "../testing/dialogue.js";
import { nextDueMs } from "./step.js";
import { peerAt, type PeerView } from "./view.js";

/** A master whose epoch 2 has begun at seq 5, after epoch 1 at 1. */
const begun = (): Player => masterPlayer({ history: "1@1 2@5", last: "2/5" });

/** The same, streaming to a replica that has everything, after all its messages were echoed. */
function streaming(options?: Parameters<typeof masterPlayer>[0]): Player {
  const player = masterPlayer({ history: "1@1 2@5", last: "2/5", ...options });
  play(
    player,
    `> peers r:1=r
     > flush
     > opened #1
     > #1 -> welcome history 1@1 2@5 last 2/5
     > mark 2/5 for #1
     > #1 -> ack match 5 applied 4 probe 1
     > flush`,
  );
  return player;
}

/** The same, while somebody waits for all that it is sent. */
function awaited(): Player {
  const player = streaming();
  play(player, `> awaited 99`);
  return player;
}

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

describe("finding the agreement", () => {
  test("a replica whose log ends inside an older epoch agrees up to its own end", () => {
    expectPlayed(
      begun(),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome history 1@1 last 1/3
       met r at r:1
       read mark 3 for #1
       > mark 1/3 for #1
       #1 <- align at 1/3
       > #1 -> ack match 3 applied 3 probe 1
       streaming to r:1 after 3
       > flush
       read tail after 3 up to 300 for #1
       > tail 4-5 for #1
       #1 <- append after 1/3, 200 bytes, commit 5, echo 1
       > #1 -> ack match 5 applied 3 probe 1
       > flush`,
    );
  });

  test("a log longer than the master's, of an epoch that the master has not, agrees up to the older epoch's end", () => {
    expectPlayed(
      begun(),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome history 1@1 2'@4 last 2/9
       met r at r:1
       read mark 3 for #1
       > mark 1/3 for #1
       #1 <- align at 1/3`,
    );
  });

  test("an empty replica gets everything from the first record on", () => {
    expectPlayed(
      begun(),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome
       met r at r:1
       read mark 0 for #1
       > mark 0/0 for #1
       #1 <- align at 0/0
       > #1 -> ack probe 1
       streaming to r:1 after 0
       > flush
       read tail after 0 up to 300 for #1
       > tail 1-3 for #1
       #1 <- append after 0/0, 300 bytes, commit 5, echo 1
       read tail after 3 up to 200 for #1
       > tail 4-5 for #1
       #1 <- append after 1/3, 200 bytes, commit 5, echo 1`,
    );
  });

  test("a record that is not written yet is no part of the agreement", () => {
    expectPlayed(
      masterPlayer({ history: "1@1", last: "1/9", written: 6, kept: 6 }),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 1, history 1@1, last 1/9
       > #1 -> welcome history 1@1 last 1/8
       met r at r:1
       read mark 6 for #1`,
    );
  });

  test.each([
    ["an epoch that begins elsewhere", "history 1@1 2@6 last 2/7"],
    ["epochs that fall", "history 2@1 1@3 last 1/4"],
    ["seqs that fall", "history 1@4 2@2 last 2/4"],
  ])("a history with %s is refused, not believed", (_, welcome) => {
    expectPlayed(
      begun(),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome ${welcome}
       met r at r:1
       hang up #1
       refused at r:1: misaligned`,
    );
  });

  test("a place that the log no longer holds ends the attempt, and another one follows after a pause", () => {
    expectPlayed(
      begun(),
      `> peers r:1
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome history 1@1 last 1/3
       met r at r:1
       read mark 3 for #1
       > unreadable #1
       hang up #1
       unreached at r:1: no such record
       > flush
       > pass 100
       > flush
       connect to r:1 as #2`,
    );
  });

  test.each([
    ["an ack before Align", "ack match 1"],
    ["a Welcome of another version", "welcome version 9"],
  ])("%s ends the attempt", (_, answer) => {
    const player = begun();
    play(player, `> peers r:1\n> flush\n> opened #1`);
    expect(play(player, `> #1 -> ${answer}`)).toContain("hang up #1");
  });

  test("an ack beyond the agreement ends the attempt", () => {
    const player = begun();
    play(player, `> peers r:1\n> flush\n> opened #1\n> #1 -> welcome history 1@1 last 1/3\n> mark 1/3 for #1`);
    expect(play(player, `> #1 -> ack match 4`)).toContain("hang up #1");
  });
});

describe("pushing", () => {
  test("a written record is pushed at once, and its commit follows in the tick that keeps it", () => {
    expectPlayed(
      awaited(),
      `> log last 2/6 written 5
       > flush
       > log written 6
       > flush
       read tail after 5 up to 300 for #1
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 1
       > log kept 6
       commit 6
       > flush
       #1 <- heartbeat commit 6, echo 1`,
    );
  });

  test("the news of a commit goes with the records that are being written, and alone when none come after all", () => {
    expectPlayed(
      awaited(),
      `> log last 2/6 written 6 kept 5
       > flush
       read tail after 5 up to 300 for #1
       > tail 6-6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 1
       > log last 2/8 written 6 kept 6
       commit 6
       > flush
       > log last 2/8 written 8 kept 6
       > flush
       read tail after 6 up to 300 for #1
       > tail 7-8 for #1
       #1 <- append after 2/6, 200 bytes, commit 6, echo 1
       > log last 2/9 written 8 kept 8
       commit 8
       > flush
       > log last 2/8
       > flush
       #1 <- heartbeat commit 8, echo 1`,
    );
  });

  test("a probe is given back while records are being written, and the news of a commit goes with it", () => {
    expectPlayed(
      awaited(),
      `> log last 2/6 written 6 kept 5
       > flush
       read tail after 5 up to 300 for #1
       > tail 6-6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 1
       > log last 2/8 written 6 kept 6
       commit 6
       > #1 -> ack match 6 applied 5 probe 2
       > flush
       #1 <- heartbeat commit 6, echo 2`,
    );
  });

  test("what is written and kept in one tick is one message", () => {
    expectPlayed(
      awaited(),
      `> log last 2/6 written 6 kept 6
       commit 6
       > flush
       read tail after 5 up to 300 for #1
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 6, echo 1
       > flush`,
    );
  });

  test("a new probe is given back at once, without asking for another one", () => {
    expectPlayed(
      streaming(),
      `> #1 -> ack match 5 applied 5 probe 2
       > flush
       #1 <- heartbeat commit 5, echo 2
       > #1 -> ack match 5 applied 5 probe 2
       > flush`,
    );
  });

  test("nothing is sent while the window is full, and an ack opens it", () => {
    expectPlayed(
      awaited(),
      `> log last 2/15 written 15
       > flush
       read tail after 5 up to 300 for #1
       > tail 6-8 for #1
       #1 <- append after 2/5, 300 bytes, commit 5, echo 1
       read tail after 8 up to 200 for #1
       > tail 9-10 for #1
       #1 <- append after 2/8, 200 bytes, commit 5, echo 1
       > flush
       > #1 -> ack match 7 probe 1
       > flush
       > #1 -> ack match 8 probe 1
       > flush
       read tail after 10 up to 300 for #1
       > tail 11-13 for #1
       #1 <- append after 2/10, 300 bytes, commit 5, echo 1`,
    );
  });

  test("what memory has forgotten comes from the disk, one read at a time, and news does not wait for it", () => {
    expectPlayed(
      awaited(),
      `> log last 2/9 written 9
       > flush
       read tail after 5 up to 300 for #1
       > tail none for #1
       read disk after 5 up to 300 for #1
       > log kept 9
       commit 9
       > flush
       #1 <- heartbeat commit 9, echo 1
       > log last 2/10 written 10
       > flush
       > disk 6-8 for #1
       #1 <- append after 2/5, 300 bytes, commit 9, echo 1
       read tail after 8 up to 200 for #1
       > tail none for #1
       read disk after 8 up to 200 for #1`,
    );
  });

  test("a read that comes back after the connection has gone is forgotten", () => {
    expectPlayed(
      awaited(),
      `> log last 2/9 written 9
       > flush
       read tail after 5 up to 300 for #1
       > tail none for #1
       read disk after 5 up to 300 for #1
       > lost #1
       hang up #1
       unreached at r:1: reset
       > disk 6-8 for #1
       > #1 -> ack match 9
       > opened #1`,
    );
  });

  test("an ack beyond what was sent ends the connection", () => {
    expectPlayed(
      streaming(),
      `> log last 2/9 written 9
       > #1 -> ack match 6
       hang up #1
       unreached at r:1: the node acknowledges seq 6, but was sent 5 only`,
    );
  });

  test("in quiet times a heartbeat asks for an answer, as often as the replica wants it", () => {
    expectPlayed(
      streaming(),
      `> pass 999
       > flush
       > pass 1
       > flush
       #1 <- heartbeat commit 5, echo 1, answer, checked
       > #1 -> ack match 5 applied 5 probe 2
       > flush
       #1 <- heartbeat commit 5, echo 2
       > pass 1000
       > flush
       #1 <- heartbeat commit 5, echo 2, answer, checked`,
    );
  });

  test("an answer that is late is not asked for again before its time", () => {
    expectPlayed(
      streaming(),
      `> pass 1000
       > flush
       #1 <- heartbeat commit 5, echo 1, answer, checked
       > pass 999
       > flush
       > pass 1
       > flush
       #1 <- heartbeat commit 5, echo 1, answer, checked`,
    );
  });

  test("an ack of less than was acknowledged before takes nothing back", () => {
    const player = streaming();
    play(player, `> #1 -> ack match 3`);
    expect(peerAt(player.state, "r:1", 0)).toMatchObject({ state: "streaming", matchSeq: 5 });
  });

  test("a replica that takes everything and answers nothing is asked, and then given up", () => {
    expectPlayed(
      awaited(),
      `> pass 900
       > log last 2/6 written 6
       > flush
       read tail after 5 up to 300 for #1
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 1
       > pass 100
       > flush
       #1 <- heartbeat commit 5, echo 1, answer
       > pass 3999
       > flush
       #1 <- heartbeat commit 5, echo 1, answer
       > pass 1
       > flush
       hang up #1
       unreached at r:1: the node has been silent for 5000 ms`,
    );
  });

  test("a replica that registers although its connection looks healthy has a second to show life", () => {
    expectPlayed(
      streaming(),
      `> retry r:1
       #1 <- heartbeat commit 5, echo 1, answer
       > pass 1000
       > flush
       hang up #1
       unreached at r:1: the node has been silent for 1000 ms
       > retry r:1
       > flush
       connect to r:1 as #2`,
    );
    expectPlayed(
      streaming(),
      `> retry r:1
       #1 <- heartbeat commit 5, echo 1, answer
       > #1 -> ack match 5 applied 5 probe 2
       > pass 1000
       > flush
       #1 <- heartbeat commit 5, echo 2, answer, checked`,
    );
  });
});

describe("what nobody waits for", () => {
  test("goes to a replica that was told nothing for a while once it is committed, with the news of that", () => {
    expectPlayed(
      streaming(),
      `> pass 2
       > log last 2/6 written 6 kept 5
       > flush
       > log kept 6
       commit 6
       > flush
       read tail after 5 up to 300 for #1
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 6, echo 1
       > flush`,
    );
  });

  test("is gathered after that, and then goes together", () => {
    const player = streaming();
    play(player, `> pass 2\n> log last 2/6 written 6 kept 6\n> flush\n> tail 6 for #1`);
    expectPlayed(
      player,
      `> pass 1
       > log last 2/7 written 7 kept 7
       commit 7
       > flush
       > log last 2/8 written 8 kept 8
       commit 8
       > flush
       > #1 -> ack match 6
       > flush
       > pass 1
       > flush
       read tail after 6 up to 300 for #1
       > tail 7-8 for #1
       #1 <- append after 2/6, 200 bytes, commit 8, echo 1
       > flush`,
    );
  });

  test("is waited with for as long as that at most, committed or not, and is due by itself then", () => {
    const player = streaming();
    play(player, `> pass 500`);
    expectPlayed(
      player,
      `> log last 2/6 written 6 kept 5
       > flush
       > pass 1
       > log last 2/7 written 7 kept 5
       > flush`,
    );
    expect(nextDueMs(player.state)).toBe(502);
    expectPlayed(
      player,
      `> pass 1
       > flush
       read tail after 5 up to 300 for #1
       > tail 6-7 for #1
       #1 <- append after 2/5, 200 bytes, commit 5, echo 1
       > log last 2/7 kept 7
       commit 7
       > flush`,
    );
    expect(nextDueMs(player.state)).toBe(504);
    expectPlayed(
      player,
      `> pass 2
       > flush
       #1 <- heartbeat commit 7, echo 1`,
    );
    expect(nextDueMs(player.state)).toBe(1000);
  });

  test("goes with a message that cannot wait, as far as it is news, and no later for that", () => {
    expectPlayed(
      streaming(),
      `> log last 2/6 written 6 kept 6
       commit 6
       > flush
       > pass 1
       > #1 -> ack match 5 applied 5 probe 2
       > flush
       #1 <- heartbeat commit 6, echo 2
       > pass 1
       > flush
       read tail after 5 up to 300 for #1`,
    );
  });

  test("is not gathered for a replica that is still catching up", () => {
    expectPlayed(
      streaming(),
      `> pass 2
       > log last 2/13 written 13 kept 13
       commit 13
       > flush
       read tail after 5 up to 300 for #1
       > tail 6-8 for #1
       #1 <- append after 2/5, 300 bytes, commit 13, echo 1
       read tail after 8 up to 200 for #1
       > tail 9-10 for #1
       #1 <- append after 2/8, 200 bytes, commit 13, echo 1
       > #1 -> ack match 8
       > log last 2/14 written 14 kept 13
       > flush
       read tail after 10 up to 300 for #1`,
    );
  });

  test("is not gathered any more once somebody does, up to where that is", () => {
    expectPlayed(
      streaming(),
      `> log last 2/6 written 6 kept 5
       > flush
       > awaited 6
       > flush
       read tail after 5 up to 300 for #1
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 1
       > log last 2/7 written 7 kept 7
       commit 7
       > flush`,
    );
  });

  test("is what a node without a vote is sent, where a majority commits", () => {
    const player = masterPlayer({ history: "1@1", last: "1/1", voters: "mr", commit: "majority" });
    play(
      player,
      `> peers r:1=r:voter n:1=n
       > flush
       > opened #1
       > #1 -> welcome history 1@1 last 1/1
       > mark 1/1 for #1
       > #1 -> ack match 1
       > opened #2
       > #2 -> welcome history 1@1 last 1/1 from n
       > mark 1/1 for #2
       > #2 -> ack match 1 from n
       > flush`,
    );
    expectPlayed(
      player,
      `> log last 1/2 written 2 kept 2
       > flush
       read tail after 1 up to 300 for #1
       > tail 2 for #1
       #1 <- append after 1/1, 100 bytes, commit 1, echo 0, round 1`,
    );
  });
});

describe("what is shown of a peer", () => {
  const shown = (player: Player): PeerView => must(peerAt(player.state, "r:1", player.nowMs), "there is a peer");

  test("is no lag when it has everything, however long nothing was written", () => {
    const player = streaming();
    play(player, `> pass 3600000`);
    expect(shown(player)).toMatchObject({ state: "streaming", matchSeq: 5, appliedSeq: 4, lagRecords: 0, lagMs: 0 });
  });

  test("is a lag that begins with the first write that it lacks", () => {
    const player = streaming();
    play(player, `> pass 900\n> log last 2/7 written 7\n> pass 30`);
    expect(shown(player)).toMatchObject({ lagRecords: 2, lagMs: 30 });
    play(player, `> flush\n> tail 6-7 for #1\n> #1 -> ack match 7`);
    expect(shown(player)).toMatchObject({ lagRecords: 0, lagMs: 0 });
  });

  test("is a small lag when it follows closely writes that never end", () => {
    const player = streaming();
    for (let seq = 6; seq < 100; seq++) {
      play(player, `> pass 10\n> log last 2/${seq} written ${seq}\n> flush\n> tail ${seq} for #1`);
      if (seq > 7) play(player, `> #1 -> ack match ${seq - 1}`);
      expect(shown(player).lagMs).toBeLessThanOrEqual(20);
    }
  });

  test("is what it acknowledges since it was met last, for it may have lost what it had", () => {
    const player = streaming();
    play(player, `> lost #1\n> pass 1000\n> flush`);
    expect(shown(player)).toMatchObject({ state: "disconnected", matchSeq: 5, detail: "reset" });
    play(player, `> opened #2\n> #2 -> welcome history 1@1 last 1/2`);
    expect(shown(player)).toMatchObject({ state: "probing", matchSeq: 0, detail: "reset" });
    play(player, `> mark 1/2 for #2\n> #2 -> ack match 2`);
    expect(shown(player)).toMatchObject({ state: "streaming", matchSeq: 2, detail: "" });
  });
});

describe("the commit", () => {
  test("an older epoch's records are committed by the first record of the own epoch only", () => {
    expectPlayed(
      masterPlayer({ history: "1@1 2@5", last: "2/5", written: 4, kept: 4, applied: 2 }),
      `> log written 5
       > log kept 5
       commit 5`,
    );
  });

  test("of a majority waits for the voters, and for nobody else", () => {
    const player = masterPlayer({
      history: "1@1 2@5",
      last: "2/5",
      kept: 4,
      voters: "mrv",
      commit: "majority",
    });
    play(
      player,
      `> peers r:1=r:voter v:1=v:voter n:1=n
       > flush
       > opened #1
       > #1 -> welcome history 1@1 2@5 last 2/5
       > mark 2/5 for #1
       > opened #3
       > #3 -> welcome history 1@1 2@5 last 2/5 from n
       > mark 2/5 for #3`,
    );
    expectPlayed(
      player,
      `> #3 -> ack match 5 from n
       streaming to n:1 after 5
       > log kept 5
       > #1 -> ack match 4
       streaming to r:1 after 5
       > #1 -> ack match 5
       commit 5`,
    );
  });

  test("of a majority does not count a voter whose directory was wiped", () => {
    const player = masterPlayer({ history: "1@1", last: "1/1", voters: "mrv", commit: "majority" });
    play(player, `> peers r:1=r:voter v:1=v:voter\n> flush\n> opened #1`);
    expectPlayed(
      player,
      `> #1 -> welcome from x
       hang up #1
       refused at r:1: replaced_voter`,
    );
  });
});

describe("who is pushed to", () => {
  test("a peer that is no longer wanted is hung up on", () => {
    expectPlayed(
      streaming(),
      `> peers s:1
       hang up #1
       > #1 -> ack match 5
       > flush
       connect to s:1 as #2`,
    );
  });

  test("a removed node is not pushed to wherever it is met, until it is invited", () => {
    expectPlayed(
      begun(),
      `> peers r:1 removed=r
       > flush
       connect to r:1 as #1
       > opened #1
       #1 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #1 -> welcome history 1@1 last 1/3
       hang up #1
       refused at r:1: removed
       > peers r:1:invited removed=r
       > retry r:1
       > flush
       connect to r:1 as #2
       > opened #2
       #2 <- hello epoch 2, history 1@1 2@5, last 2/5
       > #2 -> welcome history 1@1 last 1/3
       met r at r:1
       read mark 3 for #2`,
    );
  });

  test("a node that is removed while it is pushed to is hung up on", () => {
    expectPlayed(
      streaming(),
      `> peers r:1 removed=r
       hang up #1
       refused at r:1: removed`,
    );
  });

  test("pauses between tries grow up to five seconds, and progress makes them short again", () => {
    const player = begun();
    play(player, `> peers r:1\n> flush`);
    const pauses: number[] = [];
    for (let connection = 1; connection < 12; connection++) {
      play(player, `> lost #${connection}`);
      const from = player.nowMs;
      while (!play(player, "> pass 10\n> flush").includes("connect")) expect(player.nowMs - from).toBeLessThan(5000);
      pauses.push(player.nowMs - from);
    }
    pauses.slice(0, 6).forEach((pause, i) => {
      expect(pause).toBeGreaterThanOrEqual(50 * 2 ** i);
      expect(pause).toBeLessThanOrEqual(100 * 2 ** i + 10);
    });
    play(player, `> opened #12\n> #12 -> welcome\n> mark 0/0 for #12\n> #12 -> ack\n> flush\n> tail 1-3 for #12`);
    play(player, `> #12 -> ack match 3\n> lost #12\n> pass 100\n> flush`);
    expect(player.state.role).toMatchObject({ peers: new Map([["r:1", expect.objectContaining({ attempts: 1 })]]) });
  });

  test("a node that is aligned again and again and keeps nothing is tried less and less often", () => {
    const player = begun();
    play(player, `> peers r:1\n> flush`);
    for (let i = 1; i <= 4; i++) {
      play(player, `> opened #${i}\n> #${i} -> welcome\n> mark 0/0 for #${i}\n> #${i} -> ack\n> lost #${i}`);
      play(player, `> pass 5000\n> flush`);
    }
    expect(player.state.role).toMatchObject({ peers: new Map([["r:1", expect.objectContaining({ attempts: 4 })]]) });
  });
});

describe("the end of a mastership", () => {
  test.each([
    ["a replica has promised a newer epoch", "reject stale_epoch epoch 3"],
    ["an ack carries a newer epoch", "ack match 5 epoch 9"],
  ])("comes when %s", (_, answer) => {
    expectPlayed(
      streaming(),
      `> #1 -> ${answer}
       hang up #1
       step down
       save role
       > log last 2/6 written 6 kept 6
       > flush
       > #1 -> ack match 5
       > done
       > flush`,
    );
  });

  test("comes with a conflict when a replica knows the epoch as another node's, and then nothing goes on", () => {
    expectPlayed(
      streaming(),
      `> #1 -> reject epoch_conflict
       hang up #1
       step down, in conflict
       > log last 2/6 written 6 kept 6
       > flush
       > #1 -> ack match 5
       > flush`,
    );
  });

  test("does not come from another cluster's epochs", () => {
    expectPlayed(
      streaming(),
      `> #1 -> reject foreign_cluster epoch 99 cluster foreign
       hang up #1
       refused at r:1: foreign_cluster`,
    );
  });

  test("leaves a replica, which hears masters once it is durable that it is one", () => {
    const player = streaming();
    play(player, `> #1 -> reject stale_epoch epoch 3`);
    expectPlayed(
      player,
      `> accepted s1
       > s1 <- hello epoch 3 history 1@1 2@5 3@6 from c
       > done
       promise epoch 3 to c
       > done
       s1 -> welcome promised 3, history 1@1 2@5, last 2/5`,
    );
  });

  test("that cannot be remembered is reported, and holds all the same", () => {
    const player = streaming();
    play(player, `> #1 -> reject stale_epoch epoch 3`);
    expectPlayed(
      player,
      `> failed
       role unsaved
       > accepted s1
       > s1 <- hello epoch 3 history 1@1 2@5 3@6 from c
       promise epoch 3 to c`,
    );
  });
});

describe("another master that wants to push to a master", () => {
  test("of a higher epoch ends its mastership, and is heard once that is durable", () => {
    expectPlayed(
      streaming(),
      `> accepted s1
       > s1 <- hello epoch 3 history 1@1 3@5 from c
       hang up #1
       step down for c:1
       save role
       > flush
       > done
       promise epoch 3 to c
       > done
       s1 -> welcome promised 3, history 1@1 2@5, last 2/5`,
    );
  });

  test("of a lower epoch is told of the higher one", () => {
    expectPlayed(
      begun(),
      `> accepted s1
       > s1 <- hello epoch 1 history 1@1 from c
       s1 -> reject stale_epoch, promised 2
       close s1: this node is a master itself, of epoch 2`,
    );
  });

  test("of the same epoch stops both, whatever the epoch id", () => {
    for (const id of ["2", "2'"]) {
      const player = streaming();
      const played = play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 ${id}@5 from c`);
      expect(played).toContain("step down, in conflict");
      expect(played).toContain("s1 -> reject epoch_conflict, promised 2");
      expect(player.state.role).toMatchObject({ kind: "idle", canFollow: true });
    }
  });

  test("of another cluster, or with this node's own id, is turned away and changes nothing", () => {
    for (const hello of ["cluster foreign from c", "from m", "version 9 from c"]) {
      const player = begun();
      const played = play(player, `> accepted s1\n> s1 <- hello epoch 9 history 1@1 9@5 ${hello}`);
      expect(played).toMatch(/s1 -> reject (foreign_cluster|not_a_replica), promised 2/);
      expect(player.state.role.kind).toBe("master");
    }
  });
});

describe("a node whose mastership has ended in a conflict", () => {
  function stopped(): Player {
    const player = streaming();
    play(player, `> #1 -> reject epoch_conflict`);
    return player;
  }

  test("stops the other master of that epoch too, which may not have heard of it", () => {
    const played = play(stopped(), `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2'@5 from c`);
    expect(played).toContain("s1 -> reject epoch_conflict, promised 2");
    expect(played).toContain("promote the node that is to go on");
  });

  test("follows no master of a lower epoch", () => {
    const played = play(stopped(), `> accepted s1\n> s1 <- hello epoch 1 history 1@1 from c`);
    expect(played).toContain("s1 -> reject stale_epoch, promised 2");
  });

  test("follows a master of a higher epoch", () => {
    expectPlayed(
      stopped(),
      `> accepted s1
       > s1 <- hello epoch 3 history 1@1 2'@5 3@6 from c
       step down for c:1
       save role
       > done
       promise epoch 3 to c
       > done
       s1 -> welcome promised 3, history 1@1 2@5, last 2/5`,
    );
  });
});

test("at shutdown everybody is hung up on, and nothing more is done", () => {
  expectPlayed(
    streaming(),
    `> shutdown the end
     hang up #1
     > log last 2/6 written 6 kept 6
     > flush
     > lost #1`,
  );
});
