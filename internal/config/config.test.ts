import path from "node:path";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import {
  addressOf,
  cautions,
  ConfigError,
  type NodeConfig,
  type NodeKind,
  parseConfig,
  printConfig,
} from "./config.js";

type Environment = Readonly<Record<string, string>>;

const minimal = "wal: { directory: /data }";

function parse(text: string, kind: NodeKind = "master", environment: Environment = {}): NodeConfig {
  return parseConfig({ kind, file: "node.yaml", text, environment });
}

/** The lines of the error that the text gives. */
function problems(text: string, kind: NodeKind = "master", environment: Environment = {}): string[] {
  try {
    parse(text, kind, environment);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.split("\n");
  }
  return [];
}

test("the first design's master file loads as it is", () => {
  const config = parse(`server:  { address: "0.0.0.0", port: 8080 }
wal:     { directory: "/var/log/kvstore/master", sync_interval: "1s", max_file_size: "100MB" }
storage: { max_entries: 1000000, eviction_policy: "lru" }
`);
  expect(config.server).toMatchObject({ host: "0.0.0.0", port: 8080 });
  expect(config.wal).toEqual({
    directory: "/var/log/kvstore/master",
    durability: "always",
    syncIntervalMs: 1000,
    segmentBytesMax: 100_000_000,
    historyBytes: 0,
  });
  expect(config.storage).toEqual({ entriesMax: 1_000_000, bytesMax: 0, evictionPolicy: "lru", isOrdered: true });
  expect(config.master).toBeUndefined();
});

test("the first design's replica file loads as it is", () => {
  const config = parse(
    `server:  { address: "0.0.0.0", port: 8081 }
master:  { address: "master:8080", sync_interval: "1s" }
wal:     { directory: "/var/log/kvstore/replica", sync_interval: "1s" }
`,
    "replica",
  );
  expect(config.master).toEqual({ address: "master:8080", heartbeatIntervalMs: 1000 });
});

test("one file for nodes that change their role says the heartbeat once; a replica's own goes before it", () => {
  const both = `${minimal}\nreplication: { sync_interval: 100ms }\nserver: { ready_max_staleness: 200ms }`;
  expect(parse(both, "master").replication.heartbeatIntervalMs).toBe(100);
  expect(parse(both, "replica").master).toEqual({ heartbeatIntervalMs: 100 });
  expect(parse(`${both}\nmaster: { sync_interval: 50ms }`, "replica").master).toEqual({ heartbeatIntervalMs: 50 });
});

test("the directory is all that must be given", () => {
  const config = parse(minimal);
  expect(config).toEqual({
    kind: "master",
    file: "node.yaml",
    server: {
      host: "127.0.0.1",
      port: 8080,
      corsOrigins: [],
      allowedHosts: [],
      protectedMode: true,
      drainTimeoutMs: 10_000,
      fastPath: true,
      forwardWrites: false,
      readyMaxStalenessMs: 0,
    },
    wal: {
      directory: path.resolve("/data"),
      durability: "always",
      syncIntervalMs: 1000,
      segmentBytesMax: 100_000_000,
      historyBytes: 0,
    },
    snapshots: { intervalMs: 600_000, logBytes: 2 ** 22, keep: 1 },
    records: { retentionAgeMs: 0, retentionBytes: 0, segmentBytesMax: 100_000_000 },
    clock: { jumpMsMax: 30 * 86_400_000 },
    retries: { bytesMax: 64_000_000, retentionMs: 3_600_000 },
    storage: { entriesMax: 0, bytesMax: 0, evictionPolicy: "noeviction", isOrdered: true },
    limits: {
      keyBytesMax: 4096,
      valueBytesMax: 2 ** 20,
      messageBytesMax: 2 ** 22,
      pendingBytesMax: 2 ** 26,
      maxReadWaitMs: 5000,
      watchesMax: 20_000,
      connectionsMax: 10_000,
      connectionsPerAddressMax: 5000,
      streamsMax: 256,
      callsMax: 20_000,
      arrivingBytesMax: 2 ** 28,
      unreadBytesMax: 2 ** 24,
      handshakeTimeoutMs: 10_000,
      headersTimeoutMs: 10_000,
      requestTimeoutMs: 60_000,
      idleTimeoutMs: 65_000,
      unreadTimeoutMs: 60_000,
    },
    replication: {
      replicas: [],
      heartbeatIntervalMs: 1000,
      batchBytes: 2 ** 20,
      windowBytes: 2 ** 23,
      retainedBytesMax: 2 ** 30,
      writeTimeoutMs: 10_000,
    },
    cluster: { nodes: [] },
    log: { level: "info", format: "auto", slowThresholdMs: 100 },
    settings: config.settings,
  });
  expect(parse(minimal, "replica").server.port).toBe(8081);
  expect(parse(minimal, "replica").master).toEqual({ heartbeatIntervalMs: 1000 });
});

