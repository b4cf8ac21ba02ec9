/** `wal stat`, `wal dump` and `wal verify`: what is on the disk of a node, running or not. */
import type { Command } from "commander";
import type { Terminal } from "./terminal.js";
import { addWalDump } from "./wal-dump.js";
import { addWalStat } from "./wal-stat.js";
import { addWalVerify } from "./wal-verify.js";

export function addWalCommand(program: Command, terminal: Terminal): void {
  const wal = program
    .command("wal")
    .summary("look at the files of a node")
    .description(
      "Looks at the data directory of a node on this machine, stopped or running. Takes no lock and writes nothing.",
    );
  addWalStat(wal, terminal);
  addWalDump(wal, terminal);
  addWalVerify(wal, terminal);
}
