import { describe, expect, test } from "vitest";
import { masterPlayer, play, type Player, replicaPlayer, startingPlayer, tidy } from "../testing/dialogue.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

const LISTED = { history: "1@1", last: "1/5", promised: 1, voters: "mrv", commit: "majority" } as const;
/** Voter `r` with five records of epoch 1, of which `m` is master. */
const listed = (options?: Parameters<typeof replicaPlayer>[0]): Player => replicaPlayer({ ...LISTED, ...options });
/** The same where there is one vote. */
const one = (options?: Parameters<typeof replicaPlayer>[0]): Player =>
  replicaPlayer({ history: "1@1", last: "1/5", promised: 1, ...options });

/** What is answered at once, or once the promise is durable. */
function asked(player: Player, question: string): string {
  const played = play(player, `> asked 7 ${question}`);
  if (!played.includes("promise epoch")) return played.split("answer 7: ")[1] ?? played;
  return play(player, "> done").split("answer 7: ")[1] ?? played;
}

describe("a promise", () => {
  test("is durable before it is answered, and meanwhile the node judges nothing else", () => {
    expectPlayed(
      listed(),
      `> asked 1 by v epoch 2 last 1/5
       promise epoch 2 to v
       > asked 2 by m epoch 3 last 1/5
       answer 2: busy, promised 1, last 1/5
       > flush
       > done
       answer 1: granted, promised 2, last 1/5`,
    );
  });

  test("that cannot be written is not given", () => {
    const player = listed();
    expectPlayed(
      player,
      `> asked 1 by v epoch 2 last 1/5
       promise epoch 2 to v
       > failed
       answer 1: busy, promised 1, last 1/5`,
    );
    expect(player.state.promised.epoch).toBe(1);
  });

  test("is given again to the same candidate with the same epoch id only", () => {
    const player = listed();
    expect(asked(player, "by v epoch 2 last 1/5")).toBe("granted, promised 2, last 1/5");
    expect(asked(player, "by v epoch 2 last 1/5")).toBe("granted, promised 2, last 1/5");
    expect(asked(player, "by v epoch 2 last 1/5 id 2'")).toBe("stale_epoch, promised 2, last 1/5");
    expect(asked(player, "by m epoch 2 last 1/5")).toBe("stale_epoch, promised 2, last 1/5");
  });

  test("is refused below and at the promised epoch, and to whoever is behind the own log", () => {
    expect(asked(listed(), "by v epoch 1 last 1/5")).toBe("stale_epoch, promised 1, last 1/5");
    expect(asked(listed(), "by v epoch 2 last 1/4")).toBe("behind, promised 1, last 1/5");
    const newer = listed({ history: "1@1 2@5", last: "2/5", promised: 2 });
    expect(asked(newer, "by v epoch 3 last 1/9")).toBe("behind, promised 2, last 2/5");
    expect(asked(listed(), "by v epoch 9 last 2/2")).toBe("granted, promised 9, last 1/5");
  });

  test("is measured by what is queued too, and by the epochs of the log", () => {
    expect(asked(listed({ kept: 3, written: 3 }), "by v epoch 2 last 1/4")).toBe("behind, promised 1, last 1/5");
    const player = listed({ history: "1@1 4@5", last: "4/5", promised: 1 });
    expect(asked(player, "by v epoch 4 last 4/5")).toBe("stale_epoch, promised 1, last 4/5");
  });

  test("is refused to other clusters, and to a copy of this node's directory", () => {
    expect(asked(listed(), "by v epoch 9 last 1/5 cluster foreign forced")).toBe(
      "foreign_cluster, promised 1, last 1/5",
    );
    expect(asked(listed(), "by r epoch 9 last 1/5")).toBe("no_vote, promised 1, last 1/5");
  });

  test("says when the node may have lost what it acknowledged", () => {
    expect(asked(listed(), "by v epoch 2 last 1/5 unclean")).toBe("granted, unclean, promised 2, last 1/5");
  });

  test("that is forced is given to whoever is behind, but not below the promised epoch", () => {
    expect(asked(listed(), "by v epoch 1000001 last 1/1 forced")).toBe("granted, promised 1000001, last 1/5");
    expect(asked(one(), "by v epoch 1000001 last 1/1 forced")).toBe("granted, promised 1000001, last 1/5");
    expect(asked(listed(), "by v epoch 1 last 1/9 forced")).toBe("stale_epoch, promised 1, last 1/5");
  });

  test("to a forced mastership is not followed by one to a log that knows nothing of it", () => {
    const promised = (): Player => listed({ promised: "1000002=m" });
    expect(asked(promised(), "by v epoch 1000003 last 1/5")).toBe("behind, promised 1000002, last 1/5");
    expect(asked(promised(), "by m epoch 1000003 last 1/5")).toBe("granted, promised 1000003, last 1/5");
    expect(asked(promised(), "by v epoch 1000003 last 1000002/6")).toBe("granted, promised 1000003, last 1/5");
    expect(asked(promised(), "by v epoch 2000003 last 1/5 forced")).toBe("granted, promised 2000003, last 1/5");
  });

  test("of a node without a cluster is for a founder only", () => {
    expect(asked(replicaPlayer({ empty: true }), "by v epoch 2 last 1/5")).toBe("no_vote, promised 0, last 0/0");
    expectPlayed(
      replicaPlayer({ empty: true }),
      `> asked 1 by v epoch 1
       join
       > done
       promise epoch 1 to v
       > done
       answer 1: granted, promised 1, last 0/0`,
    );
  });

  test("of a node without a cluster is for a candidate that names it as a voter: it was there at the founding", () => {
    expect(asked(replicaPlayer({ empty: true }), "by v epoch 2 last 1/5 voter x")).toContain("no_vote");
    expectPlayed(
      replicaPlayer({ empty: true }),
      `> asked 1 by v epoch 2 last 1/5 voter r
       join
       > done
       promise epoch 2 to v
       > done
       answer 1: granted, promised 2, last 0/0`,
    );
  });

  test("is not given by a node that cannot join the founder's cluster", () => {
    expectPlayed(
      replicaPlayer({ empty: true }),
      `> asked 1 by v epoch 1
       join
       > failed
       answer 1: busy, promised 0, last 0/0`,
    );
  });
});

