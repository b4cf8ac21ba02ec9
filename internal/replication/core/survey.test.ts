import { describe, expect, test } from "vitest";
import { play, type Player, replicaPlayer, startingPlayer, tidy } from "../testing/dialogue.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

type Options = Parameters<typeof replicaPlayer>[0];

/** Voter `r` with five records of epoch 1, of which `m` was master. */
const listed = { history: "1@1", last: "1/5", promised: 1, voters: "mrv", commit: "majority" } as const;
/** A node with the same records, where there is one vote. */
const one = { history: "1@1", last: "1/5", promised: 1 } as const;

/** An operator promotes the node, and it has asked the others what they have. */
function promoted(options: Options, others = "m:1 v:1"): Player {
  const player = replicaPlayer(options);
  const surveys = others.split(" ").map((address) => `survey ${address}`);
  expectPlayed(player, `> campaign promoted\nprepare\n> prepared ${others}\n${surveys.join("\n")}`);
  return player;
}

/** The node was master when it ended, and starts again. */
function started(options: Options, others = "m:1 v:1"): Player {
  const player = startingPlayer(options);
  play(player, `> campaign start\n> prepared ${others}`);
  return player;
}

describe("a survey", () => {
  test("is over once everybody has answered, refused connections included", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
  });

  test("waits two seconds at most", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed v:1 last 1/5 promised 1=m
       > pass 1999
       > flush
       > pass 1
       > flush
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
  });

  test("is not judged before all that this node has is kept", () => {
    expectPlayed(
      promoted({ ...listed, kept: 4 }),
      `> surveyed m:1 last 1/5 promised 1=m
       > surveyed v:1 last 1/4 promised 1=m
       > log kept 5
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
    expectPlayed(
      promoted({ ...listed, kept: 4 }),
      `> surveyed m:1 last 1/5 promised 1=m
       > surveyed v:1 last 1/4 promised 1=m
       > pass 2000
       > flush
       end calls
       failed refused`,
    );
  });

  test("leads to one more than the highest epoch that anybody has promised or recorded, voter or not", () => {
    expectPlayed(
      promoted(listed, "m:1 v:1 x:1"),
      `> surveyed m:1 last 1/5 promised 4=v
       > surveyed x:1 last 1/2 promised 7=x
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 8, last 1/5, promised 1
       ask v at v:1 for epoch 8, last 1/5, promised 1`,
    );
  });

  test("pays no heed to other clusters, to copies of this node's directory, nor to answers that come twice or late", () => {
    expectPlayed(
      promoted(listed, "m:1 v:1 x:1"),
      `> surveyed x:1 cluster foreign last 9/9 promised 9=x
       > surveyed v:1 last 1/5 promised 1=m
       > surveyed v:1 last 1/5 promised 5=m
       > surveyed m:1 node r last 8/8 promised 8=r
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1
       > surveyed v:1 last 1/5 promised 5=m`,
    );
  });
});

describe("where the voters are listed", () => {
  test("a candidate that too few answer gives up, and has disturbed nobody", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       end calls
       failed no_majority`,
    );
  });

  test("a candidate whose log ends before a majority's gives up", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 last 1/6 promised 1=m master
       > surveyed v:1 last 2/2 promised 2=m
       end calls
       failed behind`,
    );
  });

  test("a candidate goes on with a majority whose logs end no later, by epoch first", () => {
    expectPlayed(
      promoted({ ...listed, history: "1@1 2@5", last: "2/5" }),
      `> surveyed m:1 last 3/1 promised 3=m
       > surveyed v:1 last 1/9 promised 2=m
       ask m at m:1 for epoch 4, last 2/5, promised 1
       ask v at v:1 for epoch 4, last 2/5, promised 1`,
    );
  });

  test("whoever is no voter counts for nothing, as candidate or as one that answers", () => {
    expectPlayed(
      promoted({ ...listed, voters: "mv" }),
      `> surveyed m:1 last 1/5
       > surveyed v:1 last 1/5
       end calls
       failed refused`,
    );
    expectPlayed(
      promoted(listed, "m:1 v:1 x:1"),
      `> surveyed m:1 silent
       > surveyed x:1 last 1/5
       > surveyed v:1 node y last 1/5
       end calls
       failed no_majority`,
    );
  });

  test("a voter is found wherever it answers, and asked there", () => {
    expectPlayed(
      promoted(listed, "m:1 v:1 w:1"),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       > surveyed w:1 node v last 1/5
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at w:1 for epoch 2, last 1/5, promised 1`,
    );
  });

  test("voters that may have lost records do not make a majority, and the candidate itself does not", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 unclean
       end calls
       failed no_majority`,
    );
    const player = replicaPlayer(listed);
    expectPlayed(
      player,
      `> campaign promoted
       prepare
       > prepared m:1 v:1 unclean
       survey m:1
       survey v:1
       > surveyed m:1 silent
       > surveyed v:1 last 1/5
       end calls
       failed no_majority`,
    );
  });

  test("voters that may have lost records count once all of them are there, and none has more", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 last 1/4 unclean
       > surveyed v:1 last 1/5 unclean
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 last 1/6 unclean
       > surveyed v:1 last 1/5 unclean
       end calls
       failed behind`,
    );
  });

  test("a voter that has never joined the cluster counts, for it has lost nothing", () => {
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 silent
       > surveyed v:1 cluster none
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
    expectPlayed(
      promoted(listed),
      `> surveyed m:1 silent
       > surveyed v:1 cluster none node x
       end calls
       failed no_majority`,
    );
  });

  test("a node that starts as master without a majority tries on and on, each time after a pause", () => {
    const player = started(listed);
    expectPlayed(
      player,
      `> surveyed m:1 silent
       > surveyed v:1 silent
       end calls
       failed no_majority, again
       > flush
       > pass 5000
       > flush
       prepare
       > prepared m:1 v:1
       survey m:1
       survey v:1
       > surveyed m:1 silent
       > surveyed v:1 last 1/5
       ask m at m:1 for epoch 2, last 1/5, promised 1
       ask v at v:1 for epoch 2, last 1/5, promised 1`,
    );
  });

  test("a node that starts as master yields to records of a newer epoch, and to a newer master that serves", () => {
    for (const newer of ["last 2/3 promised 2=m", "last 1/5 promised 2=v master at v:1"]) {
      const player = started(listed);
      const played = play(player, `> surveyed m:1 silent\n> surveyed v:1 ${newer}`);
      expect(played).toContain("failed no_majority");
      expect(played).toContain("save role");
      expect(player.state.role.kind).toBe("replica");
    }
  });

  test("a node that starts as master does not yield to a promise alone: that mastership may never have begun", () => {
    expectPlayed(
      started(listed),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 3=m
       ask m at m:1 for epoch 4, last 1/5, promised 1
       ask v at v:1 for epoch 4, last 1/5, promised 1`,
    );
  });

  test("a majority of four is three", () => {
    expectPlayed(
      promoted({ ...listed, voters: "mrvw" }, "m:1 v:1 w:1"),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5
       > surveyed w:1 silent
       end calls
       failed no_majority`,
    );
    const player = promoted({ ...listed, voters: "mrvw" }, "m:1 v:1 w:1");
    play(player, `> surveyed m:1 silent\n> surveyed v:1 last 1/5\n> surveyed w:1 last 1/5`);
    expectPlayed(
      player,
      `> promised v:1 granted
       > promised w:1 granted
       end calls
       assume epoch 2`,
    );
  });

  test("a sole voter asks nobody", () => {
    expectPlayed(
      promoted({ ...listed, voters: "r" }, "x:1"),
      `> surveyed x:1 last 1/5
       end calls
       assume epoch 2`,
    );
  });
});

