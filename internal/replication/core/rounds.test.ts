import { describe, expect, test } from "vitest";
import { masterPlayer, play, type Player, replicaPlayer, tidy } from "../testing/dialogue.js";
import { majoritySeq, replicatedSeq, stalenessMs } from "./view.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

/** Master `m` of voters `m`, `r` and `v`, streaming to both; round 1 is told and answered by nobody. */
function majority(options?: Parameters<typeof masterPlayer>[0]): Player {
  const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "majority", ...options });
  play(
    player,
    `> peers r:1=r:voter v:1=v:voter
     > flush
     > opened #1
     > #1 -> welcome history 1@1 2@5 last 2/5
     > mark 2/5 for #1
     > #1 -> ack match 5 applied 5 probe 1
     > opened #2
     > #2 -> welcome history 1@1 2@5 last 2/5 from v
     > mark 2/5 for #2
     > #2 -> ack match 5 applied 5 probe 1 from v
     > flush`,
  );
  return player;
}

describe("a linearizable read", () => {
  test("is confirmed at once where the master alone decides, once it serves", () => {
    expectPlayed(
      masterPlayer({ history: "1@1 2@5", last: "2/5" }),
      `> confirm 1
       confirmed read 1 at 5`,
    );
    expectPlayed(
      masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "m", commit: "majority" }),
      `> confirm 1
       confirmed read 1 at 5`,
    );
  });

  test("waits for the first record of the epoch where the master alone decides", () => {
    expectPlayed(
      masterPlayer({ history: "1@1 2@5", last: "2/5", kept: 4 }),
      `> confirm 1
       > confirm 2
       > log kept 5
       commit 5
       confirmed read 2 at 5`,
    );
  });

  test("starts a round at the next flush, and is confirmed once a majority has answered that round", () => {
    expectPlayed(
      majority(),
      `> confirm 1
       > confirm 2
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #2 <- heartbeat commit 5, echo 0, round 2
       > #1 -> ack match 5 applied 5 probe 1 round 1
       > #2 -> ack match 5 applied 5 probe 1 round 2 from v
       confirmed read 2 at 5
       > #1 -> ack match 5 applied 5 probe 1 round 2`,
    );
  });

  test("is not confirmed by an answer to a round that began before it came", () => {
    expectPlayed(
      majority(),
      `> confirm 1
       > #1 -> ack match 5 applied 5 probe 1 round 1
       > #2 -> ack match 5 applied 5 probe 1 round 1 from v
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #2 <- heartbeat commit 5, echo 0, round 2`,
    );
  });

  test("sees what was committed when its round began, though more is committed by then", () => {
    expectPlayed(
      majority(),
      `> confirm 1
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #2 <- heartbeat commit 5, echo 0, round 2
       > log last 2/6 written 6 kept 6
       > flush
       read tail after 5 up to 300 for #1
       read tail after 5 up to 300 for #2
       > tail 6 for #1
       #1 <- append after 2/5, 100 bytes, commit 5, echo 0, round 2
       > #1 -> ack match 6 applied 5 probe 1 round 2
       commit 6
       confirmed read 1 at 5`,
    );
  });

  test("is confirmed by a majority of the voters under commit: master too, and by nobody who is no voter", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "master" });
    play(
      player,
      `> peers r:1=r:voter v:1=v:voter n:1=n
       > flush
       > opened #1
       > #1 -> welcome history 1@1 2@5 last 2/5
       > mark 2/5 for #1
       > #1 -> ack match 5 applied 5
       > opened #3
       > #3 -> welcome history 1@1 2@5 last 2/5 from n
       > mark 2/5 for #3
       > #3 -> ack match 5 applied 5 from n`,
    );
    expectPlayed(
      player,
      `> confirm 1
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #3 <- heartbeat commit 5, echo 0, round 2
       > #3 -> ack match 5 applied 5 round 2 from n
       > #1 -> ack match 5 applied 5 round 2
       confirmed read 1 at 5`,
    );
  });

  test("waits for the first record of the epoch where a majority decides", () => {
    const player = majority({ kept: 4, applied: 4 });
    expectPlayed(
      player,
      `> confirm 1
       > flush
       > pass 500
       > flush
       #1 <- heartbeat commit 4, echo 0, round 2
       #2 <- heartbeat commit 4, echo 0, round 2
       > #1 -> ack match 4 applied 4 probe 1 round 2
       > log kept 5
       commit 5
       > flush
       #1 <- heartbeat commit 5, echo 1, round 3
       #2 <- heartbeat commit 5, echo 1, round 3
       > #1 -> ack match 5 applied 5 probe 1 round 2
       > #1 -> ack match 5 applied 5 probe 1 round 3
       confirmed read 1 at 5`,
    );
  });

  test("is one of many that share a round, of which four are under way at most", () => {
    const player = majority();
    for (let read = 1; read <= 9; read++) play(player, `> confirm ${read}\n> flush`);
    expectPlayed(
      player,
      `> #1 -> ack match 5 applied 5 probe 1 round 2
       confirmed read 1 at 5
       > flush
       #1 <- heartbeat commit 5, echo 1, round 6
       #2 <- heartbeat commit 5, echo 1, round 6
       > #1 -> ack match 5 applied 5 probe 1 round 6
       confirmed read 9 at 5`,
    );
  });

  test("is not confirmed by an answer to a round that never was: whoever gives it is hung up on", () => {
    expectPlayed(
      majority(),
      `> #1 -> ack match 5 applied 5 probe 1 round 9
       hang up #1
       unreached at r:1: the node answers round 9, but 1 is the newest`,
    );
  });

  test("is not confirmed by rounds that another node at the voter's address has answered", () => {
    const player = majority();
    play(player, `> lost #1\n> pass 200\n> flush\n> opened #3\n> confirm 1\n> flush`);
    expect(play(player, `> #3 -> welcome history 1@1 2@5 last 2/5 from y`)).toContain("replaced_voter");
  });
});

