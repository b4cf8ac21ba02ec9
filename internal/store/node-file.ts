/**
 * `node.json`: what a node must remember beside its log. Replaced as a whole, atomically, and synced before any promise
 * in it is given to others. A file that cannot be read stops the start; it is never taken for an empty directory.
 */
import { assert } from "../base/assert.js";
import { crc32 } from "../base/crc32.js";
import {
  type ClusterId,
  clusterId,
  type EpochId,
  epochId,
  isHexId,
  newNodeId,
  type NodeId,
  nodeId,
  type RandomSource,
  type TransferId,
  transferId,
} from "../base/ids.js";
import { epoch, type Epoch, type EpochMs, epochMs } from "../base/position.js";
import { type FileSystem, FileSystemError } from "../wal/file-system.js";
import type { Durability } from "../wal/log.js";
import type { CommitMode } from "./change.js";

export type NodeRole = "master" | "replica";

/** The highest mastership that this node has promised to follow; it refuses lower ones for ever. */
export interface EpochPromise {
  readonly epoch: Epoch;
  readonly candidate?: NodeId;
  readonly epochId?: EpochId;
}

export interface NodeState {
  readonly nodeId: NodeId;
  readonly role: NodeRole;
  /** Absent until the node founds or joins a cluster. */
  readonly clusterId?: ClusterId;
  /** Whether the log was made: from then on a missing log is damage, not emptiness. */
  readonly hasLog: boolean;
  /** Whether the node has once held everything that its master had: until then it serves nothing. */
  readonly caughtUp: boolean;
  readonly promised: EpochPromise;
  /** Whether the node may have lost what it once acknowledged, and has not caught up with a master since. */
  readonly mustCatchUp: boolean;
  /** A master's whole state has come, and is to be put in the place of this node's own before anything else. */
  readonly installing?: TransferId | undefined;
  /** The data of this node is to be set aside before anything else. */
  readonly settingAside?: SettingAside | undefined;
  /** The newest folder into which that was done. */
  readonly setAside?: string | undefined;
  /**
   * By whose copies the last mastership of this node committed, as far as that is certain; absent: by its own alone. Then its data
   * may be all that there is of what it acknowledged.
   */
  readonly masterCommit?: CommitMode | undefined;
  /** The master's time as this node knew it when that was last written down: now and then, and at the end of a run. */
  readonly timeMs?: EpochMs | undefined;
  /** The last run that had the log: in which time of the machine, if it knew, and how far it synced. */
  readonly run?: NodeRun | undefined;
}

export interface SettingAside {
  readonly folder: string;
  readonly reason: string;
}

export interface NodeRun {
  readonly bootId?: string | undefined;
  readonly durability: Durability;
  /** It ended in order, with all of its log synced, and no other has had the log since. Not noted under `always`. */
  readonly isOver?: true;
}

/** A data directory that this version must not touch. */
export class NodeFileError extends Error {
  override readonly name = "NodeFileError";
}

const FILE = "node.json";
const TEMPORARY = "node.json.new";
const FORMAT = 1;
const SIZE_MAX = 64 * 1024;
const DURABILITIES: readonly Durability[] = ["always", "interval", "os"];

/** A node's state, and the file that it lives in. What `state` says is on the disk. */
export class NodeFile {
  readonly #fileSystem: FileSystem;
  #state: NodeState;
  /** Writes go one after the other: each is made of what the one before it left. */
  #saving: Promise<void> = Promise.resolve();

  private constructor(fileSystem: FileSystem, state: NodeState) {
    this.#fileSystem = fileSystem;
    this.#state = state;
  }

  /** Reads the state of a data directory; an empty directory becomes a new node. Throws `NodeFileError`. */
  static async open(options: {
    fileSystem: FileSystem;
    initialRole: NodeRole;
    random: RandomSource;
    /** Whether the directory holds data: then a missing file is damage. */
    hasData: boolean;
  }): Promise<NodeFile> {
    const { fileSystem } = options;
    const found = await readNodeFile(fileSystem);
    if (found) return new NodeFile(fileSystem, found);
    if (options.hasData) {
      throw new NodeFileError(
        `the directory has a log but no ${FILE}; restore the file, or start over with an empty directory`,
      );
    }
    const state = newNodeState(options.initialRole, options.random);
    await writeNodeFile(fileSystem, state);
    return new NodeFile(fileSystem, state);
  }

  /** Makes the state of a data directory that has none; durable when it resolves. */
  static async create(fileSystem: FileSystem, state: NodeState): Promise<void> {
    assert(!(await fileSystem.list("")).includes(FILE), `${FILE} is there already`);
    await writeNodeFile(fileSystem, state);
  }

  get state(): NodeState {
    return this.#state;
  }

  /**
   * Changes some of the state; durable when it resolves, and not visible before. A patch that depends on the state is made of
   * what the writes before it have left; when it throws, nothing is written.
   */
  save(patch: Partial<NodeState> | ((state: NodeState) => Partial<NodeState>)): Promise<void> {
    const saved = this.#saving.then(async () => {
      const next = { ...this.#state, ...(typeof patch === "function" ? patch(this.#state) : patch) };
      await writeNodeFile(this.#fileSystem, next);
      this.#state = next;
    });
    // Whoever called learns of a failure from `saved`; the next write begins afresh all the same.
    this.#saving = saved.then(
      () => undefined,
      () => undefined,
    );
    return saved;
  }

  /** Resolves once no write is under way. */
  settled(): Promise<void> {
    return this.#saving;
  }
}

