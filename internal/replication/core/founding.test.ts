import { describe, expect, test } from "vitest";
import { play, type Player, replicaPlayer, startingPlayer, tidy } from "../testing/dialogue.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

describe("a node alone", () => {
  test("founds a cluster when it starts as master with an empty directory, and asks nobody", () => {
    expectPlayed(
      startingPlayer({ empty: true }),
      `> campaign start
       prepare
       > prepared
       found
       > founded
       end calls
       assume epoch 1
       > done
       begin epoch 1
       > log last 1/1 written 0 kept 0 applied 0 history 1@1
       > begun at 1
       begun epoch 1 at 1
       > log written 1 kept 1
       commit 1`,
    );
  });

  test("goes on where its founding was cut short", () => {
    expectPlayed(
      startingPlayer({ promised: "1=r" }),
      `> campaign start
       prepare
       > prepared
       end calls
       assume epoch 2`,
    );
  });

  test("that belongs to a cluster, and has promised to follow another node, is no master without a record", () => {
    expectPlayed(
      replicaPlayer({ promised: "1=m" }),
      `> campaign promoted
       prepare
       > prepared m:1
       end calls
       failed refused`,
    );
  });

  test("that has only just become a part of a cluster is no master without a record", () => {
    expectPlayed(
      replicaPlayer({}),
      `> campaign promoted
       prepare
       > prepared m:1
       end calls
       failed refused`,
    );
  });

  test("founds nothing when an operator promotes it", () => {
    expectPlayed(
      replicaPlayer({ empty: true }),
      `> campaign promoted
       prepare
       > prepared
       end calls
       failed refused`,
    );
  });

  test("founds nothing by force", () => {
    expectPlayed(
      startingPlayer({ empty: true }),
      `> campaign start forced
       prepare
       > prepared
       end calls
       failed refused, again`,
    );
  });

  test("that cannot write its cluster down tries again", () => {
    expectPlayed(
      startingPlayer({ empty: true }),
      `> campaign start
       prepare
       > prepared
       found
       > failed
       end calls
       failed refused, again
       > pass 5000
       > flush
       prepare`,
    );
  });
});