test("every setting can be given", () => {
  const config = parse(
    `server:
  address: "[::1]"
  port: 0
  advertise: Replica-1:9000
  cors_origins: [https://app.example.com, "http://localhost:5173", capacitor://localhost, "*"]
  protected_mode: false
  drain_timeout: 2m
  fast_path: false
  forward_writes: true
  ready_max_staleness: 500ms
master: { address: "[2001:DB8:0::1]:8080", sync_interval: 250ms }
wal: { directory: data, durability: interval, sync_interval: 100ms, max_file_size: 65536 }
storage: { max_entries: 5, max_bytes: 1GiB, eviction_policy: ttl }
retries: { max_bytes: 2MiB, retention: 90s }
limits: { max_key_bytes: 100, max_value_bytes: 2MiB, max_message_bytes: 8MB, max_pending_bytes: 8MB, max_read_wait: 1s, max_watches: 7 }
replication:
  { replicas: ["a:1", "b:2"], sync_interval: 50ms, batch_bytes: 4KiB, window_bytes: 4KiB, commit: majority, write_timeout: 3s }
cluster: { nodes: [Node-1:9000, Replica-1:9000, "[::1]:9000"] }
log: { level: debug, format: json }
`,
    "replica",
  );
  expect(config).toMatchObject({
    server: {
      host: "::1",
      port: 0,
      advertise: "replica-1:9000",
      corsOrigins: ["https://app.example.com", "http://localhost:5173", "capacitor://localhost", "*"],
      protectedMode: false,
      drainTimeoutMs: 120_000,
      fastPath: false,
      forwardWrites: true,
      readyMaxStalenessMs: 500,
    },
    master: { address: "[2001:db8::1]:8080", heartbeatIntervalMs: 250 },
    wal: {
      directory: path.resolve("data"),
      durability: "interval",
      syncIntervalMs: 100,
      segmentBytesMax: 65_536,
      historyBytes: 0,
    },
    storage: { entriesMax: 5, bytesMax: 2 ** 30, evictionPolicy: "ttl", isOrdered: true },
    retries: { bytesMax: 2 ** 21, retentionMs: 90_000 },
    limits: {
      keyBytesMax: 100,
      valueBytesMax: 2 ** 21,
      messageBytesMax: 8e6,
      pendingBytesMax: 8e6,
      maxReadWaitMs: 1000,
      watchesMax: 7,
    },
    replication: {
      replicas: ["a:1", "b:2"],
      heartbeatIntervalMs: 50,
      batchBytes: 4096,
      windowBytes: 4096,
      commit: "majority",
      writeTimeoutMs: 3000,
    },
    cluster: { nodes: ["node-1:9000", "replica-1:9000", "[::1]:9000"] },
    log: { level: "debug", format: "json" },
  });
});