function newNodeState(role: NodeRole, random: RandomSource): NodeState {
  return {
    nodeId: newNodeId(random),
    role,
    hasLog: false,
    caughtUp: false,
    mustCatchUp: false,
    promised: { epoch: epoch(0) },
  };
}

/** The state of a data directory, only read; undefined when it has none. Throws `NodeFileError`, `FileSystemError`. */
export async function readNodeFile(fileSystem: FileSystem): Promise<NodeState | undefined> {
  let text: string;
  try {
    text = await readText(fileSystem, FILE);
  } catch (error) {
    if (error instanceof FileSystemError && error.code === "ENOENT") return undefined;
    throw error;
  }
  return parse(text);
}

async function writeNodeFile(fileSystem: FileSystem, state: NodeState): Promise<void> {
  const body = JSON.stringify({ format: FORMAT, ...state });
  const bytes = Buffer.from(`${JSON.stringify({ crc32: crc32(Buffer.from(body)) })}\n${body}\n`);
  // A crash may have left the temporary file of an earlier try.
  if ((await fileSystem.list("")).includes(TEMPORARY)) await fileSystem.remove(TEMPORARY);
  const file = await fileSystem.open(TEMPORARY, "create");
  try {
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at), at);
    await file.datasync();
  } finally {
    await file.close();
  }
  await fileSystem.rename(TEMPORARY, FILE);
  await fileSystem.syncDirectory("");
}

async function readText(fileSystem: FileSystem, path: string): Promise<string> {
  const file = await fileSystem.open(path, "read");
  try {
    const size = await file.size();
    if (size > SIZE_MAX) throw new NodeFileError(`${FILE} has ${size} bytes; it never has more than ${SIZE_MAX}`);
    const bytes = Buffer.alloc(size);
    const read = await file.read(bytes, 0);
    return bytes.toString("utf8", 0, read);
  } finally {
    await file.close();
  }
}

function parse(text: string): NodeState {
  const [sum, body] = text.split("\n");
  const expected = parseJson(sum ?? "")["crc32"];
  const found = crc32(Buffer.from(body ?? ""));
  if (expected !== found) {
    throw new NodeFileError(
      `${FILE} is damaged: its checksum is ${found}, ${String(expected)} was expected; restore the file, or start over with an empty directory`,
    );
  }
  const fields = parseJson(body ?? "");
  if (fields["format"] !== FORMAT) {
    throw new NodeFileError(
      `${FILE} has format ${String(fields["format"])}, this version knows ${FORMAT}; nothing was changed, use a newer version`,
    );
  }
  const promised = fields["promised"] as Record<string, unknown>;
  const cluster = optionalId(fields["clusterId"], 16);
  const candidate = optionalId(promised["candidate"], 16);
  const promisedId = optionalId(promised["epochId"], 8);
  const installing = optionalId(fields["installing"], 16);
  return {
    nodeId: nodeId(String(fields["nodeId"])),
    role: fields["role"] === "master" ? "master" : "replica",
    ...(cluster !== undefined && { clusterId: clusterId(cluster) }),
    hasLog: fields["hasLog"] === true,
    caughtUp: fields["caughtUp"] === true,
    mustCatchUp: fields["mustCatchUp"] === true,
    promised: {
      epoch: epoch(Number(promised["epoch"])),
      ...(candidate !== undefined && { candidate: nodeId(candidate) }),
      ...(promisedId !== undefined && { epochId: epochId(promisedId) }),
    },
    ...(installing !== undefined && { installing: transferId(installing) }),
    ...parseLaterFields(fields),
  };
}

function parseLaterFields(
  fields: Record<string, unknown>,
): Pick<NodeState, "settingAside" | "setAside" | "masterCommit" | "timeMs" | "run"> {
  const settingAside = fields["settingAside"] as Record<string, unknown> | undefined;
  const setAside = fields["setAside"];
  const run = fields["run"] as Record<string, unknown> | undefined;
  const durability = DURABILITIES.find((mode) => mode === run?.["durability"]);
  const bootId = run?.["bootId"];
  const timeMs = fields["timeMs"];
  return {
    ...(settingAside && {
      settingAside: { folder: String(settingAside["folder"]), reason: String(settingAside["reason"]) },
    }),
    ...(typeof setAside === "string" && { setAside }),
    ...(fields["masterCommit"] === "majority" && { masterCommit: "majority" }),
    ...(typeof timeMs === "number" && { timeMs: epochMs(timeMs) }),
    ...(durability && {
      run: {
        durability,
        ...(typeof bootId === "string" && { bootId }),
        ...(run?.["isOver"] === true && { isOver: true }),
      },
    }),
  };
}

function parseJson(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new NodeFileError(
      `${FILE} is damaged: ${String(cause)}; restore the file, or start over with an empty directory`,
      {
        cause,
      },
    );
  }
}

function optionalId(value: unknown, bytes: number): string | undefined {
  return typeof value === "string" && isHexId(value, bytes) ? value : undefined;
}