describe("the age of a master's state", () => {
  test("is nothing where it alone decides", () => {
    expect(stalenessMs(masterPlayer({ history: "1@1 2@5", last: "2/5" }).state, 70)).toBe(0);
  });

  test("is unknown before it serves", () => {
    expect(stalenessMs(masterPlayer({ history: "1@1 2@5", last: "2/5", kept: 4 }).state, 70)).toBeUndefined();
  });

  test("is the time since it sent the newest round that a majority has answered", () => {
    const player = majority();
    expect(stalenessMs(player.state, 0)).toBeUndefined();
    play(player, `> pass 500\n> flush\n> pass 30\n> #1 -> ack match 5 applied 5 probe 1 round 1`);
    expect(stalenessMs(player.state, 530)).toBe(530);
    play(player, `> #1 -> ack match 5 applied 5 probe 1 round 2`);
    expect(stalenessMs(player.state, 530)).toBe(30);
  });

  test("stays small without reads: rounds go on by themselves, twice in a heartbeat", () => {
    expectPlayed(
      majority(),
      `> pass 499
       > flush
       > pass 1
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #2 <- heartbeat commit 5, echo 0, round 2`,
    );
  });
});

describe("a replica's probe", () => {
  test("is given back only once a majority has answered a round that began after it came", () => {
    expectPlayed(
      majority(),
      `> #1 -> ack match 5 applied 5 probe 2 round 1
       > flush
       > pass 500
       > flush
       #1 <- heartbeat commit 5, echo 0, round 2
       #2 <- heartbeat commit 5, echo 0, round 2
       > #2 -> ack match 5 applied 5 probe 1 round 2 from v
       > flush
       #1 <- heartbeat commit 5, echo 2, round 2
       #2 <- heartbeat commit 5, echo 1, round 2`,
    );
  });

  test("is given back at once where the master alone decides", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5" });
    play(player, `> peers r:1=r\n> flush\n> opened #1\n> #1 -> welcome history 1@1 2@5 last 2/5\n> mark 2/5 for #1`);
    expectPlayed(
      player,
      `> #1 -> ack match 5 applied 5 probe 1
       streaming to r:1 after 5
       > flush
       #1 <- heartbeat commit 5, echo 1`,
    );
  });
});

