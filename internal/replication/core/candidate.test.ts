import { describe, expect, test } from "vitest";
import { masterPlayer, play, type Player, replicaPlayer, startingPlayer, tidy } from "../testing/dialogue.js";
import { isServing, notServing } from "./view.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

/** Voter `r` with five records of epoch 1, of which `m` was master. */
const LISTED = { history: "1@1", last: "1/5", promised: 1, voters: "mrv", commit: "majority" } as const;
const FIVE = { ...LISTED, voters: "mrvwx" } as const;

/** Promoted, and asking `m` and `v`, who have what this node has, for epoch 2. */
function asking(options: Parameters<typeof replicaPlayer>[0] = LISTED): Player {
  const player = replicaPlayer(options);
  play(
    player,
    `> campaign promoted
     > prepared m:1 v:1
     > surveyed m:1 last 1/5 promised 1=m
     > surveyed v:1 last 1/5 promised 1=m`,
  );
  return player;
}

/** The same of five voters. */
function askingFour(bid = ""): Player {
  const player = replicaPlayer(FIVE);
  play(player, `> campaign promoted\n> prepared m:1 v:1 w:1 x:1 ${bid}`);
  for (const name of "mvwx") play(player, `> surveyed ${name}:1 last 1/5 promised 1=m`);
  return player;
}