describe("a mastership that was forced, and that this node's log knows nothing of", () => {
  test.each([
    ["another one has its records", "last 1000002/6 promised 1000002=m"],
    ["another one has promised it", "last 1/5 promised 1000002=m"],
    ["another one has promised it, which had a higher epoch when it was forced", "last 1/5 promised 600000=m"],
  ])("is not undone by a majority of those that voted before: %s", (_, answer) => {
    expectPlayed(
      promoted({ ...listed, voters: "mrvw" }, "m:1 v:1 w:1"),
      `> surveyed m:1 silent
       > surveyed w:1 last 1/5 promised 1=m
       > surveyed v:1 ${answer}
       end calls
       failed behind`,
    );
  });

  test("is not undone by a node that has promised it itself", () => {
    expectPlayed(
      promoted({ ...listed, promised: 1_000_002 }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1=m
       end calls
       failed behind`,
    );
  });

  test("is no hindrance to the node that it was promised to", () => {
    expectPlayed(
      promoted({ ...listed, promised: "1000002=r" }),
      `> surveyed m:1 last 1/5 promised 1000002=r
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 1000003, last 1/5, promised 1000002
       ask v at v:1 for epoch 1000003, last 1/5, promised 1000002`,
    );
  });

  test("that never began does not give the one vote to whoever asked for it by force", () => {
    expectPlayed(
      promoted(one),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1000002=r
       end calls
       failed behind`,
    );
  });

  test("has given the one vote to a node that took it up, and marks the next mastership too while its record is lost", () => {
    expectPlayed(
      started({ ...one, promised: "1000002=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1000002=r
       end calls
       assume epoch 1000003
       > done
       begin epoch 1000003, forced`,
    );
  });

  test("of this node itself marks its next mastership as forced too, while its record is lost", () => {
    expectPlayed(
      started({ ...listed, voters: "r", promised: "1000002=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       end calls
       assume epoch 1000003
       > done
       begin epoch 1000003, forced`,
    );
  });

  test("is no hindrance to a log that has its records", () => {
    expectPlayed(
      promoted({ ...listed, history: "1@1 1000002@6!", last: "1000002/6", promised: 1_000_002 }),
      `> surveyed m:1 last 1/5 promised 1000007=v
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 1000008, last 1000002/6, promised 1000002
       ask v at v:1 for epoch 1000008, last 1000002/6, promised 1000002`,
    );
  });
});

describe("where there is one vote", () => {
  test("a node that starts as master has it still, and goes on alone when nobody answers", () => {
    expectPlayed(
      started({ ...one, promised: "1=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       end calls
       assume epoch 2`,
    );
  });

  test("a node that starts as master goes on over those that follow it, however much they have", () => {
    expectPlayed(
      started({ ...one, promised: "1=r" }),
      `> surveyed m:1 last 1/9 promised 1=r
       > surveyed v:1 last 1/5 promised 1=r
       end calls
       assume epoch 2`,
    );
  });

  test("a node that starts as master yields to whoever has promised a higher epoch to another", () => {
    expectPlayed(
      started({ ...one, promised: "1=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 2=m at m:1
       end calls
       failed no_majority
       step down for m:1
       save role`,
    );
  });

  test("a node that starts as master does not yield to promises to itself", () => {
    expectPlayed(
      started({ ...one, promised: "1=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 2=r
       end calls
       assume epoch 3`,
    );
  });

  test("a node that has the vote keeps it though it once asked for it by force, in vain", () => {
    expectPlayed(
      started({ ...one, promised: "1=r" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1000002=r
       end calls
       assume epoch 1000003
       > done
       begin epoch 1000003, forced`,
    );
  });

  test("a replica asks whom the newest promise names, and nobody else", () => {
    expectPlayed(
      promoted(one),
      `> surveyed m:1 last 1/5 promised 1=m master
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 2, last 1/5, promised 1`,
    );
    expectPlayed(
      promoted(one, "m:1 v:1 w:1"),
      `> surveyed m:1 last 1/5 promised 2=v
       > surveyed w:1 last 1/5 promised 1=m
       > surveyed v:1 last 1/5 promised 2=v
       ask v at v:1 for epoch 3, last 1/5, promised 1`,
    );
  });

  test("a replica gives up when whoever has the vote is not there, or has more", () => {
    expectPlayed(
      promoted(one),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1=m
       end calls
       failed no_majority`,
    );
    expectPlayed(
      promoted(one),
      `> surveyed m:1 last 1/6 promised 1=m master
       > surveyed v:1 last 1/5 promised 1=m
       end calls
       failed behind`,
    );
  });

  test("a replica gives up while the vote is on its way to another one", () => {
    expectPlayed(
      promoted(one),
      `> surveyed m:1 last 1/5 promised 2=v
       > surveyed v:1 last 1/5 promised 1=m
       end calls
       failed no_majority`,
    );
  });

  test("a replica asks for the vote again that is on its way to it", () => {
    expectPlayed(
      promoted(one),
      `> surveyed m:1 last 1/5 promised 2=r
       > surveyed v:1 last 1/5 promised 1=m
       ask m at m:1 for epoch 3, last 1/5, promised 1`,
    );
  });

  test("a node that has given its vote away does not take it back when it starts again", () => {
    expectPlayed(
      started({ ...one, promised: "2=v" }),
      `> surveyed m:1 silent
       > surveyed v:1 last 1/5 promised 1=r
       end calls
       failed no_majority, again`,
    );
  });

  test("a replica without the vote is no master though it has promised nothing", () => {
    expectPlayed(
      promoted({ ...one, promised: 0 }),
      `> surveyed m:1 silent
       > surveyed v:1 silent
       end calls
       failed no_majority`,
    );
  });
});
