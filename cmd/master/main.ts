#!/usr/bin/env node
import { runServer } from "../node.js";

await runServer({ kind: "master", program: "cambium-master" });