describe("a candidate", () => {
  test("closes its sessions before it asks anybody anything", () => {
    const player = replicaPlayer(LISTED);
    play(player, `> accepted s1\n> s1 <- hello history 1@1 last 1/5\n> s1 <- align at 1/5\n> mark 1/5`);
    expectPlayed(
      player,
      `> campaign promoted
       close s1: this node asks for a mastership of its own
       orphaned
       prepare
       > left s1
       > flush`,
    );
  });

  test("begins once the store has done what it is doing", () => {
    const player = replicaPlayer(LISTED);
    play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2@6`);
    expectPlayed(
      player,
      `> campaign promoted
       close s1: this node asks for a mastership of its own
       > flush
       > done
       prepare`,
    );
  });

  test("wins with a majority, makes its own promise last, and begins the epoch only then", () => {
    const player = asking();
    expectPlayed(
      player,
      `> promised v:1 granted
       end calls
       assume epoch 2
       > promised m:1 granted
       > flush
       > done
       begin epoch 2
       > log last 2/6 written 5 kept 5 applied 5 history 1@1 2@6
       > begun at 6
       begun epoch 2 at 6`,
    );
    expect(isServing(player.state)).toBe(false);
    expect(notServing(player.state)).toContain("whose first record is not committed yet");
    expect(player.state.promised).toMatchObject({ epoch: 2, candidate: player.state.self });
  });

  test("serves once its first record is committed by a majority", () => {
    const player = asking();
    play(player, `> promised v:1 granted\n> done\n> log last 2/6 written 6 kept 6 applied 5 history 1@1 2@6`);
    expectPlayed(
      player,
      `> begun at 6
       begun epoch 2 at 6
       > peers m:1=m:voter v:1=v:voter
       > flush
       connect to m:1 as #3
       connect to v:1 as #4
       > opened #4
       #4 <- hello epoch 2, history 1@1 2@6, last 2/6
       > #4 -> welcome history 1@1 last 1/5 from v
       met v at v:1
       read mark 5 for #4
       > mark 1/5 for #4
       #4 <- align at 1/5
       > #4 -> ack match 5 applied 5 from v
       streaming to v:1 after 5
       > flush
       read tail after 5 up to 300 for #4
       > tail 6 for #4
       #4 <- append after 1/5, 100 bytes, commit 5, echo 0, round 1
       > #4 -> ack match 6 applied 5 from v
       commit 6`,
    );
    expect(isServing(player.state)).toBe(true);
    expect(notServing(player.state)).toBe("");
  });

  test("asks again whoever is busy or was not reached, for five seconds at most", () => {
    expectPlayed(
      asking(),
      `> promised v:1 busy promised 1
       > promised m:1 silent
       > pass 199
       > flush
       > pass 1
       > flush
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1
       > promised v:1 busy promised 1
       > pass 4799
       > flush
       ask v at v:1 for epoch 2, last 1/5, promised 1
       > pass 1
       > flush
       end calls
       failed no_majority`,
    );
  });

  test("gives up as soon as too many have refused", () => {
    expectPlayed(
      asking(),
      `> promised v:1 no_vote promised 1
       > promised m:1 behind promised 1 last 1/6
       end calls
       failed behind`,
    );
    expectPlayed(
      askingFour(),
      `> promised v:1 no_vote promised 1
       > promised m:1 unknown promised 1
       > promised w:1 no_vote promised 1
       end calls
       failed no_majority`,
    );
  });

  test("asks everybody for a higher epoch when one has promised as much already", () => {
    expectPlayed(
      asking(),
      `> promised v:1 stale_epoch promised 6
       ask m at m:1 for epoch 7, last 1/5, promised 1
       ask v at v:1 for epoch 7, last 1/5, promised 1
       > promised m:1 granted epoch 2
       > promised m:1 granted
       end calls
       assume epoch 7`,
    );
  });

  test("counts no promise of a lower epoch once it asks for a higher one", () => {
    const player = askingFour();
    play(player, `> promised m:1 granted\n> promised v:1 stale_epoch promised 6`);
    expectPlayed(
      player,
      `> promised w:1 granted
       > promised m:1 granted
       end calls
       assume epoch 7`,
    );
  });

  test("gives up when one has promised a mastership that was forced meanwhile", () => {
    expectPlayed(
      askingFour(),
      `> promised v:1 stale_epoch promised 1000002
       end calls
       failed behind`,
    );
  });

  test("gives up once only when the last answer says so", () => {
    expectPlayed(
      asking(),
      `> promised m:1 no_vote promised 1
       > promised v:1 stale_epoch promised 1000002
       end calls
       failed behind`,
    );
  });

  test("takes no promise of another node than the one it asks for", () => {
    expectPlayed(
      asking(),
      `> promised v:1 granted node y
       > promised m:1 granted node y
       end calls
       failed no_majority`,
    );
  });

  test("pays no heed to answers of an earlier try", () => {
    expectPlayed(
      asking(),
      `> campaign promoted
       end calls
       prepare
       > prepared m:1 v:1 of 1
       > prepared m:1 v:1
       survey m:1
       survey v:1
       > surveyed v:1 last 1/5 of 1
       > surveyed m:1 last 1/5
       > promised v:1 granted epoch 2 of 1
       > surveyed v:1 last 1/5
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1
       > promised v:1 granted of 1
       > promised v:1 granted
       end calls
       assume epoch 2`,
    );
  });

  test("whose own promise cannot be written is a replica as before", () => {
    const player = asking();
    expectPlayed(
      player,
      `> promised v:1 granted
       end calls
       assume epoch 2
       > failed
       end calls
       failed refused`,
    );
    expect(player.state.role.kind).toBe("replica");
    expect(player.state.promised.epoch).toBe(1);
  });

  test("whose log takes no first record tries again, for on its disk it is master by now", () => {
    expectPlayed(
      asking(),
      `> promised v:1 granted
       end calls
       assume epoch 2
       > done
       begin epoch 2
       > unbegun
       end calls
       failed refused, again
       > pass 5000
       > flush
       prepare`,
    );
  });

  test("that is asked to campaign once more begins again, but not when it is about to be master", () => {
    expectPlayed(
      asking(),
      `> campaign promoted
       end calls
       prepare
       > prepared m:1 v:1
       survey m:1
       survey v:1`,
    );
    const player = asking();
    play(player, `> promised v:1 granted`);
    expectPlayed(player, `> campaign promoted forced`);
  });

  test("leaves when the node shuts down", () => {
    expectPlayed(
      asking(),
      `> shutdown the end
       end calls
       > promised v:1 granted
       > flush`,
    );
  });
});

describe("voters that may have lost records", () => {
  test("count once all voters have promised, and the mastership is marked as forced", () => {
    expectPlayed(
      askingFour(),
      `> promised v:1 granted unclean
       > promised m:1 granted unclean
       > promised w:1 granted unclean
       > promised x:1 granted
       end calls
       assume epoch 2
       > done
       begin epoch 2, forced`,
    );
  });

  test("do not count otherwise, however many there are", () => {
    expectPlayed(
      askingFour(),
      `> promised v:1 granted unclean
       > promised m:1 granted unclean
       > promised w:1 granted unclean
       > promised x:1 silent
       > pass 4999
       > flush
       ask x at x:1 for epoch 2, last 1/5, promised 1
       > pass 1
       > flush
       end calls
       failed no_majority`,
    );
  });

  test("do not make a mastership forced that a clean majority has promised", () => {
    expectPlayed(
      askingFour(),
      `> promised v:1 granted unclean
       > promised m:1 granted
       > promised w:1 granted
       end calls
       assume epoch 2
       > done
       begin epoch 2`,
    );
  });

  test("are the candidate itself too", () => {
    expectPlayed(
      askingFour("unclean"),
      `> promised v:1 granted
       > promised m:1 granted
       > promised w:1 granted
       end calls
       assume epoch 2`,
    );
  });
});

describe("a forced campaign", () => {
  function forced(options: Parameters<typeof replicaPlayer>[0]): Player {
    const player = replicaPlayer(options);
    play(player, `> campaign promoted forced\n> prepared m:1 v:1 w:1`);
    return player;
  }

  test("asks everybody for an epoch a million beyond the highest seen, and leaves out who does not answer", () => {
    expectPlayed(
      forced(LISTED),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/9 promised 4=v
       > surveyed w:1 last 1/5 promised 1=m
       ask m:1 for epoch 1000004, last 1/5, promised 1, forced
       ask v:1 for epoch 1000004, last 1/5, promised 1, forced
       ask w:1 for epoch 1000004, last 1/5, promised 1, forced
       > promised v:1 granted last 1/9
       > promised w:1 granted
       > pass 4999
       > flush
       > pass 1
       > flush
       end calls
       assume epoch 1000004
       > done
       begin epoch 1000004, forced, stripped m, unreached m:1, 4 lost`,
    );
  });

  test("goes on at once when everybody has promised, and loses nobody's vote", () => {
    expectPlayed(
      forced(LISTED),
      `> surveyed m:1 last 1/5
       > surveyed v:1 last 1/5
       > surveyed w:1 last 1/5
       ask m:1 for epoch 1000001, last 1/5, promised 1, forced
       ask v:1 for epoch 1000001, last 1/5, promised 1, forced
       ask w:1 for epoch 1000001, last 1/5, promised 1, forced
       > promised m:1 granted
       > promised v:1 granted
       > promised w:1 granted
       end calls
       assume epoch 1000001
       > done
       begin epoch 1000001, forced`,
    );
  });

  test("takes the vote from voters that refuse, and gives it to a node that has none", () => {
    expectPlayed(
      forced({ ...LISTED, voters: "mv" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5
       > surveyed w:1 silent
       ask m:1 for epoch 1000001, last 1/5, promised 1, forced
       ask v:1 for epoch 1000001, last 1/5, promised 1, forced
       ask w:1 for epoch 1000001, last 1/5, promised 1, forced
       > promised v:1 foreign_cluster promised 1
       > pass 5000
       > flush
       end calls
       assume epoch 1000001
       > done
       begin epoch 1000001, forced, stripped mv, unreached m:1 v:1 w:1`,
    );
  });

  test("needs no vote where there is one, and takes none from anybody in the record", () => {
    expectPlayed(
      forced({ history: "1@1", last: "1/5", promised: 1 }),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       > surveyed w:1 silent
       ask m:1 for epoch 1000001, last 1/5, promised 1, forced
       ask v:1 for epoch 1000001, last 1/5, promised 1, forced
       ask w:1 for epoch 1000001, last 1/5, promised 1, forced
       > pass 5000
       > flush
       end calls
       assume epoch 1000001
       > done
       begin epoch 1000001, forced, unreached m:1 v:1 w:1`,
    );
  });

  test("counts among the lost what its last master said that it had committed", () => {
    const player = replicaPlayer({ history: "1@1", last: "1/5", promised: 1 });
    play(player, `> accepted s1\n> s1 <- hello history 1@1 last 1/8\n> s1 <- align at 1/5\n> mark 1/5`);
    play(player, `> s1 <- heartbeat commit 8\n> campaign promoted forced\n> prepared m:1\n> surveyed m:1 silent`);
    expect(play(player, `> pass 5000\n> flush\n> done`)).toContain(
      "begin epoch 1000001, forced, unreached m:1, 3 lost",
    );
  });

  test("of a master ends its mastership first", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "majority" });
    play(player, `> peers r:1=r:voter\n> flush`);
    expectPlayed(
      player,
      `> campaign promoted forced
       hang up #1
       step down
       prepare`,
    );
  });

  test("is what a master needs for another campaign", () => {
    expectPlayed(
      masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "majority" }),
      `> campaign promoted
       > flush`,
    );
  });
});

