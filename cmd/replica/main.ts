#!/usr/bin/env node
import { runServer } from "../node.js";

await runServer({ kind: "replica", program: "cambium-replica" });
