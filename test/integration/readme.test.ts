/** What README.md shows is what happens. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePortRun } from "../harness/ports.js";
import { childEnvironment, root, runProgram } from "../harness/programs.js";
import { status } from "../harness/rpc.js";
import { until } from "../harness/until.js";

/** The first block in a language that contains `text`. */
async function blockWith(language: string, text: string): Promise<string> {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const blocks = [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\``, "gm"))].map(
    ([, block]) => block!,
  );
  const found = blocks.find((block) => block.includes(text));
  if (found === undefined) throw new Error(`README.md has no block of ${language} with ${text}`);
  return found;
}

/** A folder for the PATH, with the programs under the names that package.json gives them. */
async function installIn(directory: string): Promise<string> {
  const bin = path.join(directory, "bin");
  await mkdir(bin);
  const { bin: names } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")) as {
    bin: Record<string, string>;
  };
  for (const [name, file] of Object.entries(names)) await symlink(path.join(root, file), path.join(bin, name));
  return bin;
}

/** Runs lines in a shell that stays until its jobs have ended, and ends all of them with the test. */
function pasteInto(folder: string, lines: string, PATH: string): ChildProcess {
  const shell = spawn("sh", ["-c", `${lines}\nwait`], {
    cwd: folder,
    env: childEnvironment({ PATH }),
    detached: true,
    stdio: "ignore",
  });
  onTestFinished(async () => {
    const gone = once(shell, "close");
    process.kill(-shell.pid!, "SIGKILL");
    await gone;
  });
  return shell;
}

test("three nodes come up when its lines are pasted in an empty folder, and hand the mastership on as it says", async () => {
  const directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const PATH = `${await installIn(directory)}${path.delimiter}${process.env.PATH}`;
  const folder = path.join(directory, "empty");
  await mkdir(folder);

  const first = await freePortRun(3);
  const addresses = [0, 1, 2].map((offset) => `127.0.0.1:${first + offset}`);
  const onThese = (text: string): string =>
    text
      .replaceAll("808$n", `$((${first} + n - 1))`)
      .replaceAll(/127\.0\.0\.1:808([123])/g, (_, n) => addresses[n - 1]!);
  pasteInto(folder, onThese(await blockWith("sh", "cambium-master --config node-1.yaml")), PATH);
  const following = (master: string): Promise<unknown> =>
    until(`all follow ${master}`, async () => {
      const states = await Promise.all(addresses.map((address) => status(address)));
      return states.every(({ ready, masterAddress }) => ready && masterAddress === master);
    });
  await following(addresses[0]!);

  const commands = onThese(await blockWith("sh", "cambium promote"));
  const [show, transfer, promote] = commands.split("\n").map((line) => line.replace(/ *#.*/, "").split(" ").slice(1));
  const cambium = (args: readonly string[]): ReturnType<typeof runProgram> =>
    runProgram("cambium", args, { env: { CAMBIUM_ENDPOINTS: addresses.join(",") } });
  expect(await cambium(show!)).toMatchObject({ code: 0, stdout: expect.stringContaining("3 voters") as string });
  expect(await cambium(transfer!)).toMatchObject({ code: 0 });
  await following(addresses[1]!);
  expect(await cambium(promote!)).toMatchObject({ code: 0 });
  await following(addresses[2]!);
});