describe("another master's Hello to a candidate", () => {
  test("of a newer epoch ends the candidacy, and is heard", () => {
    expectPlayed(
      asking(),
      `> accepted s1
       > s1 <- hello epoch 2 history 1@1 2@6 from v
       end calls
       failed no_majority
       promise epoch 2 to v
       > done
       s1 -> welcome promised 2, history 1@1, last 1/5`,
    );
  });

  test("of a newer epoch is heard by a node that was master once that is durable", () => {
    const player = startingPlayer(LISTED);
    play(player, `> campaign start\n> prepared m:1 v:1\n> surveyed m:1 silent\n> surveyed v:1 silent`);
    expectPlayed(
      player,
      `> s1 <- hello epoch 2 history 1@1 2@6 from v
       end calls
       failed no_majority
       step down for v:1
       save role
       > done
       promise epoch 2 to v`,
    );
  });

  test("of the epoch that it has promised, or of less than it asks for, is turned away", () => {
    expectPlayed(
      asking(),
      `> s1 <- hello epoch 1 history 1@1
       s1 -> reject not_a_replica, promised 1
       close s1: this node asks for a mastership of its own`,
    );
    const player = asking();
    play(player, `> promised v:1 stale_epoch promised 6`);
    expect(play(player, `> s1 <- hello epoch 5 history 1@1 5@6 from v`)).toContain("reject not_a_replica");
  });

  test("of the epoch that this node began itself is a conflict, and stops the other one too", () => {
    const player = startingPlayer({ ...LISTED, history: "1@1 2@5", last: "2/5", promised: "2=r" });
    play(player, `> campaign start\n> prepared m:1 v:1\n> surveyed m:1 silent\n> surveyed v:1 silent`);
    const played = play(player, `> s1 <- hello epoch 2 history 1@1 2'@5 from v`);
    expect(played).toContain("s1 -> reject epoch_conflict, promised 2");
    expect(player.state.role.kind).toBe("candidate");
  });

  test("of the epoch that this node was to begin, and did not, is heard", () => {
    const player = startingPlayer({ ...LISTED, promised: "2=r" });
    play(player, `> campaign start\n> prepared m:1 v:1\n> surveyed m:1 silent\n> surveyed v:1 silent`);
    expectPlayed(
      player,
      `> s1 <- hello epoch 2 history 1@1 2'@6 from v
       end calls
       failed no_majority
       step down for v:1
       save role
       > done
       s1 -> welcome promised 2, history 1@1, last 1/5`,
    );
  });

  test("changes nothing once its own promise is being written", () => {
    const player = asking();
    play(player, `> promised v:1 granted`);
    expectPlayed(
      player,
      `> s1 <- hello epoch 9 history 1@1 9@6 from v
       s1 -> reject not_a_replica, promised 1
       close s1: this node asks for a mastership of its own`,
    );
  });

  test("of another cluster is turned away", () => {
    expect(play(asking(), `> s1 <- hello epoch 9 history 9@1 cluster foreign`)).toContain("reject foreign_cluster");
  });
});

