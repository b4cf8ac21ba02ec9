/** What a write that changes nothing waits for: no majority has kept a record of it, so only asking shows that this node is still master. */
import { expect, test } from "vitest";
import { StoreError } from "./store-error.js";
import type { SetCommand, Store } from "./store.js";
import { beginMastership, bytes, openStore } from "./testing/stores.js";

const set: SetCommand = { kind: "set", key: bytes("a"), value: bytes("1") };
const onlyNew: SetCommand = { ...set, condition: { ifAbsent: true } };

async function master(): Promise<Store> {
  const store = await openStore();
  await beginMastership(store);
  await store.write([set]);
  return store;
}

/** Asks of a majority that answer when told. */
function majority() {
  const asked: { readonly yes: () => void; readonly no: (error: Error) => void }[] = [];
  const confirm = (): Promise<void> =>
    new Promise((resolve, reject) => void asked.push({ yes: () => resolve(), no: reject }));
  return { asked, confirm };
}

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test("a refusal, and an answer that rests on reading alone, are given once the mastership is confirmed", async () => {
  const store = await master();
  const { asked, confirm } = majority();
  const told: string[] = [];
  const tell = (what: string) => (): void => void told.push(what);
  void store.write([onlyNew], { confirm }).catch(tell("refused"));
  const reading = { compares: [], then: [{ kind: "get" as const, key: bytes("a") }], else: [] };
  void store.transact(reading, { confirm }).then(tell("read"));
  void store.write([{ kind: "delete", key: bytes("b") }], { confirm }).then(tell("nothing deleted"));
  await turn();
  expect(told).toEqual([]);
  expect(asked.length).toBe(3);
  for (const { yes } of asked) yes();
  await turn();
  expect(told).toEqual(["refused", "read", "nothing deleted"]);
  await store.close();
});

test("what makes a record asks nobody, nor does what its master alone is to answer for", async () => {
  const store = await master();
  const { asked, confirm } = majority();
  await store.write([set], { confirm });
  await expect(store.write([onlyNew], { confirm, acknowledge: "kept" })).rejects.toMatchObject({
    code: "condition_failed",
  });
  expect(asked).toEqual([]);
  await store.close();
});

test("where nobody confirms it, that is what the caller is told", async () => {
  const store = await master();
  const { asked, confirm } = majority();
  const refused = store.write([onlyNew], { confirm });
  await turn();
  asked[0]?.no(new StoreError("closing", "nobody answers"));
  await expect(refused).rejects.toMatchObject({ message: "nobody answers" });
  await store.close();
});

test("a mastership that has ended meanwhile answers nothing", async () => {
  const store = await master();
  const { asked, confirm } = majority();
  const refused = store.write([onlyNew], { confirm });
  await turn();
  store.endMastership();
  asked[0]?.yes();
  await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/not_master|not_ready/) as string });
  await store.close();
});

test("by another mastership of the same node it is judged anew", async () => {
  const store = await master();
  const { asked, confirm } = majority();
  const written = store.write([onlyNew], { confirm });
  await turn();
  store.endMastership();
  await beginMastership(store, { epoch: 3 });
  await store.write([{ kind: "delete", key: bytes("a") }]);
  asked[0]?.yes();
  expect((await written).results).toEqual([{ existed: false }]);
  expect(asked.length).toBe(1);
  await store.close();
});
