import { describe, expect, test } from "vitest";
import { masterPlayer, play, type Player, replicaPlayer, tidy } from "../testing/dialogue.js";

function expectPlayed(player: Player, script: string): void {
  expect(play(player, script)).toBe(tidy(script));
}

describe("a master whose log begins after seq 3", () => {
  /** Batches have 300 bytes, and 500 may be unacknowledged. */
  function compacted(): Player {
    const player = masterPlayer({ history: "1@1 2@5", last: "2/5", compact: 3 });
    play(player, `> peers r:1\n> flush\n> opened #1`);
    return player;
  }

  /** The same, once a replica has answered the offer of 900 bytes that it has 100. */
  function sending(): Player {
    const player = compacted();
    play(
      player,
      `> #1 -> welcome history 1@1 last 1/2
       > transfer t size 900 for #1
       > #1 -> snapshotAck id t received 100`,
    );
    return player;
  }

  test("sends its whole state to a replica that ends before, within the window, as the replica acknowledges it", () => {
    expectPlayed(
      compacted(),
      `> #1 -> welcome history 1@1 last 1/2
       met r at r:1
       open transfer for #1
       > flush
       > transfer t size 900 for #1
       #1 <- offer t, 900 bytes
       transferring 900 bytes to r:1
       > #1 -> snapshotAck id t received 100
       read transfer at 100 up to 300 for #1
       > bytes 300 for #1
       #1 <- chunk of t at 100, 300 bytes
       read transfer at 400 up to 200 for #1
       > bytes 200 for #1
       #1 <- chunk of t at 400, 200 bytes
       > #1 -> snapshotAck id t received 400
       read transfer at 600 up to 300 for #1
       > #1 -> snapshotAck id t received 600
       > bytes 300 for #1
       #1 <- chunk of t at 600, 300 bytes
       > #1 -> snapshotAck id t received 900
       > flush`,
    );
  });

  test("reads its mark as ever for a replica that ends where the log begins", () => {
    expectPlayed(
      compacted(),
      `> #1 -> welcome history 1@1 last 1/3
       met r at r:1
       read mark 3 for #1`,
    );
  });

  test("sends its state to a replica that cannot cut its own log where the two agree", () => {
    const player = masterPlayer({ history: "1@1 3@5", last: "3/6" });
    play(player, `> peers r:1\n> flush\n> opened #1`);
    expectPlayed(
      player,
      `> #1 -> welcome history 1@1 2@5 last 2/9 floor 7
       met r at r:1
       open transfer for #1`,
    );
  });

  test("and to none that need not cut there", () => {
    const player = masterPlayer({ history: "1@1 3@5", last: "3/6" });
    play(player, `> peers r:1\n> flush\n> opened #1`);
    expectPlayed(
      player,
      `> #1 -> welcome history 1@1 last 1/4 floor 4
       met r at r:1
       read mark 4 for #1`,
    );
  });

  test("asks whether the replica is there while the state is not ready, and gives up one that is silent", () => {
    const player = compacted();
    play(player, `> #1 -> welcome history 1@1 last 1/2`);
    expectPlayed(
      player,
      `> pass 1000
       > flush
       #1 <- heartbeat commit 0, echo 0, answer
       > #1 -> snapshotAck received 0
       > pass 4999
       > flush
       #1 <- heartbeat commit 0, echo 0, answer
       > pass 1
       > flush
       hang up #1
       unreached at r:1: the node has been silent for 5000 ms`,
    );
  });

  test("forgets the file when the connection breaks, and what comes late for it", () => {
    expectPlayed(
      sending(),
      `> lost #1
       hang up #1
       unreached at r:1: reset
       > bytes 300 for #1
       > transfer t size 900 for #1`,
    );
  });

  test("gives up when its file cannot be read", () => {
    expectPlayed(
      sending(),
      `> unreadable #1
       hang up #1
       unreached at r:1: no such record`,
    );
  });

  test("has another file made when the replica finds this one damaged", () => {
    expectPlayed(
      sending(),
      `> #1 -> reject damaged_snapshot
       spoil transfer of #1
       hang up #1
       refused at r:1: damaged_snapshot`,
    );
  });

  test.each([
    ["more than was sent", "snapshotAck id t received 600"],
    ["less than before", "snapshotAck id t received 99"],
    ["another file", "snapshotAck id u received 100"],
  ])("gives up a replica that acknowledges %s", (_what, message) => {
    expect(play(sending(), `> #1 -> ${message}`)).toContain("hang up #1");
  });

  test("gives up a replica that has more of the file than there is", () => {
    const player = compacted();
    play(player, `> #1 -> welcome history 1@1 last 1/2\n> transfer t size 900 for #1`);
    expect(play(player, `> #1 -> snapshotAck id t received 901`)).toContain("hang up #1");
  });

  test("makes sure of a replica that registers while it is being sent the state", () => {
    expectPlayed(
      sending(),
      `> retry r:1
       #1 <- heartbeat commit 0, echo 0, answer
       > pass 1000
       > flush
       hang up #1
       unreached at r:1: the node has been silent for 1000 ms`,
    );
  });
});

