/** Spans of a whole cluster, switched on exactly as docs/tracing.md says. */
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { TestNode } from "../harness/node.js";
import { root } from "../harness/programs.js";
import { request } from "../harness/rpc.js";
import { until } from "../harness/until.js";

test("an SDK that is imported before the node gets the spans of a write, on the replica and on the master", async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), "cambium-tracing-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [, example = ""] =
    /^```js\n(.*?)^```$/ms.exec(await readFile(path.join(root, "docs/tracing.md"), "utf8")) ?? [];
  const tracing = path.join(folder, "tracing.mjs");
  await writeFile(tracing, example);
  await symlink(path.join(root, "node_modules"), path.join(folder, "node_modules"));
  const under = ["env", `NODE_OPTIONS=--import=${pathToFileURL(tracing).href}`];

  const start = async (
    program: "master" | "replica",
    config: TestNode["options"]["config"] = {},
  ): Promise<TestNode> => {
    const node = new TestNode({ program, directory: path.join(folder, program), config });
    onTestFinished(async () => {
      if (node.running) await node.kill();
    });
    return node.start({ under });
  };
  const master = await start("master");
  const replica = await start("replica", {
    master: { address: master.address },
    server: { forward_writes: true },
  });
  await replica.ready();
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const answer = await request(replica.address, "/cambium.v1.KVStore/Set", {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    body: JSON.stringify({ key: "a", value: "YQ==" }),
  });
  expect(answer.status).toBe(200);
  for (const node of [replica, master]) {
    const told = await until("the span is told", () => {
      const lines = node.log.map(({ msg }) => msg.trim());
      const from = lines.indexOf(`traceId: '${traceId}',`);
      const to = lines.indexOf("links: []", from);
      return from < 0 || to < 0 ? undefined : lines.slice(from, to);
    });
    expect(told).toContain("name: 'cambium.v1.KVStore/Set',");
    expect(told).toContain(`'cambium.request_id': '${String(answer.headers["x-request-id"])}',`);
    expect(told.includes("name: 'committed',")).toBe(node === master);
  }
});
