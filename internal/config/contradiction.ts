/** Settings that are right each by itself and wrong together. */
import type { z } from "zod";
import { addressOf } from "./own-address.js";
import { formatDuration, formatSize } from "./unit.js";

/** What a message needs besides the key and the value that it carries. */
const messageOverheadBytes = 64 * 1024;

/** In bytes, and ms. */
interface Limits {
  readonly max_key_bytes: number;
  readonly max_value_bytes: number;
  readonly max_message_bytes: number;
  readonly max_pending_bytes: number;
  readonly header_timeout: number;
  readonly request_timeout: number;
}

interface Records {
  readonly retention_bytes: number;
  readonly max_file_size: number;
}

interface Replication {
  readonly replicas: readonly string[];
  readonly batch_bytes: number;
  readonly window_bytes: number;
  readonly listen?: string | undefined;
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
  readonly ca_file?: string | undefined;
}

interface Tls {
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
  readonly ca_file?: string | undefined;
  readonly client_auth: string;
}

interface Cluster {
  readonly nodes: readonly string[];
}

/** What is judged across sections. Durations in ms. */
interface Together {
  readonly server: {
    readonly address: string;
    readonly port: number;
    readonly advertise?: string | undefined;
    readonly ready_max_staleness: number;
  };
  readonly master?: { readonly sync_interval?: number | undefined } | undefined;
  readonly replication: {
    readonly replicas: readonly string[];
    readonly sync_interval: number;
    readonly commit?: string | undefined;
  };
  readonly cluster: Cluster;
}

export function checkLimits(limits: Limits, context: z.RefinementCtx): void {
  const [key, value, message, pending] = [
    formatSize(limits.max_key_bytes),
    formatSize(limits.max_value_bytes),
    formatSize(limits.max_message_bytes),
    formatSize(limits.max_pending_bytes),
  ];
  const smallest = limits.max_key_bytes + limits.max_value_bytes + messageOverheadBytes;
  if (limits.max_message_bytes < smallest) {
    complain(
      context,
      ["max_message_bytes"],
      [
        `is ${message}, which has no room for a key of ${key} and a value of ${value};`,
        `make it ${formatSize(smallest)} or more, or max_value_bytes less`,
      ],
    );
  }
  if (limits.max_pending_bytes < limits.max_message_bytes) {
    complain(
      context,
      ["max_pending_bytes"],
      [`is ${pending}, less than one message may have (max_message_bytes, ${message}); make it larger`],
    );
  }
  if (limits.request_timeout < limits.header_timeout) {
    const [request, header] = [formatDuration(limits.request_timeout), formatDuration(limits.header_timeout)];
    complain(
      context,
      ["request_timeout"],
      [`is ${request}, less than the head alone may take (header_timeout, ${header}); make it longer`],
    );
  }
}

export function checkRecords(records: Records, context: z.RefinementCtx): void {
  if (records.retention_bytes === 0 || records.retention_bytes >= records.max_file_size) return;
  const [bytes, file] = [formatSize(records.retention_bytes), formatSize(records.max_file_size)];
  complain(
    context,
    ["retention_bytes"],
    [`is ${bytes}, less than one file has (max_file_size, ${file}); make it larger, or the files smaller`],
  );
}

/** Running nodes write the time down once an hour: a shorter jump would be one of theirs. */
const JUMP_MS_MIN = 2 * 60 * 60 * 1000;

export function checkClock({ max_jump }: { readonly max_jump: number }, context: z.RefinementCtx): void {
  if (max_jump === 0 || max_jump >= JUMP_MS_MIN) return;
  complain(context, ["max_jump"], ["must be 2h or more, or 0s, with which every clock is believed"]);
}

export function checkReplication(replication: Replication, context: z.RefinementCtx): void {
  if (replication.window_bytes < replication.batch_bytes) {
    const [batch, window] = [formatSize(replication.batch_bytes), formatSize(replication.window_bytes)];
    complain(
      context,
      ["window_bytes"],
      [`is ${window}, less than one batch has (batch_bytes, ${batch}); make it larger`],
    );
  }
  complainOfDoubles(context, "replicas", replication.replicas);
  const needed = ["listen", "cert_file", "key_file", "ca_file"] as const;
  const missing = needed.filter((key) => replication[key] === undefined);
  const given = needed.find((key) => replication[key] !== undefined);
  if (given !== undefined && missing.length > 0) {
    complain(
      context,
      [given],
      [`needs ${missing.join(", ")} beside it: nodes prove themselves to each other both ways`],
    );
  }
}