describe("a node that promises", () => {
  function following(): Player {
    const player = listed();
    play(
      player,
      `> accepted s1
       > s1 <- hello history 1@1 last 1/5
       > s1 <- align at 1/5
       > mark 1/5
       > flush`,
    );
    return player;
  }

  test("takes nothing from its master any more, and acknowledges nothing to it, from that moment on", () => {
    expectPlayed(
      following(),
      `> s1 <- heartbeat commit 3 round 4
       master time 7000
       > asked 1 by v epoch 2 last 1/5
       close s1: this node promises epoch 2 to node 76767676767676767676767676767676
       orphaned
       promise epoch 2 to v
       > s1 <- append after 1/5 records 6-6
       > flush
       > accepted s2
       > s2 <- hello history 1@1 last 1/6
       > done
       answer 1: granted, promised 2, last 1/5
       s2 -> reject stale_epoch, promised 2
       close s2: this node has promised epoch 2, and follows no master of epoch 1`,
    );
  });

  test("refuses without disturbing the master that it follows", () => {
    expectPlayed(
      following(),
      `> asked 1 by v epoch 2 last 1/4
       answer 1: behind, promised 1, last 1/5
       > s1 <- append after 1/5 records 6-6
       master time 7000
       append 100 bytes`,
    );
  });

  test("as a master steps down first, and the promise says on the disk that it is a replica", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "majority" });
    play(player, `> peers r:1=r:voter v:1=v:voter\n> flush`);
    expectPlayed(
      player,
      `> asked 1 by v epoch 3 last 2/5
       hang up #1
       hang up #2
       step down for v:1
       promise epoch 3 to v
       > log last 2/6 written 6 kept 6
       > flush
       > done
       answer 1: granted, promised 3, last 2/6`,
    );
    expect(player.state.role.kind).toBe("replica");
  });

  test("as a master goes on where it refuses", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", written: 4, voters: "mrv", commit: "majority" });
    expectPlayed(
      player,
      `> asked 1 by v epoch 3 last 2/4
       answer 1: behind, promised 2, last 2/5`,
    );
    expect(player.state.role.kind).toBe("master");
  });

  test("as a candidate is none any more", () => {
    const player = listed();
    play(
      player,
      `> campaign promoted\n> prepared m:1 v:1\n> surveyed m:1 silent\n> surveyed v:1 last 1/5 promised 1=m`,
    );
    expectPlayed(
      player,
      `> asked 1 by v epoch 2 last 1/5
       end calls
       failed no_majority
       promise epoch 2 to v
       > done
       answer 1: granted, promised 2, last 1/5`,
    );
    expect(player.state.role.kind).toBe("replica");
  });

  test("as a candidate that was master says on the disk, with the promise, that it is none any more", () => {
    const player = startingPlayer(LISTED);
    play(player, `> campaign start\n> prepared m:1 v:1`);
    expectPlayed(
      player,
      `> asked 1 by v epoch 2 last 1/5
       end calls
       failed no_majority
       step down for v:1
       promise epoch 2 to v`,
    );
  });

  test("does not while its own promise is being written", () => {
    const player = listed();
    play(
      player,
      `> campaign promoted\n> prepared m:1 v:1\n> surveyed m:1 silent\n> surveyed v:1 last 1/5 promised 1=m`,
    );
    expectPlayed(
      player,
      `> promised v:1 granted
       end calls
       assume epoch 2
       > asked 1 by v epoch 3 last 1/5
       answer 1: busy, promised 1, last 1/5
       > done
       begin epoch 2
       > asked 2 by v epoch 3 last 1/5
       answer 2: busy, promised 2, last 1/5`,
    );
  });

  test("after a conflict of epochs follows whoever it has promised a newer one", () => {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", voters: "mrv", commit: "majority" });
    play(player, `> accepted s1\n> s1 <- hello epoch 2 history 1@1 2'@5 from v`);
    expectPlayed(
      player,
      `> asked 1 by r epoch 3 last 2/5
       step down for r:1
       promise epoch 3 to r
       > done
       answer 1: granted, promised 3, last 2/5`,
    );
  });

  test("does not once it shuts down", () => {
    const player = listed();
    expectPlayed(
      player,
      `> shutdown the end
       > asked 1 by v epoch 2 last 1/5
       answer 1: busy, promised 1, last 1/5`,
    );
  });
});

