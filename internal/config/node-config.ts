/** The configuration as the rooms take it: units in the names, every default filled in, deep-frozen. */
import path from "node:path";
import { parseAddress } from "../base/address.js";
import type { SettingValues } from "./schema.js";
import type { TlsFiles } from "./tls-files.js";

export type NodeKind = "master" | "replica";

export interface NodeConfig {
  /** The program that the configuration is for. */
  readonly kind: NodeKind;
  /** The file that it came from. */
  readonly file: string;
  readonly server: ServerConfig;
  /** Absent: the port does no TLS. */
  readonly tls?: TlsConfig;
  /** With a replica only. */
  readonly master?: MasterConfig;
  readonly wal: WalConfig;
  readonly snapshots: SnapshotsConfig;
  readonly records: RecordsConfig;
  readonly clock: ClockConfig;
  readonly retries: RetriesConfig;
  readonly storage: StorageConfig;
  readonly limits: LimitsConfig;
  readonly replication: ReplicationConfig;
  readonly cluster: ClusterConfig;
  readonly log: LogConfig;
  /** The same under the names of the file, as they would be written there. Holds no secret. */
  readonly settings: Settings;
}

/** Section → key → value. A key without a value or a default is absent. */
export type Settings = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface ServerConfig {
  /** The address to listen on; an IPv6 address without brackets. */
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** `host:port` at which others reach this node; absent: where it listens. */
  readonly advertise?: string;
  /** Origins of web pages that may call, as browsers send them, or `*`. */
  readonly corsOrigins: readonly string[];
  /** Without ports; empty: only callers on this machine are held to the node's own names. */
  readonly allowedHosts: readonly string[];
  readonly protectedMode: boolean;
  /** Absolute; absent: the node knows nobody. */
  readonly identityFile?: string;
  readonly drainTimeoutMs: number;
  /** Whether a replica passes writes on to its master. */
  readonly fastPath: boolean;
  readonly forwardWrites: boolean;
  /** 0: age does not count. */
  readonly readyMaxStalenessMs: number;
}

export interface TlsConfig extends TlsFiles {
  readonly clientAuth: "none" | "optional" | "required";
}

export interface MasterConfig {
  /** `host:port` at which the replica registers itself; absent: it waits until a master comes. */
  readonly address?: string;
  readonly heartbeatIntervalMs: number;
}

export interface WalConfig {
  /** Absolute. */
  readonly directory: string;
  readonly durability: "always" | "interval" | "os";
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  /** Of the log, what stays although a snapshot holds it. */
  readonly historyBytes: number;
}

export interface SnapshotsConfig {
  /** 0: not by time. */
  readonly intervalMs: number;
  /** Growth of the log. */
  readonly logBytes: number;
  readonly keep: number;
}

export interface RecordsConfig {
  /** 0: no record goes for its age. */
  readonly retentionAgeMs: number;
  /** 0: no record goes for the size of the record log. */
  readonly retentionBytes: number;
  readonly segmentBytesMax: number;
}

export interface ClockConfig {
  /** Absent: every clock is believed. */
  readonly jumpMsMax?: number;
}

export interface RetriesConfig {
  readonly bytesMax: number;
  readonly retentionMs: number;
}

export type EvictionPolicy = "noeviction" | "lru" | "lfu" | "random" | "ttl";

export interface StorageConfig {
  /** 0: no limit. */
  readonly entriesMax: number;
  /** 0: no limit. */
  readonly bytesMax: number;
  readonly evictionPolicy: EvictionPolicy;
  /** Of this node alone. */
  readonly isOrdered: boolean;
}

export interface LimitsConfig {
  readonly keyBytesMax: number;
  readonly valueBytesMax: number;
  /** Of a whole request or answer; has room for a largest key and value. */
  readonly messageBytesMax: number;
  /** Of all writes in flight; has room for a largest message. */
  readonly pendingBytesMax: number;
  readonly maxReadWaitMs: number;
  readonly watchesMax: number;
  readonly connectionsMax: number;
  readonly connectionsPerAddressMax: number;
  /** Of a connection. */
  readonly streamsMax: number;
  readonly callsMax: number;
  readonly arrivingBytesMax: number;
  /** Of a connection. */
  readonly unreadBytesMax: number;
  readonly handshakeTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** Not less than `headersTimeoutMs`. */
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly unreadTimeoutMs: number;
}

export interface ReplicationConfig {
  /** `host:port` of each replica to push to. */
  readonly replicas: readonly string[];
  readonly heartbeatIntervalMs: number;
  readonly batchBytes: number;
  /** Not less than `batchBytes`. */
  readonly windowBytes: number;
  /** Of log, for members that lack it. */
  readonly retainedBytesMax: number;
  /** Absent: what the number of nodes suggests. It counts when a cluster is founded. */
  readonly commit?: "master" | "majority";
  /** How long a write waits for its quorum. */
  readonly writeTimeoutMs: number;
  /** The listener for other nodes; absent: they call at the port of all. */
  readonly peers?: PeerListenerConfig;
}

export interface PeerListenerConfig extends TlsFiles {
  readonly caFile: string;
  readonly host: string;
  /** The same on all nodes. */
  readonly port: number;
}

export interface ClusterConfig {
  /** `host:port` of each voter, this node among them; empty: the vote goes with mastership. */
  readonly nodes: readonly string[];
  /** Absolute. */
  readonly secretFile?: string;
  /** The content of `secretFile`, without its last line break. Not enumerable, so that no printing of a config shows it. */
  readonly secret?: Uint8Array;
}

