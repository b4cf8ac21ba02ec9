import { expect, test, vi } from "vitest";
import type * as MethodTable from "./method-table.js";
import { startTestServer } from "./testing/test-server.js";

vi.mock("./method-table.js", async (original) => {
  const table = await original<typeof MethodTable>();
  return { ...table, audiences: new Map([...table.audiences].filter(([name]) => !name.endsWith("/Promote"))) };
});

test("a server that serves a method of which the table says nothing does not start", async () => {
  await expect(startTestServer()).rejects.toThrow("the access table says nothing about cambium.v1.Cluster/Promote");
});