describe("the one vote", () => {
  test("is given by the node that has promised to itself", () => {
    expect(asked(one({ promised: "3=r" }), "by v epoch 4 last 1/5 promised 3")).toBe("granted, promised 4, last 1/5");
    expect(asked(one({ promised: "3=r" }), "by v epoch 4 last 1/5 promised 1")).toBe("granted, promised 4, last 1/5");
  });

  test("is not given by a node whose own mastership is older than what the candidate has promised", () => {
    expect(asked(one({ promised: "3=r" }), "by v epoch 9 last 1/5 promised 4")).toBe("no_vote, promised 3, last 1/5");
  });

  test("is given again to the candidate that it went to, whose answer was lost, or that ended before it took it", () => {
    const player = one({ promised: "3=r" });
    expect(asked(player, "by v epoch 4 last 1/5 promised 1")).toBe("granted, promised 4, last 1/5");
    expect(asked(player, "by v epoch 5 last 1/5 promised 1")).toBe("granted, promised 5, last 1/5");
    expect(asked(player, "by v epoch 6 last 1/5 promised 4")).toBe("granted, promised 6, last 1/5");
  });

  test("is not given again to the candidate that has taken it: it may have moved on from there", () => {
    const player = one({ promised: "3=r" });
    expect(asked(player, "by v epoch 4 last 1/5 promised 1")).toBe("granted, promised 4, last 1/5");
    expect(asked(player, "by v epoch 6 last 1/5 promised 4")).toBe("no_vote, promised 4, last 1/5");
    expect(asked(player, "by v epoch 6 last 1/5 promised 5")).toBe("no_vote, promised 4, last 1/5");
  });

  test("is not given to a third node", () => {
    const player = one({ promised: "3=r" });
    expect(asked(player, "by v epoch 4 last 1/5 promised 1")).toBe("granted, promised 4, last 1/5");
    expect(asked(player, "by w epoch 5 last 1/5 promised 1")).toBe("no_vote, promised 4, last 1/5");
  });

  test("is not given again when it was asked for by force, unless it is by force again", () => {
    const player = one({ promised: "1=m" });
    expect(asked(player, "by v epoch 1000001 last 1/5 promised 1 forced")).toBe("granted, promised 1000001, last 1/5");
    expect(asked(player, "by v epoch 1000002 last 1/5 promised 1")).toBe("behind, promised 1000001, last 1/5");
    expect(asked(player, "by v epoch 2000001 last 1/5 promised 1 forced")).toBe("granted, promised 2000001, last 1/5");
  });

  test("is not a replica's to give", () => {
    expect(asked(one(), "by v epoch 2 last 1/5 promised 1")).toBe("no_vote, promised 1, last 1/5");
    expect(asked(one({ promised: 0 }), "by v epoch 2 last 1/5")).toBe("no_vote, promised 0, last 1/5");
  });

  test("is not taken from a node without records", () => {
    const player = one();
    play(player, `> campaign promoted\n> prepared m:1\n> surveyed m:1 promised 1=m`);
    expectPlayed(
      player,
      `> promised m:1 granted last 0/0
       end calls
       failed no_majority`,
    );
  });
});
