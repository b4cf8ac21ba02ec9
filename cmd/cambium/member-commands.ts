/** `members add` and `members remove`. */
import type { Command } from "commander";
import { type GlobalOptions, withClient } from "./command-context.js";
import { parseNodeAddress } from "./node-name.js";
import { type Terminal, write, writeJson } from "./terminal.js";

export function addMemberCommands(program: Command, terminal: Terminal): void {
  const members = program
    .command("members")
    .summary("add and remove replicas")
    .description("Changes who belongs to the cluster.");
  members
    .command("add")
    .summary("make a node a replica")
    .description(
      "Makes the node at an address, as the master reaches it, a replica of the cluster. A node that cluster.nodes lists, and " +
        "that came back with an empty disk, is given its vote again.",
    )
    .argument("<address>", "host:port", parseNodeAddress)
    .option("--json", "print the member as JSON")
    .addHelpText("after", "\nExample:\n  $ cambium members add 10.0.0.7:8080")
    .action((address: string, _options, command: Command) => add(address, command.optsWithGlobals(), terminal));
  members
    .command("remove")
    .summary("end the membership of a node")
    .description(
      "Ends the membership of a node that is not the master, and its vote where it has one, as long as a majority of the other voters " +
        "is connected. Its data stays on its disk; it is refused until it is added again.",
    )
    .argument("<member>", "its host:port, or its node id")
    .addHelpText("after", "\nExample:\n  $ cambium members remove 10.0.0.7:8080")
    .action((member: string, _options, command: Command) => remove(member, command.optsWithGlobals(), terminal));
}

async function add(
  address: string,
  options: GlobalOptions & { readonly json?: true },
  { stdout, signal }: Terminal,
): Promise<void> {
  const member = await withClient(options, (client) => client.addReplica(address, { signal }));
  if (options.json) await writeJson(stdout, member);
  else {
    const node = member.nodeId ? ` (node ${member.nodeId})` : "";
    const detail = member.detail ? `: ${member.detail}` : "";
    await write(stdout, `${member.address} is a ${member.voter ? "voter" : "member"}${node}${detail}\n`);
  }
}

async function remove(member: string, options: GlobalOptions, { stdout, signal }: Terminal): Promise<void> {
  const which = /^[0-9a-f]{32}$/i.test(member) ? { nodeId: member.toLowerCase() } : { address: member };
  await withClient(options, (client) => client.removeReplica(which, { signal }));
  await write(stdout, `${member} is no member any more\n`);
}