describe("a master that hands over", () => {
  function streaming(): Player {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mr", commit: "majority" });
    play(
      player,
      `> peers r:1=r:voter
       > flush
       > opened #1
       > #1 -> welcome history 1@1 2@5 last 2/5
       > mark 2/5 for #1
       > #1 -> ack match 5 applied 4`,
    );
    return player;
  }

  test("tells a node that has everything to take over", () => {
    expectPlayed(
      streaming(),
      `> handOver r:1
       #1 <- take over
       handed over to r:1`,
    );
  });

  test("says nothing to a node that lacks something, queued records included, or that is not there", () => {
    const player = streaming();
    expectPlayed(
      player,
      `> log last 2/6 written 5
       > handOver r:1
       > handOver x:1`,
    );
  });
});

describe("a replica that is told to take over", () => {
  function following(): Player {
    const player = replicaPlayer(LISTED);
    play(player, `> accepted s1\n> s1 <- hello history 1@1 last 1/5\n> s1 <- align at 1/5\n> mark 1/5\n> flush`);
    return player;
  }

  test("campaigns at once, and asks as soon as enough have answered", () => {
    expectPlayed(
      following(),
      `> s1 <- takeOver
       close s1: this node asks for a mastership of its own
       orphaned
       prepare
       > prepared m:1 v:1
       survey m:1
       survey v:1
       > surveyed m:1 last 1/5 promised 1=m master
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1
       > promised m:1 granted
       end calls
       assume epoch 2`,
    );
  });

  function asking(): Player {
    const player = following();
    play(player, `> s1 <- takeOver\n> prepared m:1 v:1\n> surveyed m:1 last 1/5 promised 1=m master`);
    return player;
  }

  test("wins nothing without the promise of the master that hands over, whoever else gives theirs", () => {
    expectPlayed(
      asking(),
      `> promised v:1 granted
       > flush
       > promised m:1 granted
       end calls
       assume epoch 2`,
    );
  });

  test("gives up where that master has waited for too long, and has gone on", () => {
    expectPlayed(
      asking(),
      `> promised v:1 granted
       > promised m:1 behind promised 1 last 1/6
       end calls
       failed behind`,
    );
    expectPlayed(
      asking(),
      `> promised v:1 granted
       > promised m:1 silent
       > pass 5000
       > flush
       ask m at m:1 for epoch 2, last 1/5, promised 1
       end calls
       failed no_majority`,
    );
  });

  test("does nothing while records are being appended that it has not compared", () => {
    expectPlayed(
      following(),
      `> s1 <- append after 1/5 records 6-6
       master time 7000
       append 100 bytes
       > s1 <- takeOver`,
    );
  });

  test("does nothing for a master that it does not follow yet", () => {
    const player = replicaPlayer(LISTED);
    play(player, `> accepted s1\n> s1 <- hello history 1@1 last 1/5`);
    expect(play(player, `> s1 <- takeOver`)).toContain("close s1: the master sent takeOver before Align");
  });
});

test("a mastership whose first record the disk has no room for ends, and the next try follows after a pause", () => {
  expectPlayed(
    masterPlayer({ history: "1@1 2@5", last: "2/5", written: 4, voters: "mr", commit: "majority" }),
    `> log last 1/4 history 1@1
     > dropped from 5
     step down
     failed refused, again
     > pass 4999
     > flush
     > pass 1
     > flush
     prepare`,
  );
});
