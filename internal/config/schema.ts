/** Every setting there is: its section, key, meaning, range and default. */
import { z } from "zod";
import {
  checkClock,
  checkCluster,
  checkLimits,
  checkRecords,
  checkReplication,
  checkTls,
  checkTogether,
  isFreeOf,
} from "./contradiction.js";
import type { NodeKind } from "./node-config.js";
import { address, choice, duration, filePath, flag, host, list, origin, size, wholeNumber } from "./setting.js";

/** The schema of a configuration file for a server of this kind. */
export function schemaOf(kind: NodeKind): ReturnType<typeof buildSchema> {
  let schema = schemas.get(kind);
  if (!schema) schemas.set(kind, (schema = buildSchema(kind)));
  return schema;
}

const schemas = new Map<NodeKind, ReturnType<typeof buildSchema>>();

function buildSchema(kind: NodeKind) {
  const root = z.strictObject({
    server: section("Where this node listens, and whom it serves.", {
      address: host({
        description:
          "The address to listen on. 127.0.0.1 serves this machine only; 0.0.0.0 or :: serves every network that the machine is in (see protected_mode).",
      }).prefault("127.0.0.1"),
      port: wholeNumber({
        min: 0,
        max: 65_535,
        description: "The port to listen on, for every protocol. 0: any free one, which the log tells.",
      }).prefault(kind === "master" ? 8080 : 8081),
      advertise: address({
        description:
          "The host:port at which the other nodes reach this one. Without it: address and port, and where address is 0.0.0.0 or ::, the machine's host name and port. Needed behind address translation and port mapping.",
        sample: kind === "master" ? "master.example.com:8080" : "replica-1.example.com:8081",
      }).optional(),
      cors_origins: list(origin(), {
        description:
          'Origins of the web pages that may call this node from a browser, such as "https://app.example.com". "*" lets every page of the internet call: only for data that anybody may read and change. Empty: none.',
      }).prefault([]),
      allowed_hosts: list(host(), {
        description:
          "Names by which this node may be called, beside its addresses, loopback names, and those of address, advertise and cors_origins; without ports. A web page can make its own name resolve to this node, and then asks for that one. Empty: only callers on this machine, and web pages, are held to those names; else everybody is.",
      }).prefault([]),
      protected_mode: flag({
        description:
          "Whether callers from other machines are refused, and told why, as long as nothing tells them apart. With false, everybody who reaches the port can read and write everything. With identity_file it does not count.",
      }).prefault(true),
      identity_file: filePath({
        description:
          "A file with those who may call, and what each of them may do: a line each, as `cambium token create` prints it. Only its owner may read it (chmod 600). With it nobody may do anything without a token, or a certificate, that it names; not on this machine either. It is read again on SIGHUP. Without it callers are told apart by where they are (see protected_mode).",
        sample: "/etc/cambium/identities",
      }).optional(),
      drain_timeout: duration({
        min: "100ms",
        max: "1h",
        description: "How long a node that is told to stop waits for calls in flight before it breaks them off.",
      }).prefault("10s"),
      fast_path: flag({
        description:
          "Whether the calls that are made most (Get, BatchGet, Set, Delete, Increment, and Batch of gets) are carried out by a short way of their own, several times as fast. Their answers are the same either way; false is for finding out whether a fault is in it.",
      }).prefault(true),
      forward_writes: flag({
        description:
          "Whether this node, while it is a replica, passes writes on to the master and gives back what the master answered. With false it refuses them and names the master.",
      }).prefault(false),
      ready_max_staleness: duration({
        min: "0s",
        max: "24h",
        description:
          "A replica that cannot show that it is at most this old says in /readyz, and to gRPC health checks, that it is not ready; it goes on answering reads. Not less than two heartbeats (sync_interval). 0s: age does not count.",
      }).prefault("0s"),
    }),
    tls: section(
      "TLS on the port of server. With cert_file the port speaks nothing else; nodes then call each other that way too. The files are read again on SIGHUP, and connections go on.",
      {
        cert_file: filePath({
          description:
            "This node's certificate, as PEM, and after it those that lead to its authority. It has the host of server.advertise among its names, and is good for servers and clients, since the node is both.",
          sample: "/etc/cambium/node.crt",
        }).optional(),
        key_file: filePath({
          description: "The key of the certificate, as PEM, without a passphrase.",
          sample: "/etc/cambium/node.key",
        }).optional(),
        ca_file: filePath({
          description:
            "The certificates, as PEM, of the authorities that sign those of clients and of other nodes. Without it: those that Node knows, for other nodes; none, for clients.",
          sample: "/etc/cambium/ca.crt",
        }).optional(),
        client_auth: choice(["none", "optional", "required"], {
          description:
            "Whether clients are asked for a certificate. optional: who has one that ca_file signed is who server.identity_file says (cert:…). required: nobody else gets a connection; probes of orchestrators do not either.",
        }).prefault("none"),
      },
      checkTls,
    ),
    ...((kind === "replica" ? { master: masterSection() } : {}) as unknown as MasterShape),
    wal: z
      .strictObject({
        directory: filePath({
          description:
            "The directory of all that this node keeps: the log, and what it knows of its cluster. It is made when it is missing, and belongs to one process at a time. A relative path begins at the working directory.",
          sample: `./data/${kind}`,
        }),
        durability: choice(["always", "interval", "os"], {
          description:
            "When a write is acknowledged. always: once it is synced to the disk, and survives a power loss. interval: once the operating system has it; synced every sync_interval, so a power loss may take the last interval. os: as interval, but the operating system syncs when it likes.",
        }).prefault("always"),
        sync_interval: duration({
          min: "1ms",
          max: "1h",
          description: "How often the log is synced with durability interval.",
        }).prefault("1s"),
        max_file_size: size({
          min: "64KiB",
          max: "4GiB",
          description: "The size at which a log file is closed and the next one begun.",
        }).prefault("100MB"),
        history_bytes: size({
          min: "0B",
          description:
            "The newest bytes of log that stay although a snapshot holds what they say, as far as whole files fit: watches that were away, or are slow, go on from there. 0: none, which keeps the directory small.",
        }).prefault(0),
      })
      .meta({ description: "The write-ahead log: the data on disk." }),
    snapshots: section("Copies of the whole state, so that the log before them can go and a start is short.", {
      interval: duration({
        min: "0s",
        max: "24h",
        description: "How often one is taken, if anything has changed. 0s: only when the log has grown.",
      }).prefault("10m"),
      log_bytes: size({
        min: "0B",
        description:
          "One is also taken when the log has grown by this, and by no less than the last one holds; and after a second without writes, when it has grown by a quarter of the last one, or most of what that one holds was deleted. 0: only by time, and when asked for.",
      }).prefault("4MiB"),
      keep: wholeNumber({
        min: 1,
        max: 100,
        description: "How many are kept, each with the log that it needs.",
      }).prefault(1),
    }),
    records: section(
      "The record log, and how long its records stay. On a replica retention counts from the moment when it becomes master.",
      {
        retention_age: duration({
          min: "0s",
          max: "36500d",
          description: "How long records are kept; older ones are truncated, many at a time. 0s: without end.",
        }).prefault("0s"),
        retention_bytes: size({
          min: "0B",
          description:
            "The bytes of records that are kept; the oldest beyond them are truncated, many at a time. Not less than max_file_size, since only whole files are removed. 0: no limit.",
        }).prefault(0),
        max_file_size: size({
          min: "64KiB",
          max: "4GiB",
          description: "The size at which a file of the record log is closed and the next one begun.",
        }).prefault("100MB"),
      },
      checkRecords,
    ),
    clock: section(
      "What this node makes of its machine's clock.",
      {
        max_jump: duration({
          min: "0s",
          max: "36500d",
          description:
            "A clock that is further ahead, at a start, than the data knows of is not believed: keys with a deadline are kept, and the log says so. A node that was down for longer needs a larger one, once. Not less than 2h; 0s: every clock is believed.",
        }).prefault("30d"),
      },
      checkClock,
    ),
    storage: section(
      "How much is stored in memory, and what goes when it is full. It counts when a cluster is founded; later there is `cambium limits`.",
      {
        max_entries: wholeNumber({
          min: 0,
          max: Number.MAX_SAFE_INTEGER,
          description: "The number of keys to hold at most. 0: no limit.",
        }).prefault(0),
        max_bytes: size({
          min: "0B",
          description: "The bytes that keys and values take at most, with 64 more for each key. 0: no limit.",
        }).prefault(0),
        eviction_policy: choice(["noeviction", "lru", "lfu", "random", "ttl"], {
          description:
            "What makes room at a limit. noeviction: nothing does, and writes that need room are refused. lru: the keys not used for the longest time go. lfu: those used least often. random: any. ttl: those that expire soonest.",
        }).prefault("noeviction"),
        ordered: flag({
          description:
            "Whether this node keeps its keys in order, which scans need. Without, new keys and removed ones cost half as much time, and each key some ten bytes less; scans, exports and deletions of a range are refused.",
        }).prefault(true),
      },
    ),
    retries: section(
      "What is remembered of writes that carry a client_id, so that one that is sent again is not executed again. It counts on the master.",
      {
        max_bytes: size({
          min: "1MiB",
          max: "16GiB",
          description:
            "The memory that it takes at most, on every node. When it is full, those clients are forgotten that have written nothing for the longest time, and for a minute at least; where there are none, writes with a client_id that needs more are refused.",
        }).prefault("64MB"),
        retention: duration({
          min: "1m",
          max: "365d",
          description:
            "A client that has written nothing for so long is forgotten: what it sends again after that is executed again.",
        }).prefault("1h"),
      },
    ),
    limits: section(
      "How large requests may be, and how much callers may have of this node at once. What is larger is refused before anything is allocated for it; for whom there is no room is told to come again. Other nodes and health are served all the same.",
      {
        max_key_bytes: size({ min: "1B", max: "65535B", description: "The length of a key, as UTF-8." }).prefault(4096),
        max_value_bytes: size({ min: "1B", max: "32MiB", description: "The length of a value." }).prefault("1MiB"),
        max_message_bytes: size({
          min: "64KiB",
          max: "32MiB",
          description:
            "The length of a whole request or answer, decompressed. Must exceed max_key_bytes and max_value_bytes together by 64KiB.",
        }).prefault("4MiB"),
        max_pending_bytes: size({
          min: "64KiB",
          max: "16GiB",
          description:
            "Bytes of the writes in flight, all callers together; beyond it writes are refused until there is room. Not less than max_message_bytes.",
        }).prefault("64MiB"),
        max_read_wait: duration({
          min: "10ms",
          max: "10m",
          description:
            "How long a read waits, at most, until this node is as fresh as the read asks for. The caller's own deadline may be shorter.",
        }).prefault("5s"),
        max_watches: wholeNumber({
          min: 0,
          max: 1_000_000,
          description:
            "Watches that are open on this node, all callers together; beyond it further ones are refused. 0: none may be.",
        }).prefault(20_000),
        max_connections: wholeNumber({
          min: 10,
          max: 1_000_000,
          description:
            "Connections at the same time; those beyond are cut off. The system must allow as many open files.",
        }).prefault(10_000),
        max_connections_per_address: wholeNumber({
          min: 10,
          max: 1_000_000,
          description: "Those of one address, or of one /64 of IPv6. A balancer in front of the nodes is one address.",
        }).prefault(5000),
        max_streams: wholeNumber({
          min: 1,
          max: 100_000,
          description: "Calls at the same time on one connection of HTTP/2.",
        }).prefault(256),
        max_calls: wholeNumber({
          min: 10,
          max: 1_000_000,
          description: "Calls at the same time on all connections, those that wait for something included.",
        }).prefault(20_000),
        max_arriving_bytes: size({
          min: "32MiB",
          max: "64GiB",
          description: "Bytes of requests that have come, and are not dealt with yet, on all connections.",
        }).prefault("256MiB"),
        max_unread_bytes: size({
          min: "64KiB",
          max: "1GiB",
          description:
            "Bytes of answers that the caller has not taken yet, on one connection; beyond it no further large answers are made for it.",
        }).prefault("16MiB"),
        handshake_timeout: duration({
          min: "1s",
          max: "5m",
          description: "How long a handshake of TLS may take.",
        }).prefault("10s"),
        header_timeout: duration({
          min: "1s",
          max: "5m",
          description: "How long the head of a request may take to arrive, and the first frame of HTTP/2.",
        }).prefault("10s"),
        request_timeout: duration({
          min: "1s",
          max: "1h",
          description: "How long a whole request may take to arrive. Not less than header_timeout.",
        }).prefault("60s"),
        idle_timeout: duration({
          min: "1s",
          max: "1h",
          description:
            "How long a connection may stand with no call on it. More than the clients' and balancers' own, so that they end it first.",
        }).prefault("65s"),
        unread_timeout: duration({
          min: "1s",
          max: "1h",
          description: "How long a caller may leave an answer lying; then its connection is ended.",
        }).prefault("60s"),
      },
      checkLimits,
    ),
    replication: section(
      "How a master feeds its replicas. On a replica it counts from the moment when it becomes master.",
      {
        replicas: list(address(), {
          description:
            'Replicas that the master pushes to, each as host:port, such as "replica-1.example.com:8081". Replicas with a master.address register themselves and need not be listed.',
        }).prefault([]),
        sync_interval: duration({
          min: "50ms",
          max: "60s",
          description:
            "The heartbeat: how often this node, while it is a replica, hears from the master when there is nothing to send.",
        }).prefault("1s"),
        batch_bytes: size({
          min: "4KiB",
          max: "16MiB",
          description: "The bytes of log that are sent in one message.",
        }).prefault("1MiB"),
        window_bytes: size({
          min: "4KiB",
          max: "1GiB",
          description:
            "The bytes that a replica may have been sent and not acknowledged yet. Not less than batch_bytes.",
        }).prefault("8MiB"),
        retain_bytes: size({
          min: "0B",
          description:
            "The bytes of log that are kept, at most, for members that have not acknowledged them; beyond it an absent member needs more than the log to catch up.",
        }).prefault("1GiB"),
        commit: choice(["master", "majority"], {
          description:
            "Who must keep a write before it counts. majority: more than half of cluster.nodes; such a write survives the loss of any one node of three. master: the master alone; replicas follow, and the writes that they did not have yet are lost with the master's disk, or when another node becomes master. It counts when the cluster is founded; afterwards the cluster knows it by itself, and a file that says otherwise is reported.",
          otherwise: "majority with three or more cluster.nodes, else master",
        }).optional(),
        write_timeout: duration({
          min: "100ms",
          max: "10m",
          description:
            "How long a write waits for those who must keep it. After that the caller is told that the outcome is unknown, and at which position the write stands in the log.",
        }).prefault("10s"),
        listen: address({
          description:
            "The address, as host:port, of a listener for the other nodes alone, with mutual TLS: needs cert_file, key_file and ca_file below. Nodes then call each other there: at the host by which they know each other, and at this port, which is the same on all of them. On server.port nobody is a node any more.",
          sample: "0.0.0.0:8090",
        }).optional(),
        cert_file: filePath({
          description: "The certificate of this node for the others, as tls.cert_file.",
          sample: "/etc/cambium/peer.crt",
        }).optional(),
        key_file: filePath({
          description: "Its key, as tls.key_file.",
          sample: "/etc/cambium/peer.key",
        }).optional(),
        ca_file: filePath({
          description:
            "The authority of the nodes' certificates, as PEM. Whoever has a certificate of it is a node of the cluster, so that it must sign nothing else.",
          sample: "/etc/cambium/peer-ca.crt",
        }).optional(),
      },
      checkReplication,
    ),
    cluster: section(
      "How nodes know each other.",
      {
        nodes: list(
          address(),
          {
            description:
              'The nodes that keep writes safe together and may become master, each as host:port, such as ["node-1:8080", "node-2:8080", "node-3:8080"]; the same list, in the same order, on every one of them. This node\'s own address (server.advertise) is one of them. Three or five are best. When all of them have started with empty directories they found the cluster; replicas beyond them register themselves. Empty: the master founds the cluster alone, and an operator decides who follows it.',
          },
          nodesMax,
        ).prefault([]),
        secret_file: filePath({
          description:
            "A file whose content, 16 to 1024 bytes, all nodes of the cluster share; only its owner may read it (chmod 600). Needed as soon as nodes are on different machines.",
          sample: "/etc/cambium/cluster.secret",
        }).optional(),
      },
      checkCluster,
    ),
    log: section("What this node tells its operator, on standard output.", {
      level: choice(["debug", "info", "warn", "error"], {
        description: "The least important lines that are written.",
      }).prefault("info"),
      format: choice(["json", "pretty", "auto"], {
        description: "json: a JSON object a line. pretty: for people. auto: pretty on a terminal, json elsewhere.",
      }).prefault("auto"),
      slow_threshold: duration({
        min: "0s",
        max: "1h",
        description:
          "Calls that take longer are kept for `cambium slowlog`: the newest 128, with the beginning of a key and without values. 0s: none are.",
      }).prefault("100ms"),
    }),
  });
  // Sections that are right each by themselves are judged together, whatever is wrong with the others.
  return root.superRefine((values, context) => checkTogether(values, context), {
    when: ({ issues }) => isFreeOf(issues, ["server", "master", "replication", "cluster"]),
  });
}

