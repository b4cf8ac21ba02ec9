/** A store as a server has it, without the server: on the disk, and sole voter of its cluster. */
import { randomBytes } from "node:crypto";
import { SystemClock } from "../../internal/base/clock.js";
import { epochId } from "../../internal/base/ids.js";
import { silentLogger } from "../../internal/base/logger.js";
import { epoch } from "../../internal/base/position.js";
import type { Engine } from "../../internal/engine/engine.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import { Store, type SnapshotPolicy } from "../../internal/store/store.js";
import { NodeFileSystem } from "../../internal/wal/node-file-system.js";

export function openStore(
  directory: string,
  options: { engine?: Engine; durability?: "always" | "os"; snapshots?: SnapshotPolicy } = {},
): Promise<Store> {
  return Store.open({
    fileSystem: new NodeFileSystem(directory),
    clock: new SystemClock(),
    random: { bytes: (length) => new Uint8Array(randomBytes(length)) },
    logger: silentLogger,
    engine: new SlabEngine(),
    initialRole: "master",
    durability: "os",
    syncIntervalMs: 1000,
    segmentBytesMax: 100_000_000,
    snapshots: { intervalMs: 0, logBytes: Infinity, keep: 1 },
    retainedBytesMax: 1 << 30,
    pendingBytesMax: 1 << 30,
    ...options,
  });
}

/** Founds a cluster on an empty directory, and resolves once its only member takes writes. */
export async function beginServing(store: Store): Promise<void> {
  await store.foundCluster();
  const first = epoch(1);
  const id = epochId("1".padStart(16, "0"));
  await store.promise({ epoch: first, candidate: store.nodeId, epochId: id });
  const serving = new Promise<void>((resolve) => {
    store.listen({ kept: (seq) => store.commit(seq), applied: () => resolve() });
  });
  store.beginEpoch(first, id);
  await serving;
  await store.markCaughtUp();
}
