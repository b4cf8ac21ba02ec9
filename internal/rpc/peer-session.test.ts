import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { PeerSession, type PeerSessionOptions } from "./peer-session.js";

const options = (clock: FakeClock): PeerSessionOptions => ({
  clock,
  connectTimeoutMs: 5000,
  pingIntervalMs: 10_000,
  pingTimeoutMs: 5000,
  // As behind a network that swallows everything: it neither connects nor fails.
  lookup: () => undefined,
});

test("a session that is ended before it has connected is closed at once, and not when connecting is given up", async () => {
  let session: PeerSession | undefined;
  const reason = await new Promise((closed) => {
    const opened = (): void => expect.fail("nobody is there");
    session = new PeerSession("http://nobody:1", options(new FakeClock()), { opened, closed });
    session.destroy();
  });
  expect(reason).toBe("the connection was closed");
  expect(session?.isUsable).toBe(false);
});

test("a session that does not connect in time is closed, and says so", async () => {
  const clock = new FakeClock();
  const reason = await new Promise((closed) => {
    const opened = (): void => expect.fail("nobody is there");
    const session = new PeerSession("http://nobody:1", options(clock), { opened, closed });
    expect(session.isUsable).toBe(true);
    clock.advance(5000);
  });
  expect(reason).toBe("nothing answered within 5000 ms");
});