/** Entries of cluster.nodes: more would only be slower, for every write waits for more than half of them. */
const nodesMax = 9;

/** What masters do not have, replicas have with all defaults. */
type MasterShape = { master: z.ZodOptional<ReturnType<typeof masterSection>> };

function masterSection() {
  return section("The master of this replica.", {
    address: address({
      description:
        "The host:port of the master, where the replica registers itself under server.advertise. Not needed with cluster.nodes. Without both the replica waits until a master that lists it comes.",
      sample: "127.0.0.1:8080",
    }).optional(),
    sync_interval: duration({
      min: "50ms",
      max: "60s",
      description: "The heartbeat that the replica asks of the master.",
      otherwise: "replication.sync_interval",
      sample: "1s",
    }).optional(),
  });
}

/** A section of which every key has a default or may be absent. `check` judges keys that are right each by itself. */
function section<Shape extends z.ZodRawShape>(
  description: string,
  shape: Shape,
  check: (values: z.output<z.ZodObject<Shape>>, context: z.RefinementCtx) => void = () => undefined,
) {
  const object = z.strictObject(shape).superRefine((values, context) => check(values as never, context));
  // An editor is not to complain about a section whose keys are all commented out, since the reader does not either.
  return object.meta({ description, type: ["object", "null"] }).prefault({} as never);
}

/** What the schema gives: section → key → value, in ms and bytes. */
export type SettingValues = z.output<ReturnType<typeof schemaOf>>;

/** The same as a JSON Schema, by which editors complete and check a configuration file. */
export function configJsonSchema(kind: NodeKind): object {
  const schema = z.toJSONSchema(schemaOf(kind), {
    io: "input",
    // zod itself drops the examples of what it transforms, since they might be meant for the result.
    override: ({ jsonSchema }) => {
      const { sample } = jsonSchema;
      if (sample === undefined) return;
      delete jsonSchema["sample"];
      jsonSchema.examples = [sample];
    },
  });
  return { ...schema, title: `Configuration of a Cambium ${kind}` };
}
