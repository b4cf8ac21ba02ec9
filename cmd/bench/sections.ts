/** All that the bench measures, in the order of a run. One more is a module with a `defineSection`, and its name in the list below. */
import { client } from "./client.js";
import { durable } from "./durable.js";
import { engine } from "./engine.js";
import { recovery } from "./recovery.js";
import { connections } from "./connections.js";
import { growth } from "./growth.js";
import { replication } from "./replication.js";
import { rpc } from "./rpc.js";
import type { Section } from "./section.js";
import { snapshot } from "./snapshot.js";
import { watchers } from "./watchers.js";

export const sections: readonly Section[] = [
  rpc,
  durable,
  engine,
  recovery,
  snapshot,
  replication,
  client,
  watchers,
  connections,
  growth,
];