describe("of the nodes of a list", () => {
  /** Node `r` is the second in the list, and would be a master. */
  const listed = "founders a:1+r:1+b:1";

  function surveying(): Player {
    const player = startingPlayer({ empty: true });
    const played = play(player, `> campaign start\n> prepared a:1 b:1 ${listed}`);
    expect(played).toBe(tidy(`> campaign start\nprepare\n> prepared a:1 b:1 ${listed}\nsurvey a:1\nsurvey b:1`));
    return player;
  }

  test("the first that is to be master founds, when all the others are there and empty, with the promise of a majority", () => {
    expectPlayed(
      surveying(),
      `> surveyed a:1 cluster none
       > surveyed b:1 cluster none founds
       found
       > founded
       ask a at a:1 for epoch 1, last 0/0, promised 0
       ask b at b:1 for epoch 1, last 0/0, promised 0
       > promised b:1 granted
       end calls
       assume epoch 1
       > done
       begin epoch 1, founders arb`,
    );
  });

  test("none founds beside one that turns out to have records, whoever else would promise", () => {
    expectPlayed(
      surveying(),
      `> surveyed a:1 cluster none
       > surveyed b:1 cluster none founds
       found
       > founded
       ask a at a:1 for epoch 1, last 0/0, promised 0
       ask b at b:1 for epoch 1, last 0/0, promised 0
       > promised a:1 behind promised 1 last 1/3
       end calls
       failed behind, again
       > promised b:1 granted`,
    );
  });

  test("one that comes later in the list waits for the first", () => {
    expectPlayed(
      surveying(),
      `> surveyed a:1 cluster none founds
       > surveyed b:1 cluster none
       end calls
       failed no_majority, again`,
    );
  });

  test("none founds before all have answered", () => {
    expectPlayed(
      surveying(),
      `> surveyed a:1 silent
       > surveyed b:1 cluster none
       end calls
       failed no_majority, again
       > pass 10000
       > flush
       prepare`,
    );
    const player = surveying();
    expectPlayed(
      player,
      `> surveyed a:1 cluster none
       > pass 1999
       > flush
       > pass 1
       > flush
       end calls
       failed no_majority, again`,
    );
  });

  test("none founds where one belongs to a cluster: it becomes a replica, and waits", () => {
    expectPlayed(
      surveying(),
      `> surveyed a:1 cluster foreign last 3/9 promised 3=a at a:1
       > surveyed b:1 cluster none
       end calls
       failed no_majority
       step down for a:1
       save role`,
    );
  });

  test("none founds together with a copy of its own directory, or with two of another one's", () => {
    for (const answers of ["> surveyed a:1 cluster none node b", "> surveyed a:1 cluster none node r"]) {
      const played = play(surveying(), `${answers}\n> surveyed b:1 cluster none`);
      expect(played).toContain("failed no_majority, again");
    }
  });

  test("none founds whose own address is not in the list", () => {
    const player = startingPlayer({ empty: true });
    const played = play(player, `> campaign start\n> prepared a:1 founders a:1\n> surveyed a:1 cluster none`);
    expect(played).toContain("failed no_majority, again");
  });

  test("one that has begun to found goes on, though an earlier one in the list would by now", () => {
    const player = startingPlayer({});
    play(player, `> campaign start\n> prepared a:1 b:1 ${listed}\n> surveyed a:1 cluster none founds`);
    expectPlayed(
      player,
      `> surveyed b:1 promised 1=r
       ask a at a:1 for epoch 2, last 0/0, promised 0
       ask b at b:1 for epoch 2, last 0/0, promised 0`,
    );
  });

  test("one that has begun to found yields to another that has records by now", () => {
    const player = startingPlayer({});
    play(player, `> campaign start\n> prepared a:1 b:1 ${listed}\n> surveyed a:1 last 1/1 promised 1=a at a:1`);
    expectPlayed(
      player,
      `> surveyed b:1
       end calls
       failed no_majority
       step down for a:1
       save role`,
    );
  });

  test("two that have founded clusters apart from each other wait for an operator", () => {
    const player = startingPlayer({});
    play(player, `> campaign start\n> prepared a:1 b:1 ${listed}\n> surveyed a:1 cluster foreign promised 1=a`);
    expectPlayed(
      player,
      `> surveyed b:1
       end calls
       failed no_majority, again`,
    );
  });

  test("none founds by force", () => {
    const player = startingPlayer({});
    const played = play(
      player,
      `> campaign start forced\n> prepared a:1 b:1 ${listed}\n> surveyed a:1\n> surveyed b:1`,
    );
    expect(played).toContain("failed refused, again");
    expect(played).not.toContain("ask");
  });

  test("one that waits follows a master of any cluster that comes to it", () => {
    const player = surveying();
    play(player, `> surveyed a:1 cluster none founds\n> surveyed b:1 cluster none`);
    expectPlayed(
      player,
      `> accepted s1
       > s1 <- hello epoch 1 history 1@1 from a
       end calls
       failed no_majority
       step down for a:1
       save role
       > done
       join
       > done
       promise epoch 1 to a
       > done
       s1 -> welcome promised 1, history none, last 0/0`,
    );
  });

  test("one that waits joins the founder that asks for its promise, and only then promises", () => {
    const player = surveying();
    play(player, `> surveyed a:1 cluster none founds\n> surveyed b:1 cluster none`);
    expectPlayed(
      player,
      `> asked 7 by a epoch 1
       end calls
       failed no_majority
       step down for a:1
       join
       > asked 8 by b epoch 1
       answer 8: busy, promised 0, last 0/0
       > done
       promise epoch 1 to a
       > done
       answer 7: granted, promised 1, last 0/0`,
    );
  });

  test("one that founds at this moment promises nothing to anybody", () => {
    const player = surveying();
    play(player, `> surveyed a:1 cluster none\n> surveyed b:1 cluster none`);
    expectPlayed(
      player,
      `> asked 7 by a epoch 1
       answer 7: busy, promised 0, last 0/0`,
    );
  });
});
