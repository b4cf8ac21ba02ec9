/** The API as curl sees it: JSON over HTTP/1.1, a connection a call, so that no test inherits a dead one. */
import http from "node:http";

export interface HttpAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

export interface HttpRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** One request to `host:port` + path. Rejects only when there is no whole answer. */
export function request(address: string, path: string, options: HttpRequest = {}): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const { method = "GET", headers, body } = options;
    const outgoing = http.request(`http://${address}${path}`, { method, headers, agent: false }, (incoming) => {
      let text = "";
      incoming.setEncoding("utf8");
      incoming.on("data", (chunk: string) => (text += chunk));
      incoming.on("error", reject);
      incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** An answer in Connect's JSON form, where 64-bit numbers are strings and fields with default values are left out. */
export interface JsonAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Calls `Service/Method` of the package `cambium.v1`. */
export async function call(address: string, method: string, message: unknown = {}): Promise<JsonAnswer> {
  const { status, text } = await request(address, `/cambium.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(message),
  });
  return { status, body: JSON.parse(text) as JsonAnswer["body"] };
}

export class CallError extends Error {
  override readonly name = "CallError";
  readonly status: number;

  constructor(method: string, answer: JsonAnswer) {
    super(`${method} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    this.status = answer.status;
  }
}

async function succeed(address: string, method: string, message: unknown): Promise<JsonAnswer["body"]> {
  const answer = await call(address, method, message);
  if (answer.status !== 200) throw new CallError(method, answer);
  return answer.body;
}

/** Writes a key on the master; resolves to the record's seq once the write is acknowledged. */
export async function set(address: string, key: string, value: string | Uint8Array): Promise<number> {
  const body = await succeed(address, "KVStore/Set", { key, value: Buffer.from(value).toString("base64") });
  const { position } = body as { position?: { seq?: string } };
  return Number(position?.seq ?? 0);
}

/** Reads a key as text; undefined when it is absent. */
export async function get(address: string, key: string): Promise<string | undefined> {
  const body = (await succeed(address, "KVStore/Get", { key })) as { exists?: boolean; value?: string };
  return body.exists ? Buffer.from(body.value ?? "", "base64").toString() : undefined;
}

/** Reads many keys as text, in one call and in their order; undefined where one is absent. */
export async function getAll(address: string, keys: readonly string[]): Promise<(string | undefined)[]> {
  const { entries = [] } = (await succeed(address, "KVStore/BatchGet", { keys })) as {
    entries?: { exists?: boolean; value?: string }[];
  };
  return entries.map(({ exists, value = "" }) => (exists ? Buffer.from(value, "base64").toString() : undefined));
}

export interface NodeState {
  readonly nodeId: string;
  readonly role: string;
  readonly address: string;
  readonly ready: boolean;
  readonly appliedSeq: number;
  readonly epoch: number;
  readonly keys: number;
  readonly masterAddress: string;
  readonly divergedRecords: number;
  readonly setAside: string;
  readonly commit: string;
  readonly members: readonly {
    nodeId?: string;
    address?: string;
    state?: string;
    matchSeq?: string;
    source?: string;
    voter?: boolean;
  }[];
}

/** What a node says about itself and the members. */
export async function status(address: string): Promise<NodeState> {
  const body = await succeed(address, "Cluster/Status", {});
  const { node = {}, members = [] } = body as {
    node?: {
      nodeId?: string;
      role?: string;
      address?: string;
      ready?: boolean;
      keys?: string;
      masterAddress?: string;
      divergedRecords?: string;
      setAside?: string;
      commit?: string;
      applied?: { seq?: string; epoch?: string };
    };
    members?: NodeState["members"];
  };
  return {
    nodeId: node.nodeId ?? "",
    role: node.role ?? "",
    address: node.address ?? "",
    ready: node.ready ?? false,
    appliedSeq: Number(node.applied?.seq ?? 0),
    epoch: Number(node.applied?.epoch ?? 0),
    keys: Number(node.keys ?? 0),
    masterAddress: node.masterAddress ?? "",
    divergedRecords: Number(node.divergedRecords ?? 0),
    setAside: node.setAside ?? "",
    commit: node.commit ?? "",
    members,
  };
}
