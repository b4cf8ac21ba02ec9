import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cautions, ConfigError, type NodeConfig, parseConfig } from "./config.js";
import { readTlsFiles, TlsFileError, validUntilMs } from "./tls-files.js";

const fixtures = path.resolve(import.meta.dirname, "../rpc/testing/tls");
const of = (file: string): string => path.join(fixtures, `test-only-${file}`);
const node = { certFile: of("node.crt"), keyFile: of("node.key"), caFile: of("ca.crt") };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "cambium-tls-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

describe("the files of TLS", () => {
  test("are read as they are, with a chain where there is one", () => {
    expect(readTlsFiles(node)).toEqual({
      cert: readFileSync(node.certFile, "utf8"),
      key: readFileSync(node.keyFile, "utf8"),
      ca: readFileSync(node.caFile, "utf8"),
    });
    const chain = write("chain", readFileSync(node.certFile, "utf8") + readFileSync(node.caFile, "utf8"));
    expect(Object.keys(readTlsFiles({ ...node, certFile: chain }))).toEqual(["cert", "key", "ca"]);
    const { certFile, keyFile } = node;
    expect(Object.keys(readTlsFiles({ certFile, keyFile }))).toEqual(["cert", "key"]);
    expect(validUntilMs(readTlsFiles(node))).toBeGreaterThan(Date.UTC(2100, 0));
  });

  test.each<[string, () => Partial<typeof node>, RegExp]>([
    ["a certificate that is not there", () => ({ certFile: "/none" }), /"\/none" cannot be read: ENOENT/],
    ["a directory", () => ({ keyFile: folder }), /cannot be read: EISDIR/],
    ["the two exchanged", () => ({ certFile: node.keyFile }), /node\.key" holds a key, and no certificate/],
    ["a certificate for a key", () => ({ keyFile: node.certFile }), /node\.crt" holds no private key/],
    ["the key of another one", () => ({ keyFile: of("client.key") }), /client\.key" is the key of another certificate/],
    ["an empty file", () => ({ certFile: write("empty", "") }), /holds no certificate in PEM/],
    ["an authority that is none", () => ({ caFile: write("ca", "hello") }), /ca" holds no certificate in PEM/],
    [
      "a damaged certificate",
      () => ({ certFile: write("bad", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") }),
      /its certificate 1 is damaged/,
    ],
    [
      "an encrypted key",
      () => ({
        keyFile: write("enc", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
      }),
      /enc" is encrypted/,
    ],
  ])("are refused in words: %s", (_name, change, message) => {
    expect(() => readTlsFiles({ ...node, ...change() })).toThrow(TlsFileError);
    expect(() => readTlsFiles({ ...node, ...change() })).toThrow(message);
  });
});

describe("the sections of TLS", () => {
  const parse = (text: string): NodeConfig =>
    parseConfig({ kind: "master", file: "node.yaml", text: `wal: { directory: /d }\n${text}`, environment: {} });
  const problems = (text: string): string[] => {
    try {
      parse(text);
      return [];
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return error.message.split("\n");
    }
  };

  test("become absolute paths", () => {
    expect(parse("").tls).toBeUndefined();
    expect(parse("tls: { cert_file: a.crt, key_file: a.key, ca_file: ca.crt, client_auth: optional }").tls).toEqual({
      certFile: path.resolve("a.crt"),
      keyFile: path.resolve("a.key"),
      caFile: path.resolve("ca.crt"),
      clientAuth: "optional",
    });
    const peers = 'replication: { listen: "0.0.0.0:8090", cert_file: /a, key_file: /b, ca_file: /c }';
    expect(parse(peers).replication.peers).toEqual({
      host: "0.0.0.0",
      port: 8090,
      certFile: "/a",
      keyFile: "/b",
      caFile: "/c",
    });
  });

  test.each([
    ["tls: { cert_file: a }", "tls.cert_file: needs key_file beside it"],
    ["tls: { key_file: a }", "tls.key_file: needs cert_file beside it"],
    ["tls: { client_auth: required }", "which needs cert_file, key_file and ca_file"],
    ["tls: { cert_file: a, key_file: b, client_auth: optional }", "which needs cert_file, key_file and ca_file"],
    ["tls: { client_auth: maybe }", "must be one of none, optional, required"],
    ['replication: { listen: "0.0.0.0:1" }', "replication.listen: needs cert_file, key_file, ca_file beside it"],
    ["replication: { ca_file: a, key_file: b }", "needs listen, cert_file beside it"],
    ["replication: { listen: 8090, cert_file: a, key_file: b, ca_file: c }", "must be a host and a port"],
  ])("are refused where something is missing: %s", (text, message) => {
    expect(problems(text).join("\n")).toContain(message);
  });

  test("are told of where nodes could not prove themselves to each other", () => {
    const nodes = 'cluster: { nodes: ["127.0.0.1:8080", "127.0.0.1:1", "127.0.0.1:2"] }';
    const known = "server: { identity_file: /ids }";
    const missing = expect.stringContaining("neither cluster.secret_file nor replication.listen");
    expect(cautions(parse(`${nodes}\n${known}`))).toEqual([missing]);
    expect(cautions(parse(known))).toEqual([]);
    const peers = 'replication: { listen: "0.0.0.0:8090", cert_file: /a, key_file: /b, ca_file: /c }';
    expect(cautions(parse(`${nodes}\n${known}\n${peers}`))).toEqual([]);
  });
});