test("a configuration is frozen through and through", () => {
  const config = parse(`${minimal}\nreplication: { replicas: ["a:1"] }`);
  const objects: object[] = [config];
  for (const object of objects) {
    expect(Object.isFrozen(object)).toBe(true);
    objects.push(...Object.values(object).filter((value): value is object => typeof value === "object"));
  }
  expect(objects.length).toBeGreaterThan(15);
});

test("a section without keys, or with all of them in comments, has its defaults", () => {
  expect(parse(`${minimal}\nserver:\n  # port: 1\nstorage: {}\nlog: ~\n`).settings).toEqual(parse(minimal).settings);
});

test("a log whose growth takes no snapshots is said by 0", () => {
  expect(parse(`${minimal}\nsnapshots: { log_bytes: 0 }\n`).snapshots.logBytes).toBe(Infinity);
});

test("a file of one JSON object is YAML too", () => {
  expect(parse('{"wal":{"directory":"/data"}}').wal.directory).toBe(path.resolve("/data"));
});

test("an alias stands for the value of its anchor", () => {
  const config = parse(`server: { drain_timeout: &second "1s" }\nwal: { directory: /data, sync_interval: *second }`);
  expect(config.wal.syncIntervalMs).toBe(1000);
});

test("line ends of Windows and a byte order mark are no part of the configuration", () => {
  const text = "\uFEFFwal:\r\n  directory: /data\r\nserver:\r\n  prt: 1\r\n";
  expect(problems(text)).toEqual(["node.yaml:4:3: server.prt: is unknown; did you mean port?"]);
});

describe("cluster.nodes", () => {
  const nodes = (list: string, more = ""): string => `${minimal}\n${more}\ncluster: { nodes: [${list}] }\n`;

  test("names this node by what others reach it at", () => {
    const own = addressOf("0.0.0.0", 8080);
    expect(parse(nodes(`a:1, "${own}", b:2`, "server: { address: 0.0.0.0 }")).cluster.nodes).toEqual([
      "a:1",
      own,
      "b:2",
    ]);
    expect(parse(nodes("a:1, B:2", 'server: { advertise: "b:2" }')).cluster.nodes).toEqual(["a:1", "b:2"]);
    expect(parse(nodes('"127.0.0.1:8081"'), "replica").cluster.nodes).toEqual(["127.0.0.1:8081"]);
  });

  test("is not judged by an address that is wrong itself", () => {
    expect(problems(nodes("a:1", "server: { port: 80800, drain_timeout: 1 }"))).toHaveLength(2);
  });

  test("is judged together with the rest whatever is wrong in sections that have nothing to do with it", () => {
    const lines = problems(nodes("a:1", "storage: { max_entries: -1 }"));
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain("does not name this node");
  });

  test("has its place in the file, entry by entry", () => {
    const text = `${minimal}\ncluster:\n  nodes:\n    - 127.0.0.1:8080\n    - a:1\n    - a:1\n`;
    expect(problems(text)).toEqual(["node.yaml:6:7: cluster.nodes: names a:1 a second time; remove it"]);
  });

  test("leaves the commit mode to the number of nodes, unless the file says it", () => {
    const three = '"127.0.0.1:8080", "127.0.0.1:1", "127.0.0.1:2"';
    expect(parse(nodes(three)).replication.commit).toBeUndefined();
    expect(parse(nodes(three, "replication: { commit: master }")).replication.commit).toBe("master");
    expect(parse(nodes(three, "replication: { commit: majority }")).replication.commit).toBe("majority");
  });

  test("may be an even number, which is told at start", () => {
    const [two, four] = [
      '"127.0.0.1:8080", "127.0.0.1:1"',
      '"127.0.0.1:8080", "[::1]:1", "127.0.0.1:2", "localhost:3"',
    ];
    expect(cautions(parse(nodes(two)))).toEqual([
      "cluster.nodes lists 2 nodes, of which 2 are a majority: none of them may fail, as with 1; list 1 or 3",
    ]);
    expect(cautions(parse(nodes(four)))).toEqual([
      "cluster.nodes lists 4 nodes, of which 3 are a majority: no more than 1 may fail, as with 3; list 3 or 5",
    ]);
    expect(cautions(parse(nodes(`${two}, "127.0.0.1:2"`)))).toEqual([]);
  });

  test("of other machines, without a secret, is told at start", () => {
    expect(cautions(parse(nodes('"127.0.0.1:8080", "a:1", "b:1"')))).toEqual([
      "cluster.nodes names a:1, and there is no cluster.secret_file: nodes refuse each other's calls from other machines",
    ]);
  });
});

