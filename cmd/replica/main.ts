#!/usr/bin/env node
import { LeaveSignals } from "../leave-signals.js";

// Before the rest is loaded, which takes a while: a signal that comes meanwhile is not to kill.
const signals = new LeaveSignals();
const { runServer } = await import("../node.js");
await runServer({ kind: "replica", program: "cambium-replica", signals });