describe("a replica", () => {
  function following(options?: Parameters<typeof replicaPlayer>[0]): Player {
    const player = replicaPlayer({ history: "1@1 2@5", last: "2/5", promised: 2, ...options });
    play(
      player,
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@5 last 2/5
       > s1 <- align at 2/5 epoch 2
       > mark 2/5
       > flush`,
    );
    return player;
  }

  test("gives the newest round back, and no older one", () => {
    expectPlayed(
      following(),
      `> s1 <- heartbeat commit 5 round 3 epoch 2
       master time 7000
       > flush
       s1 -> ack match 5, applied 5, probe 1, round 3
       > s1 <- heartbeat commit 5 round 2 epoch 2
       master time 7000
       > flush`,
    );
  });

  test("says nothing of its age, nor that it has caught up, by a master that has committed nothing of its own", () => {
    const player = following({ applied: 4 });
    expectPlayed(
      player,
      `> s1 <- heartbeat commit 4 echo 1 epoch 2
       master time 7000
       > flush`,
    );
    expect(stalenessMs(player.state, 30)).toBeUndefined();
    expectPlayed(
      player,
      `> s1 <- heartbeat commit 5 echo 0 epoch 2
       master time 7000
       commit 5
       > log applied 5
       > flush`,
    );
    expect(stalenessMs(player.state, 30)).toBeUndefined();
  });

  test("has caught up once it has applied what its master had committed when it gave the probe back, and says so once", () => {
    const player = following({ applied: 4 });
    expectPlayed(
      player,
      `> s1 <- heartbeat commit 5 echo 1 epoch 2
       master time 7000
       commit 5
       > log applied 5
       caught up
       > s1 <- heartbeat commit 5 answer epoch 2
       master time 7000
       > flush
       s1 -> ack match 5, applied 5, probe 2
       > s1 <- heartbeat commit 5 echo 2 epoch 2
       master time 7000`,
    );
    expect(stalenessMs(player.state, 30)).toBe(30);
  });

  test("is told what its state must be, and sets it aside when it is not", () => {
    const player = following();
    expectPlayed(
      player,
      `> s1 <- heartbeat commit 5 check 77@5 epoch 2
       master time 7000
       expect state 77 at 5
       > differs at seq 5
       close s1: the state of this node is not its master's (at seq 5); it is set aside
       orphaned
       set aside
       > asked 1 by v epoch 3 last 2/5
       answer 1: busy, promised 2, last 2/5
       > accepted s2
       > s2 <- hello epoch 2 history 1@1 2@5 last 2/5
       s2 -> reject not_a_replica, promised 2
       close s2: the state of this node is not its master's (at seq 5); it is set aside
       > campaign promoted`,
    );
  });
});

describe("what everybody keeps", () => {
  test("is what all connected voters have acknowledged", () => {
    const player = majority();
    play(player, `> log last 2/7 written 7 kept 7\n> flush\n> tail 6-7 for #1\n> tail 6-7 for #2`);
    play(player, `> #1 -> ack match 7 applied 5 probe 1`);
    expect(replicatedSeq(player.state)).toBe(5);
    play(player, `> #2 -> ack match 6 applied 5 probe 1 from v`);
    expect(replicatedSeq(player.state)).toBe(6);
    play(player, `> lost #2`);
    expect(replicatedSeq(player.state)).toBe(7);
  });

  test("of a majority is what a change of the voters must have reached before the next, whatever commits", () => {
    const player = majority({ commit: "master" });
    play(player, `> log last 2/7 written 7 kept 7\n> flush\n> tail 6-7 for #1\n> tail 6-7 for #2`);
    expect(majoritySeq(player.state)).toBe(5);
    play(player, `> #2 -> ack match 6 applied 5 probe 1 from v`);
    expect(majoritySeq(player.state)).toBe(6);
    play(player, `> lost #2`);
    expect(majoritySeq(player.state)).toBe(6);
    play(player, `> #1 -> ack match 7 applied 5 probe 1`);
    expect(majoritySeq(player.state)).toBe(7);
  });

  test("of a majority is what the master keeps where it alone decides", () => {
    expect(majoritySeq(masterPlayer({ history: "1@1 2@5", last: "2/7", kept: 6 }).state)).toBe(6);
    expect(majoritySeq(replicaPlayer({ history: "1@1", last: "1/5" }).state)).toBe(0);
  });
});