describe("a replica", () => {
  const welcomed = (): Player => {
    const player = replicaPlayer({ history: "1@1", last: "1/5", promised: 1 });
    play(player, `> accepted s1\n> s1 <- hello history 1@1 last 1/9`);
    return player;
  };

  /** The same, with 100 of 900 bytes. */
  const receiving = (): Player => {
    const player = welcomed();
    play(player, `> s1 <- offer t size 900\n> staged 100`);
    return player;
  };

  test("says what it has of a file, writes what comes, checks the whole, and starts anew", () => {
    expectPlayed(
      welcomed(),
      `> s1 <- offer t size 900
       stage t, 900 bytes
       > staged 100
       follow m at m:1
       s1 -> snapshot ack t, received 100
       > s1 <- chunk t offset 100 bytes 300
       write 300 bytes at 100
       > s1 <- chunk t offset 400 bytes 500
       write 500 bytes at 400
       > wrote 300 s1
       s1 -> snapshot ack t, received 400
       > wrote 500 s1
       s1 -> snapshot ack t, received 900
       install
       > done
       close s1: this node starts anew with the state that its master sent
       orphaned
       restart`,
    );
  });

  test("acknowledges nothing any more once it starts anew", () => {
    const player = receiving();
    play(player, `> s1 <- chunk t offset 100 bytes 800\n> wrote 800 s1\n> done`);
    expectPlayed(
      player,
      `> accepted s2
       > s2 <- hello history 1@1 last 1/9
       s2 -> reject not_a_replica, promised 1
       close s2: this node starts anew with the state that its master sent`,
    );
  });

  test("checks a file at once of which nothing is missing", () => {
    expectPlayed(
      welcomed(),
      `> s1 <- offer t size 900
       stage t, 900 bytes
       > staged 900
       follow m at m:1
       s1 -> snapshot ack t, received 900
       install`,
    );
  });

  test("says that it is there while it waits for an offer, receives, and checks", () => {
    expectPlayed(
      welcomed(),
      `> s1 <- heartbeat answer
       master time 7000
       s1 -> snapshot ack -, received 0
       > pass 4000
       > s1 <- heartbeat answer
       master time 7000
       s1 -> snapshot ack -, received 0
       > pass 4999
       > flush
       > s1 <- offer t size 900
       stage t, 900 bytes
       > staged 0
       follow m at m:1
       s1 -> snapshot ack t, received 0
       > s1 <- heartbeat answer
       master time 7000
       s1 -> snapshot ack t, received 0
       > s1 <- chunk t offset 0 bytes 900
       write 900 bytes at 0
       > wrote 900 s1
       s1 -> snapshot ack t, received 900
       install
       > s1 <- heartbeat answer
       master time 7000
       s1 -> snapshot ack t, received 900
       > pass 5001
       > flush`,
    );
  });

  test("ends the session of a master that falls silent", () => {
    expectPlayed(
      receiving(),
      `> pass 5000
       > flush
       close s1: the master has been silent for too long
       orphaned`,
    );
  });

  test("rejects a damaged file", () => {
    const player = receiving();
    play(player, `> s1 <- chunk t offset 100 bytes 800\n> wrote 800 s1`);
    expectPlayed(
      player,
      `> damaged
       s1 -> reject damaged_snapshot, promised 1
       close s1: a chunk is damaged
       orphaned`,
    );
  });

  test("goes on checking when the master is gone, and starts anew all the same", () => {
    const player = receiving();
    play(player, `> s1 <- chunk t offset 100 bytes 800\n> wrote 800 s1`);
    expectPlayed(
      player,
      `> left s1
       orphaned
       > accepted s2
       > s2 <- hello history 1@1 last 1/9
       > done
       close s2: this node starts anew with the state that its master sent
       restart`,
    );
  });

  test("ends the session when there is no room, and when the file cannot be looked up or checked", () => {
    expectPlayed(
      receiving(),
      `> s1 <- chunk t offset 100 bytes 300
       write 300 bytes at 100
       > unwritten s1
       close s1: the state that the master sends cannot be written: no room
       orphaned
       > wrote 300 s1`,
    );
    const player = welcomed();
    play(player, `> s1 <- offer t size 900`);
    expect(play(player, `> failed`)).toContain("close s1: staging failed: no room");
  });

  test.each([
    ["a chunk that leaves something out", "chunk t offset 200 bytes 100"],
    ["a chunk that came before", "chunk t offset 0 bytes 100"],
    ["an empty chunk", "chunk t offset 100 bytes 0"],
    ["a chunk beyond the end", "chunk t offset 100 bytes 801"],
    ["a chunk of another file", "chunk u offset 100 bytes 100"],
    ["another offer", "offer u size 900"],
    ["Align", "align at 1/5"],
    ["records", "append after 1/5 records 6-7"],
  ])("ends the session for %s", (_what, message) => {
    expect(play(receiving(), `> s1 <- ${message}`)).toMatch(/close s1: /);
  });

  test("takes no chunk before an offer", () => {
    expect(play(welcomed(), `> s1 <- chunk t offset 0 bytes 100`)).toContain("close s1: ");
  });

  test("leaves the file to the newer one of two masters", () => {
    expectPlayed(
      receiving(),
      `> s1 <- chunk t offset 100 bytes 300
       write 300 bytes at 100
       > accepted s2
       > s2 <- hello history 1@1 last 1/9
       close s1: a newer connection of a master has taken its place
       orphaned
       s2 -> welcome promised 1, history 1@1, last 1/5
       > wrote 300 s1
       > s2 <- offer t size 900
       stage t, 900 bytes
       > staged 400
       follow m at m:1
       s2 -> snapshot ack t, received 400`,
    );
  });
});
