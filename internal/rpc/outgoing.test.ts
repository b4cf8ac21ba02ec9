import { describe, expect, test } from "vitest";
import { Outgoing } from "./outgoing.js";

function newOutgoing(bytesMax = 100): { outgoing: Outgoing<string>; drains: number[] } {
  const drains: number[] = [];
  const outgoing: Outgoing<string> = new Outgoing({
    bytesMax,
    sizeOf: (item) => item.length,
    overflow: () => new Error("too much"),
    drained: () => drains.push(outgoing.bufferedBytes),
  });
  return { outgoing, drains };
}

describe("messages on their way out", () => {
  test("come out in their order, and count until the next one is asked for", async () => {
    const { outgoing, drains } = newOutgoing();
    outgoing.add("one");
    outgoing.add("three");
    expect(outgoing.bufferedBytes).toBe(8);
    const items = outgoing[Symbol.asyncIterator]();
    expect(await items.next()).toEqual({ done: false, value: "one" });
    expect(outgoing.bufferedBytes).toBe(8);
    expect((await items.next()).value).toBe("three");
    expect(outgoing.bufferedBytes).toBe(5);
    expect(drains).toEqual([]);
    const next = items.next();
    expect(outgoing.bufferedBytes).toBe(0);
    expect(drains).toEqual([0]);
    outgoing.add("later");
    expect((await next).value).toBe("later");
  });

  test("end after what was added, and take nothing more", async () => {
    const { outgoing } = newOutgoing();
    outgoing.add("a");
    outgoing.end();
    outgoing.add("b");
    const all: string[] = [];
    for await (const item of outgoing) all.push(item);
    expect(all).toEqual(["a"]);
  });

  test("fail while somebody waits for the next", async () => {
    const { outgoing } = newOutgoing();
    const next = outgoing[Symbol.asyncIterator]().next();
    outgoing.fail(new Error("broken"));
    outgoing.end();
    await expect(next).rejects.toThrow("broken");
  });

  test("fail once more is waiting than may be held", async () => {
    const { outgoing } = newOutgoing(3);
    outgoing.add("four");
    const items = outgoing[Symbol.asyncIterator]();
    expect((await items.next()).value).toBe("four");
    await expect(items.next()).rejects.toThrow("too much");
  });
});