export function checkTls({ cert_file, key_file, ca_file, client_auth }: Tls, context: z.RefinementCtx): void {
  if (cert_file !== undefined && key_file === undefined) complain(context, ["cert_file"], ["needs key_file beside it"]);
  if (key_file !== undefined && cert_file === undefined) complain(context, ["key_file"], ["needs cert_file beside it"]);
  if (client_auth !== "none" && (ca_file === undefined || cert_file === undefined)) {
    complain(
      context,
      ["client_auth"],
      [`is ${client_auth}, which needs cert_file, key_file and ca_file: who signs the clients' certificates`],
    );
  }
}

export function checkCluster(cluster: Cluster, context: z.RefinementCtx): void {
  complainOfDoubles(context, "nodes", cluster.nodes);
}

export function checkTogether(values: Together, context: z.RefinementCtx): void {
  checkStaleness(values, context);
  const { nodes } = values.cluster;
  const { commit, replicas } = values.replication;
  if (nodes.length === 0) {
    if (commit !== "majority") return;
    const why = "needs cluster.nodes, the nodes of which a majority must keep a write; list them, or make it master";
    complain(context, ["replication", "commit"], [`majority ${why}`]);
    return;
  }
  checkOwnAddress(values, context);
  replicas.forEach((address, index) => {
    if (!nodes.includes(address)) return;
    const message = `names ${address}, which is among cluster.nodes already; remove it here`;
    complain(context, ["replication", "replicas", index], [message]);
  });
}

/** A replica hears how old it is with every heartbeat, so that a shorter limit would make it come and go. */
function checkStaleness({ server, master, replication }: Together, context: z.RefinementCtx): void {
  const heartbeatMs = master?.sync_interval ?? replication.sync_interval;
  const limitMs = server.ready_max_staleness;
  if (limitMs === 0 || limitMs >= 2 * heartbeatMs) return;
  const [limit, heartbeat] = [formatDuration(limitMs), formatDuration(heartbeatMs)];
  const key = master?.sync_interval !== undefined ? "master.sync_interval" : "replication.sync_interval";
  complain(
    context,
    ["server", "ready_max_staleness"],
    [`is ${limit}, less than two heartbeats (${key}, ${heartbeat}); make it longer, or the heartbeat shorter`],
  );
}

function checkOwnAddress({ server, cluster }: Together, context: z.RefinementCtx): void {
  const { nodes } = cluster;
  if (server.advertise !== undefined) {
    if (nodes.includes(server.advertise)) return;
    const message = `does not name this node, whose server.advertise is ${server.advertise}; add it, or mend one of the two`;
    complain(context, ["cluster", "nodes"], [message]);
    return;
  }
  if (server.port === 0) {
    const message =
      "is 0, any free port, and cluster.nodes needs one that is known; choose it, or set server.advertise";
    complain(context, ["server", "port"], [message]);
    return;
  }
  const own = addressOf(server.address, server.port);
  if (nodes.includes(own)) return;
  complain(
    context,
    ["cluster", "nodes"],
    [
      `does not name this node, whose address is ${own}; add it, or set server.advertise to the entry that is this node`,
    ],
  );
}

/** Whether nothing is wrong yet in any of the sections. */
export function isFreeOf(
  issues: readonly { readonly path?: readonly PropertyKey[] | undefined }[],
  sections: string[],
): boolean {
  return issues.every(({ path }) => path?.[0] !== undefined && !sections.includes(String(path[0])));
}

function complainOfDoubles(context: z.RefinementCtx, key: string, addresses: readonly string[]): void {
  addresses.forEach((address, index) => {
    if (addresses.indexOf(address) < index)
      complain(context, [key, index], [`names ${address} a second time; remove it`]);
  });
}

function complain(context: z.RefinementCtx, path: PropertyKey[], sentences: readonly string[]): void {
  context.addIssue({ code: "custom", path, message: sentences.join(" ") });
}