export interface LogConfig {
  readonly level: "debug" | "info" | "warn" | "error";
  /** `auto`: pretty on a terminal. */
  readonly format: "json" | "pretty" | "auto";
  /** Calls that take longer are kept for `Cluster.SlowLog`; 0: none are. */
  readonly slowThresholdMs: number;
}

/** The configuration of these values. */
export function toNodeConfig(options: {
  kind: NodeKind;
  file: string;
  values: SettingValues;
  settings: Settings;
  secret: Uint8Array | undefined;
}): NodeConfig {
  const { kind, file, values, settings, secret } = options;
  const { server, master, wal, snapshots, records, clock, storage, retries, limits, replication, cluster, log } =
    values;
  return deepFreeze({
    kind,
    file,
    server: {
      host: server.address,
      port: server.port,
      ...(server.advertise !== undefined && { advertise: server.advertise }),
      corsOrigins: server.cors_origins,
      allowedHosts: server.allowed_hosts,
      protectedMode: server.protected_mode,
      ...(server.identity_file !== undefined && { identityFile: path.resolve(server.identity_file) }),
      drainTimeoutMs: server.drain_timeout,
      fastPath: server.fast_path,
      forwardWrites: server.forward_writes,
      readyMaxStalenessMs: server.ready_max_staleness,
    },
    ...tlsConfig(values.tls),
    ...(master && {
      master: {
        ...(master.address !== undefined && { address: master.address }),
        heartbeatIntervalMs: master.sync_interval ?? replication.sync_interval,
      },
    }),
    wal: {
      directory: path.resolve(wal.directory),
      durability: wal.durability,
      syncIntervalMs: wal.sync_interval,
      segmentBytesMax: wal.max_file_size,
      historyBytes: wal.history_bytes,
    },
    snapshots: {
      intervalMs: snapshots.interval,
      logBytes: snapshots.log_bytes === 0 ? Infinity : snapshots.log_bytes,
      keep: snapshots.keep,
    },
    records: {
      retentionAgeMs: records.retention_age,
      retentionBytes: records.retention_bytes,
      segmentBytesMax: records.max_file_size,
    },
    clock: { ...(clock.max_jump > 0 && { jumpMsMax: clock.max_jump }) },
    storage: {
      entriesMax: storage.max_entries,
      bytesMax: storage.max_bytes,
      evictionPolicy: storage.eviction_policy,
      isOrdered: storage.ordered,
    },
    retries: { bytesMax: retries.max_bytes, retentionMs: retries.retention },
    limits: {
      keyBytesMax: limits.max_key_bytes,
      valueBytesMax: limits.max_value_bytes,
      messageBytesMax: limits.max_message_bytes,
      pendingBytesMax: limits.max_pending_bytes,
      maxReadWaitMs: limits.max_read_wait,
      watchesMax: limits.max_watches,
      connectionsMax: limits.max_connections,
      connectionsPerAddressMax: limits.max_connections_per_address,
      streamsMax: limits.max_streams,
      callsMax: limits.max_calls,
      arrivingBytesMax: limits.max_arriving_bytes,
      unreadBytesMax: limits.max_unread_bytes,
      handshakeTimeoutMs: limits.handshake_timeout,
      headersTimeoutMs: limits.header_timeout,
      requestTimeoutMs: limits.request_timeout,
      idleTimeoutMs: limits.idle_timeout,
      unreadTimeoutMs: limits.unread_timeout,
    },
    replication: {
      replicas: replication.replicas,
      heartbeatIntervalMs: replication.sync_interval,
      batchBytes: replication.batch_bytes,
      windowBytes: replication.window_bytes,
      retainedBytesMax: replication.retain_bytes,
      ...(replication.commit !== undefined && { commit: replication.commit }),
      writeTimeoutMs: replication.write_timeout,
      ...peerListener(replication),
    },
    cluster: clusterConfig(cluster, secret),
    log: { level: log.level, format: log.format, slowThresholdMs: log.slow_threshold },
    settings,
  });
}

function tlsConfig({ cert_file, key_file, ca_file, client_auth }: SettingValues["tls"]): { tls?: TlsConfig } {
  if (cert_file === undefined || key_file === undefined) return {};
  return { tls: { ...filesOf(cert_file, key_file, ca_file), clientAuth: client_auth } };
}

function peerListener(values: SettingValues["replication"]): { peers?: PeerListenerConfig } {
  const { listen, cert_file, key_file, ca_file } = values;
  if (listen === undefined || cert_file === undefined || key_file === undefined || ca_file === undefined) return {};
  return { peers: { ...parseAddress(listen), ...filesOf(cert_file, key_file), caFile: path.resolve(ca_file) } };
}

function filesOf(cert: string, key: string, ca?: string): TlsFiles {
  return {
    certFile: path.resolve(cert),
    keyFile: path.resolve(key),
    ...(ca !== undefined && { caFile: path.resolve(ca) }),
  };
}

function clusterConfig(values: SettingValues["cluster"], secret: Uint8Array | undefined): ClusterConfig {
  const { nodes, secret_file: secretFile } = values;
  const cluster = { nodes, ...(secretFile !== undefined && { secretFile: path.resolve(secretFile) }) };
  if (secret) Object.defineProperty(cluster, "secret", { value: secret, enumerable: false });
  return cluster;
}

function deepFreeze<T extends object>(value: T): T {
  // Only what is enumerable: the bytes of the secret cannot be frozen.
  for (const part of Object.values(value)) if (typeof part === "object" && part !== null) deepFreeze(part as object);
  return Object.freeze(value);
}
