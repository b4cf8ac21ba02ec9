import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeCluster } from "../../api/client/testing/fake-cluster.js";
import { Acknowledge } from "../../api/gen/cambium/v1/types_pb.js";
import { cambium, type Outcome, type TestTerminalOptions } from "./testing/test-terminal.js";

let cluster: FakeCluster;
beforeEach(async () => {
  cluster = await new FakeCluster().start(3);
});
afterEach(() => cluster.close());

const endpoint = (node: number): string => cluster.nodes[node]!.address;
const run = (args: readonly string[], options: TestTerminalOptions = {}): Promise<Outcome> =>
  cambium(["--endpoints", endpoint(0), ...args], options);
const roles = (): string[] => cluster.nodes.map(({ role }) => role);

describe("promote", () => {
  test("makes the named node master, whatever the endpoints are", async () => {
    expect(await run(["promote", endpoint(1)])).toEqual(
      expect.objectContaining({
        exitCode: 0,
        stdout: `${endpoint(1)} is master of epoch 2, from seq 2 on\n`,
        stderr: "",
      }),
    );
    expect(roles()).toEqual(["replica", "master", "replica"]);
  });

  test("takes the only endpoint where no node is named, and no guess among several", async () => {
    expect((await cambium(["promote", "-e", endpoint(2)])).exitCode).toBe(0);
    expect(roles()).toEqual(["replica", "replica", "master"]);
    expect(await cambium(["promote", "-e", `${endpoint(0)},${endpoint(1)}`])).toMatchObject({
      exitCode: 2,
      stderr: `cambium: say which node to promote: cambium promote ${endpoint(0)} or ${endpoint(1)}\n`,
    });
  });

  test("prints the new epoch as JSON", async () => {
    const { stdout } = await run(["promote", endpoint(1), "--json"]);
    expect(JSON.parse(stdout)).toEqual({ node: endpoint(1), position: { epoch: 2, seq: 2 } });
  });

  test("that is refused is exit code 1 with the reason", async () => {
    await cluster.nodes[0]!.close();
    expect(await run(["promote", endpoint(1)])).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: "cambium: no majority of the voters answers\n",
    });
    expect(await run(["promote", "nobody"])).toMatchObject({ exitCode: 2 });
  });

  describe("with --force", () => {
    beforeEach(() => cluster.nodes[0]!.close());
    const force = (options: TestTerminalOptions, ...flags: string[]): Promise<Outcome> =>
      cambium(["promote", endpoint(1), "--force", ...flags], options);

    test("says what may be lost, asks, and goes on at yes", async () => {
      const { exitCode, stdout, stderr } = await force({ isTerminal: true, stdin: "yes\n" });
      expect(exitCode).toBe(0);
      expect(stderr).toContain(`- No answer from ${endpoint(0)}. What only they have is lost`);
      expect(stderr).toContain("may still be acknowledging writes, and those will be lost too. Stop it first.");
      expect(stderr).toContain(`Promote ${endpoint(1)} by force? (yes or no)`);
      expect(stdout).toContain(`${endpoint(1)} is master of epoch 2, from seq 2 on\n`);
      expect(stdout).toContain(`not reached: ${endpoint(0)}; no lost record is known, and there may be more\n`);
    });

    test.each(["no\n", "\n", "", "yesterday\n"])("does nothing at the answer %j", async (stdin) => {
      expect(await force({ isTerminal: true, stdin })).toMatchObject({ exitCode: 1, stdout: "" });
      expect(roles()).toEqual(["master", "replica", "replica"]);
    });

    test("does not ask with --yes", async () => {
      const { exitCode, stderr } = await force({}, "--yes");
      expect(exitCode).toBe(0);
      expect(stderr).toContain("What only they have is lost");
      expect(stderr).not.toContain("(yes or no)");
    });

    test("is wrong usage where nobody can be asked, and so is --yes by itself", async () => {
      expect(await force({ stdin: "yes\n" })).toMatchObject({ exitCode: 2, stdout: "" });
      expect(await run(["promote", endpoint(1), "--yes"])).toMatchObject({
        exitCode: 2,
        stderr: "cambium: --yes goes with --force\n",
      });
      expect(roles()).toEqual(["master", "replica", "replica"]);
    });

    test("prints all of it as JSON, with the warning beside", async () => {
      const { stdout } = await force({}, "--yes", "--json");
      expect(JSON.parse(stdout)).toEqual({
        node: endpoint(1),
        position: { epoch: 2, seq: 2 },
        unreached: [endpoint(0)],
        knownLostRecords: 0,
      });
    });

    test("can be interrupted at the question", async () => {
      const controller = new AbortController();
      const onStderr = (text: string): void => {
        if (text.includes("(yes or no)")) controller.abort();
      };
      const outcome = await force({ isTerminal: true, stdin: undefined as never, signal: controller.signal, onStderr });
      expect(outcome.exitCode).toBe(130);
      expect(roles()).toEqual(["master", "replica", "replica"]);
    });
  });
});

describe("transfer", () => {
  test("hands over to the named node, by address or id, or to whichever the master chooses", async () => {
    expect(await run(["transfer", endpoint(2)])).toMatchObject({
      exitCode: 0,
      stdout: `${endpoint(2)} is master of epoch 2; no writes were taken for 7 ms\n`,
      stderr: "",
    });
    expect((await run(["transfer", "01".repeat(16)])).exitCode).toBe(0);
    expect(roles()).toEqual(["replica", "master", "replica"]);
    const { stdout } = await run(["transfer", "--json"]);
    expect(JSON.parse(stdout)).toEqual({ nodeId: "00".repeat(16), address: endpoint(0), epoch: 2, pauseMs: 7 });
  });

  test("to nobody that is known is exit code 1, and to no address exit code 2", async () => {
    expect(await run(["transfer", "nobody:1"])).toMatchObject({ exitCode: 1, stderr: "cambium: no member fits\n" });
    expect((await run(["transfer", "nobody"])).exitCode).toBe(2);
  });
});

describe("freshness", () => {
  test("is asked for by get and scan as the flags say", async () => {
    await run(["set", "k", "v"]);
    await run(["get", "k"]);
    await run(["get", "k", "--linearizable"]);
    await run(["scan", "--max-staleness", "2s", "--at-least", "2"]);
    expect(cluster.nodes[0]!.consistencies).toEqual([
      undefined,
      expect.objectContaining({ linearizable: true }),
      expect.objectContaining({ maxStalenessMs: 2000n, atLeastSeq: 2n }),
    ]);
  });

  test("of a write is carried to a read by its token", async () => {
    const { token } = JSON.parse((await run(["set", "k", "v", "--json"])).stdout) as { token: string };
    cluster.nodes[1]!.appliedSeq = 1n;
    const read = await cambium(["get", "k", "--at-least", token, "-e", endpoint(1), "--timeout", "300ms"]);
    expect(read.exitCode).toBe(1);
    cluster.nodes[1]!.appliedSeq = undefined;
    expect((await cambium(["get", "k", "--at-least", token, "-e", endpoint(1)])).stdout).toBe("v");
  });

  test("has its counterpart in when set and del are answered", async () => {
    await run(["set", "k", "v", "--acknowledge", "all"]);
    await run(["del", "k", "--acknowledge", "master"]);
    await run(["set", "k", "v"]);
    expect(cluster.nodes[0]!.acknowledges).toEqual([Acknowledge.ALL, Acknowledge.MASTER, Acknowledge.UNSPECIFIED]);
    expect((await run(["set", "k", "v", "--acknowledge", "some"])).exitCode).toBe(2);
  });
});
