/** Files of configurations: the file itself, and the cluster's secret that it names. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError, loadConfig, type NodeConfig, printConfig } from "./config.js";

let directory: string;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "cambium-"));
});
afterEach(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

function write(name: string, content: string | Uint8Array, mode = 0o600): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, content);
  fs.chmodSync(file, mode);
  return file;
}

function load(file: string): NodeConfig {
  return loadConfig({ kind: "master", file, environment: {} });
}

function problemsOf(file: string): string {
  try {
    load(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message;
  }
  return "";
}

/** A configuration whose secret is in `secretFile`. */
function configWith(secretFile: string): string {
  return write("node.yaml", `wal: { directory: /data }\ncluster: { secret_file: ${JSON.stringify(secretFile)} }\n`);
}

describe("the configuration file", () => {
  test("is read from the disk", () => {
    const file = write("node.yaml", "wal: { directory: /data }", 0o644);
    expect(load(file).wal.directory).toBe(path.resolve("/data"));
    expect(load(file).file).toBe(file);
  });

  test("that is not there is one clear line", () => {
    const file = path.join(directory, "none.yaml");
    expect(problemsOf(file)).toBe(
      `${file}: does not exist; name a configuration with --config, for instance one of those in configs/`,
    );
  });

  test("that is a directory is one clear line", () => {
    expect(problemsOf(directory)).toBe(`${directory}: is a directory; name the file in it`);
  });

  test("of ten megabytes is refused for its size, and not read to its end", () => {
    const file = write("large.yaml", "# comment\n".repeat(1_048_576));
    expect(problemsOf(file)).toBe(`${file}: is larger than 1048576 bytes, which no configuration needs`);
  });

  test("that is larger than allowed and ends within a character at the limit is refused for its size", () => {
    const file = write("large.yaml", `#${"é".repeat(1_048_576)}`);
    expect(problemsOf(file)).toBe(`${file}: is larger than 1048576 bytes, which no configuration needs`);
  });

  test("that is no UTF-8 is refused as such", () => {
    const file = write("latin1.yaml", Buffer.from("# caf\xe9\n", "latin1"));
    expect(problemsOf(file)).toBe(`${file}: is no text in UTF-8; save it as such`);
  });
});

describe("the cluster's secret", () => {
  const secret = "correct horse battery staple";

  test.each(["", "\n", "\r\n"])("is the content of its file without the line break %j at its end", (lineBreak) => {
    const config = load(configWith(write("secret", secret + lineBreak)));
    expect(Buffer.from(config.cluster.secret!).toString()).toBe(secret);
    expect(config.cluster.secretFile).toBe(path.join(directory, "secret"));
  });

  test("may be any bytes, and only one line break is cut", () => {
    const bytes = Uint8Array.from({ length: 20 }, (_, index) => (index < 10 ? 255 - index : 10));
    expect(load(configWith(write("secret", bytes))).cluster.secret).toEqual(bytes.subarray(0, 19));
  });

  test("is not shown by anything that prints a configuration", () => {
    const config = load(configWith(write("secret", secret)));
    expect(printConfig(config)).toContain(`secret_file: ${path.join(directory, "secret")} # content: (hidden)`);
    const encoded = [secret, Buffer.from(secret).toString("base64"), [...Buffer.from(secret)].join(",")];
    for (const shown of [printConfig(config), JSON.stringify(config), inspect(config, { depth: 10 })]) {
      for (const form of encoded) expect(shown.replaceAll(/\s/g, "")).not.toContain(form.replaceAll(/\s/g, ""));
    }
  });

  test.each<[string, string, string]>([
    ["too short", "fifteen bytes!!", "must hold a secret of 16 to 1024 bytes, not 15"],
    ["empty", "\n", "must hold a secret of 16 to 1024 bytes, not 0"],
    ["too long", "x".repeat(1025), "must hold a secret of 16 to 1024 bytes, not more than 1024"],
    ["far too long", "x".repeat(100_000), "not more than 1024"],
  ])("that is %s is refused without being shown", (_, content, why) => {
    const message = problemsOf(configWith(write("secret", content)));
    expect(message).toContain(why);
    expect(message).toMatch(/node\.yaml:2:25: cluster\.secret_file: /);
    if (content.trim() !== "") expect(message).not.toContain(content.trim());
  });

  test.each([16, 1024])("of %d bytes is as it should be", (length) => {
    expect(load(configWith(write("secret", `${"x".repeat(length)}\r\n`))).cluster.secret).toHaveLength(length);
  });

  test.each([0o640, 0o604, 0o620, 0o602, 0o666])(
    "that others may touch (mode %o) is refused, with the way out",
    (mode) => {
      const file = write("secret", secret, mode);
      expect(problemsOf(configWith(file))).toContain(
        `"${file}" can be read by others than its owner (mode ${mode.toString(8)}); run: chmod 600 "${file}"`,
      );
    },
  );

  test("that is not there is told at its place, with the other problems", () => {
    const file = write("node.yaml", `cluster: { secret_file: ${directory}/none }\nserver: { port: x }\n`);
    const lines = problemsOf(file).split("\n");
    expect(lines).toHaveLength(3);
    expect(lines).toContainEqual(expect.stringMatching(/:1:25: cluster\.secret_file: .*none" cannot be read: ENOENT/));
  });

  test("that is no ordinary file is refused at once", () => {
    expect(problemsOf(configWith(directory))).toContain("is no ordinary file");
    expect(problemsOf(configWith("/dev/zero"))).toContain("is no ordinary file");
    const pipe = path.join(directory, "pipe");
    expect(spawnSync("mkfifo", ["-m", "600", pipe]).status).toBe(0);
    expect(problemsOf(configWith(pipe))).toContain("is no ordinary file");
  });

  test("can be named by the environment, which is then named in errors", () => {
    const file = write("node.yaml", "wal: { directory: /data }");
    const none = path.join(directory, "none");
    const environment = { CAMBIUM_CLUSTER__SECRET_FILE: none };
    expect(() => loadConfig({ kind: "master", file, environment })).toThrow(
      /^CAMBIUM_CLUSTER__SECRET_FILE: cluster\.secret_file: .* cannot be read: ENOENT/,
    );
  });
});