describe("what is wrong", () => {
  test("is told all at once, each with line, column, key, and what would be right, in the file's order", () => {
    const text = `server:
  address: "0.0.0.0:8080"
  port: 80800
  port: 1
  protected_mode: yes
wal:
  directory:
  sync_interval: 1
  max_file_size: 100M
  durabilty: always
storage: { eviction_policy: lruu, max_entries: -1 }
`;
    const size = "a number of bytes or a number and its unit (KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024)";
    expect(problems(text)).toEqual([
      'node.yaml:2:12: server.address: must be an IP address or a host name, without a port, not "0.0.0.0:8080"',
      "node.yaml:3:9: server.port: must be a whole number from 0 to 65535, not 80800",
      "node.yaml:4:3: server.port: is here a second time, after line 3; keep one of the two",
      'node.yaml:5:19: server.protected_mode: must be true or false, not "yes"',
      "node.yaml:7:3: wal.directory: has no value: it must be a path",
      'node.yaml:8:18: wal.sync_interval: must be a duration from 1ms to 1h, a number and its unit (ms, s, m, h, d) like "1s", not 1',
      `node.yaml:9:18: wal.max_file_size: must be a size from 64KiB to 4GiB, ${size}, not "100M"`,
      "node.yaml:10:3: wal.durabilty: is unknown; did you mean durability?",
      'node.yaml:11:29: storage.eviction_policy: must be one of noeviction, lru, lfu, random, ttl, not "lruu"',
      "node.yaml:11:48: storage.max_entries: must be a whole number 0 or more, not -1",
    ]);
  });

  test("is in the error's problems too, for programs", () => {
    const error = (() => {
      try {
        return parse("port: 1");
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).problems).toEqual([
      { file: "node.yaml", line: 1, column: 1, key: "port", message: "is no section; it belongs under server" },
      { file: "node.yaml", line: 1, column: 1, key: "wal.directory", message: "is required: it must be a path" },
    ]);
  });

  test.each<[string, string]>([
    ["server: { port: 8080.5 }", "not 8080.5"],
    ["server: { port: '8080' }", 'not "8080"'],
    ["server: { port: 99999999999999999999 }", "not 100000000000000000000"],
    ["server: { port: .nan }", "not NaN"],
    ["server: { port: [1] }", "not a list"],
    ["server: { port: { a: 1 } }", "not a mapping"],
    ["server: { advertise: node-1 }", '"node-1" has no port'],
    ["server: { advertise: 'a b:1' }", "the host of"],
    ["server: { advertise: 8080 }", 'must be a host and a port like "node-1:8080", not 8080'],
    ["server: { cors_origins: https://a.example }", 'must be a list of at most 1000 entries, not "https://a.example"'],
    ["server: { cors_origins: [https://a.example/] }", 'browsers would send "https://a.example"'],
    ["server: { cors_origins: [HTTPS://A.example] }", 'browsers would send "https://a.example"'],
    ["server: { cors_origins: [https://a.example:443] }", 'browsers would send "https://a.example"'],
    ["server: { cors_origins: [a.example] }", "must be an origin"],
    ["server: { cors_origins: ['https://*.example'] }", "must be an origin"],
    ["server: { drain_timeout: 0s }", "from 100ms to 1h"],
    ["server: { drain_timeout: 61m }", "from 100ms to 1h"],
    ["wal: { sync_interval: 10y }", 'not "10y"'],
    ["wal: { max_file_size: 1KiB }", "from 64KiB to 4GiB"],
    ["wal: { max_file_size: 5GiB }", "from 64KiB to 4GiB"],
    ["wal: { max_file_size: 65535 }", "from 64KiB to 4GiB"],
    ["wal: { max_file_size: 1e3 }", "from 64KiB to 4GiB"],
    ["wal: { directory: '' }", 'must be a path, not ""'],
    ['wal: { directory: "a\\0b" }', "must be a path"],
    ["limits: { max_key_bytes: 0 }", "from 1B to 65535B"],
    ["limits: { max_message_bytes: 33MiB }", "from 64KiB to 32MiB"],
    [
      "limits: { max_value_bytes: 4MiB }",
      "max_message_bytes: is 4MiB, which has no room for a key of 4KiB and a value of 4MiB",
    ],
    ["limits: { max_pending_bytes: 1MiB }", "max_pending_bytes: is 1MiB, less than one message may have"],
    ["records: { retention_bytes: 10MB }", "retention_bytes: is 10MB, less than one file has (max_file_size, 100MB)"],
    ["records: { retention_age: 36501d }", "must be a duration from 0s to 36500d"],
    ["replication: { window_bytes: 64KiB }", "window_bytes: is 64KiB, less than one batch has"],
    ["replication: { replicas: ['a:1', 'b:2', 'A:1'] }", "names a:1 a second time"],
    ["replication: { commit: majority }", "replication.commit: majority needs cluster.nodes"],
    ["replication: { commit: all }", 'must be one of master, majority, not "all"'],
    ["replication: { write_timeout: 10ms }", "must be a duration from 100ms to 10m"],
    ["cluster: { nodes: 'a:1' }", "must be a list of at most 9 entries"],
    ["cluster: { nodes: [a:1, a:2, a:3, a:4, a:5, a:6, a:7, a:8, a:9, b:1] }", "has 10 entries; at most 9 are allowed"],
    ["cluster: { nodes: ['127.0.0.1:8080', 'a:1', 'A:1'] }", "names a:1 a second time"],
    ["cluster: { nodes: ['a:1', 'b:2'] }", "nodes: does not name this node, whose address is 127.0.0.1:8080"],
    [
      "server: { advertise: 'c:3' }\ncluster: { nodes: ['a:1', 'b:2'] }",
      "nodes: does not name this node, whose server.advertise is c:3",
    ],
    [
      "server: { port: 0 }\ncluster: { nodes: ['a:1'] }",
      "server.port: is 0, any free port, and cluster.nodes needs one",
    ],
    [
      "cluster: { nodes: ['127.0.0.1:8080'] }\nreplication: { replicas: ['127.0.0.1:8080'] }",
      "replicas: names 127.0.0.1:8080, which is among cluster.nodes already",
    ],
    [
      "server: { ready_max_staleness: 1500ms }",
      "ready_max_staleness: is 1500ms, less than two heartbeats (replication.sync_interval, 1s)",
    ],
    ["log: { level: verbose }", "must be one of debug, info, warn, error"],
    ["master: { address: 'a:1' }", "is a section of replicas"],
    ["__proto__: { a: 1 }", "__proto__: is no section"],
    ["server: { __proto__: { port: 1 } }", "server.__proto__: is unknown"],
    ["server: { constructor: 1, toString: 2 }", "server.constructor: is unknown"],
    ["1: 2", "1: is no section"],
    ["~: 2", "has a key that is no plain word"],
    ["? [a]\n: 2", "has a key that is no plain word"],
    ["<<: { server: { port: 1 } }", '"<<": is no section'],
    ['"two\\nlines": 1', '"two\\nlines": is no section'],
    ["server: 8080", 'server: must be a section: its keys stand below it, as "key: value"'],
    ["server: [address]", "server: must be a section"],
    ["server: *nothing", "refers to *nothing, and no value before it has that anchor"],
    ["server: { port: *later, address: &later 1 }", "refers to *later"],
  ])("%s is refused", (text, why) => {
    const found = problems(`${text}\n`).filter((line) => !line.includes("wal.directory: is required"));
    expect(found.join("\n")).toContain(why);
    expect(found[0]).toMatch(/^node\.yaml:\d+:\d+: /);
  });

  test("a place within a list is the entry's own", () => {
    const text = `${minimal}\nreplication:\n  replicas:\n    - a:1\n    - b\n    - a:1\n`;
    expect(problems(text)).toEqual([
      'node.yaml:5:7: replication.replicas: "b" has no port; write it like "node-1:8080", "10.0.0.1:8080" or "[2001:db8::1]:8080"',
    ]);
    expect(problems(text.replace("- b", "- b:1"))).toEqual([
      "node.yaml:6:7: replication.replicas: names a:1 a second time; remove it",
    ]);
  });

  test("a key in the wrong section is sent to its own", () => {
    expect(problems(`${minimal}\nserver: { durability: os }`)).toEqual([
      "node.yaml:2:11: server.durability: is unknown; it belongs under wal",
    ]);
    expect(problems(`${minimal}\nsync_interval: 1s`)).toEqual([
      "node.yaml:2:1: sync_interval: is no section; it belongs under wal or replication",
    ]);
  });

  test("a long value is shown by its beginning", () => {
    const [line] = problems(`wal: { directory: d, durability: ${"x".repeat(10_000)} }`);
    expect(line).toContain(`"${"x".repeat(60)}…"`);
  });

  test("hundreds of problems are counted after the first fifty", () => {
    const keys = Array.from({ length: 500 }, (_, index) => `  key${index}: 1`).join("\n");
    const lines = problems(`${minimal}\nserver:\n${keys}\n`);
    expect(lines).toHaveLength(51);
    expect(lines.at(-1)).toBe("… and 450 more");
  });
});

describe("the environment", () => {
  test("goes before the file", () => {
    const config = parse(`${minimal}\nserver: { port: 1, protected_mode: true }`, "master", {
      CAMBIUM_SERVER__PORT: "9000",
      CAMBIUM_SERVER__PROTECTED_MODE: "false",
      CAMBIUM_WAL__DIRECTORY: "/other",
      CAMBIUM_WAL__SYNC_INTERVAL: "5s",
      CAMBIUM_WAL__MAX_FILE_SIZE: "1000000",
      CAMBIUM_STORAGE__MAX_BYTES: "1GiB",
      CAMBIUM_REPLICATION__REPLICAS: "a:1, b:2",
      CAMBIUM_SERVER__CORS_ORIGINS: "",
      CAMBIUM_CLUSTER__NODES: "127.0.0.1:9000,c:3",
    });
    expect(config).toMatchObject({
      server: { port: 9000, protectedMode: false, corsOrigins: [] },
      wal: { directory: path.resolve("/other"), syncIntervalMs: 5000, segmentBytesMax: 1_000_000 },
      storage: { bytesMax: 2 ** 30 },
      replication: { replicas: ["a:1", "b:2"] },
      cluster: { nodes: ["127.0.0.1:9000", "c:3"] },
    });
  });

  test("gives what the file leaves out, and repairs what the file has wrong", () => {
    expect(parse("", "master", { CAMBIUM_WAL__DIRECTORY: "/data" }).wal.directory).toBe(path.resolve("/data"));
    expect(parse("wal: { directory: 5 }", "master", { CAMBIUM_WAL__DIRECTORY: "/data" }).wal.directory).toBe(
      path.resolve("/data"),
    );
  });

  test("keeps a directory that is a number a text", () => {
    expect(parse("", "master", { CAMBIUM_WAL__DIRECTORY: "2024" }).wal.directory).toBe(path.resolve("2024"));
  });

  test("is named in place of file, line and column", () => {
    const environment = {
      CAMBIUM_SERVER__PORT: "http",
      CAMBIUM_SERVER__PROTECTED_MODE: "no",
      CAMBIUM_REPLICATION__REPLICAS: "a:1,b",
      CAMBIUM_WAL__DIRECTROY: "/data",
      CAMBIUM_NOTHING__LIKE__IT: "1",
      CAMBIUM_MASTER__ADDRESS: "a:1",
    };
    const lines = problems(minimal, "master", environment);
    expect(lines).toHaveLength(6);
    expect(lines.join("\n")).toContain(
      'CAMBIUM_SERVER__PORT: server.port: must be a whole number from 0 to 65535, not "http"',
    );
    expect(lines.join("\n")).toContain("CAMBIUM_SERVER__PROTECTED_MODE: server.protected_mode: must be true or false");
    expect(lines.join("\n")).toContain('CAMBIUM_REPLICATION__REPLICAS: replication.replicas: "b" has no port');
    expect(lines.join("\n")).toContain("CAMBIUM_WAL__DIRECTROY: is no setting; did you mean CAMBIUM_WAL__DIRECTORY?");
    expect(lines.join("\n")).toContain("CAMBIUM_NOTHING__LIKE__IT: is no setting; unset it, or use one of");
    expect(lines.join("\n")).toContain("CAMBIUM_MASTER__ADDRESS: is a setting of replicas, and this is a master");
  });

  test("holds variables of others, which are left alone", () => {
    const environment = { CAMBIUM_ENDPOINTS: "x", PATH: "y", __CAMBIUM__: "z", cambium_server__port: "1" };
    expect(parse(minimal, "master", environment).settings).toEqual(parse(minimal).settings);
  });
});

describe("printing", () => {
  const text = `server: { port: 0, cors_origins: ["*", "https://a.example"] }
wal: { directory: "/tmp/a: b #c", max_file_size: 100MB }
limits: { max_key_bytes: 10 }
replication: { replicas: ["[::1]:80"] }
`;

  test("shows everything that is in effect", () => {
    const printed = printConfig(parse(text, "replica", { CAMBIUM_LOG__LEVEL: "warn" }));
    for (const line of [
      "  port: 0",
      "  max_file_size: 100MB",
      "  level: warn",
      "  drain_timeout: 10s",
      "replication:",
    ]) {
      expect(printed.split("\n")).toContain(line);
    }
  });

  test("gives a file that loads to the same configuration", () => {
    for (const kind of ["master", "replica"] as const) {
      const config = parse(text, kind);
      expect(parse(printConfig(config), kind)).toEqual(config);
    }
  });

  test("does not wrap long values", () => {
    const directory = `/${"long ".repeat(100)}end`;
    expect(printConfig(parse(`wal: { directory: "${directory}" }`))).toContain(`  directory: ${directory}\n`);
  });
});

test("a policy of eviction without a limit is announced, since it evicts nothing", () => {
  expect(cautions(parse(minimal))).toEqual([]);
  expect(cautions(parse(`${minimal}\nstorage: { max_bytes: 1GB, eviction_policy: lru }`))).toEqual([]);
  expect(cautions(parse(`${minimal}\nstorage: { eviction_policy: lru }`))).toEqual([
    "storage.eviction_policy is lru, and nothing is ever evicted: neither storage.max_entries nor storage.max_bytes is set",
  ]);
});

test("a jump of the clock that is believed is none, or longer than the time in which nodes write theirs down", () => {
  expect(parse(minimal).clock).toEqual({ jumpMsMax: 30 * 86_400_000 });
  expect(parse(`${minimal}\nclock: { max_jump: 0s }`).clock).toEqual({});
  expect(problems(`${minimal}\nclock: { max_jump: 1h }`).join()).toContain("must be 2h or more, or 0s");
});

test("nothing of a configuration is hidden from inspection but the secret", () => {
  expect(inspect(parse(minimal), { depth: 5 })).toContain("segmentBytesMax: 100000000");
});
