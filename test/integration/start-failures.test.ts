/** What stops a server from starting is one clear line for a person, and an exit code for a script. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { beforeAll, afterAll, describe, expect, onTestFinished, test } from "vitest";
import { TestNode } from "../harness/node.js";
import { takePort } from "../harness/ports.js";
import { type Program, runProgram, spawnProgram } from "../harness/programs.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "cambium-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

let files = 0;
async function configFile(text: string): Promise<string> {
  const file = path.join(directory, `config-${++files}.yaml`);
  await writeFile(file, text);
  return file;
}

function oneLine(text: string): RegExp {
  return new RegExp(`^[^\\n]*${text}[^\\n]*\\n$`);
}

describe.each(["master", "replica"] as Program[])("%s", (program) => {
  test("a bad configuration: every problem with its place, exit code 2", async () => {
    const file = await configFile("server:\n  port: eighty\n  colour: red\nwal:\n  sync_interval: 1 fortnight\n");
    const { code, stderr } = await runProgram(program, ["--config", file]);
    expect(code).toBe(2);
    expect(stderr).toContain(`${file}:2:`);
    expect(stderr).toContain(`${file}:3:`);
    expect(stderr).toContain(`${file}:5:`);
  });

  test("a configuration that is not there: one line, exit code 2", async () => {
    const { code, stderr } = await runProgram(program, ["--config", path.join(directory, "nowhere.yaml")]);
    expect(code).toBe(2);
    expect(stderr).toContain("nowhere.yaml");
    expect(stderr).not.toContain("    at ");
  });

  test("no configuration and unknown flags: exit code 2", async () => {
    expect((await runProgram(program, [])).code).toBe(2);
    expect((await runProgram(program, ["--colour", "red"])).code).toBe(2);
  });

  test("--help and --version: exit code 0", async () => {
    expect((await runProgram(program, ["--help"])).code).toBe(0);
    expect(await runProgram(program, ["--version"])).toMatchObject({ code: 0, stdout: "0.1.0\n" });
  });

  test("a port in use: one line that names it, exit code 1", async () => {
    const { port, release } = await takePort();
    onTestFinished(release);
    const data = path.join(directory, `${program}-port`);
    const file = await configFile(`server: { port: ${port} }\nwal: { directory: ${JSON.stringify(data)} }\n`);
    const { code, stderr } = await runProgram(program, ["--config", file]);
    expect(stderr).toMatch(oneLine(String(port)));
    expect(code).toBe(1);
  });

  test("a directory in use: one line that names it, exit code 1, and the first process goes on", async () => {
    const node = new TestNode({
      program: program as "master" | "replica",
      directory: path.join(directory, `${program}-twice`),
    });
    onTestFinished(async () => {
      if (node.running) await node.kill();
    });
    await node.start();
    const file = await configFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(node.dataDirectory)} }\n`);
    const { code, stderr } = await runProgram(program, ["--config", file]);
    expect(stderr).toMatch(oneLine(`${node.dataDirectory}.*in use`));
    expect(code).toBe(1);
    expect(await node.stop()).toBe(0);
  });

  test("a directory that cannot be made: one line that names it, exit code 1", async () => {
    // A file in its way stops root as well, whom permissions do not.
    const file = path.join(directory, `${program}-file`);
    await writeFile(file, "");
    const data = path.join(file, "data");
    const config = await configFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(data)} }\n`);
    const { code, stderr } = await runProgram(program, ["--config", config]);
    expect(stderr).toMatch(oneLine(data));
    expect(code).toBe(1);
  });

  test("a file in the place of the directory: one line that says so, exit code 1, and the file stays", async () => {
    const data = path.join(directory, `${program}-plain-file`);
    await writeFile(data, "precious");
    const config = await configFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(data)} }\n`);
    const { code, stderr } = await runProgram(program, ["--config", config]);
    expect(stderr).toMatch(oneLine(`wal.directory ${data} is a file, not a directory`));
    expect(code).toBe(1);
    expect(await readFile(data, "utf8")).toBe("precious");
  });

  test("a directory that others may enter: it starts, and says how to close it", async () => {
    const node = new TestNode({
      program: program as "master" | "replica",
      directory: path.join(directory, `${program}-open`),
    });
    onTestFinished(async () => {
      if (node.running) await node.kill();
    });
    await mkdir(node.dataDirectory, { recursive: true });
    await chmod(node.dataDirectory, 0o755);
    await node.start();
    const [warning] = node.log.filter(({ level }) => level === "warn").map(({ msg }) => msg);
    expect(warning).toContain(`chmod 700 ${node.dataDirectory}`);
    expect(await node.stop()).toBe(0);
  });

  test("SIGTERM before it has started: it leaves in order, with exit code 0", async () => {
    // A program that reads its configuration from a pipe waits for whoever writes it.
    const pipe = path.join(directory, `${program}.pipe`);
    await promisify(execFile)("mkfifo", [pipe]);
    const child = spawnProgram(program, ["--config", pipe]);
    let stdout = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    const closed = once(child, "close");
    const writer = await open(pipe, "w");
    child.kill("SIGTERM");
    const data = path.join(directory, `${program}-early`);
    await writer.writeFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(data)} }\nlog: { format: json }\n`);
    await writer.close();
    expect(await closed).toEqual([0, null]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg).slice(-2)).toEqual(["draining", "stopped"]);
  });

  test("the end of standard input is a wish to leave, where it is asked for", async () => {
    const data = path.join(directory, `${program}-stdin`);
    const config = await configFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(data)} }\n`);
    const { code, stdout } = await runProgram(program, ["--config", config, "--until-stdin-ends"]);
    expect(stdout).toContain('"msg":"draining"');
    expect(code).toBe(0);
  });

  test("a directory without permission: one line that names it, exit code 1, and nothing is written", async () => {
    const data = path.join(directory, `${program}-locked`, "data");
    await mkdir(data, { recursive: true });
    await chmod(data, 0o500);
    const config = await configFile(`server: { port: 0 }\nwal: { directory: ${JSON.stringify(data)} }\n`);
    const { code, stderr } = await runProgram(program, ["--config", config], { permissionsBind: true });
    expect(stderr).toMatch(oneLine(data));
    expect(code).toBe(1);
    expect(await readdir(data)).toEqual([]);
  });
});
