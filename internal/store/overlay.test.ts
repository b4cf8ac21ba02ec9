/** What writes in flight make of the keys, whenever somebody looks. */
import { describe, expect, test } from "vitest";
import type { Change } from "./change.js";
import { keyName, Overlay } from "./overlay.js";
import { bytes, seq } from "./testing/stores.js";

const put = (key: string, previousSeq = 0): Change => ({
  kind: "put",
  key: bytes(key),
  value: bytes("v"),
  previousSeq: seq(previousSeq),
});
const expire = (key: string): Change => ({ kind: "expire", key: bytes(key), modSeq: seq(1) });
const evict = (key: string): Change => ({ kind: "evict", key: bytes(key), modSeq: seq(1) });

/** How keys stand: the record that changed each last, negative where the key is gone by it; undefined: untouched. */
function stands(overlay: Overlay, ...keys: string[]): (number | undefined)[] {
  return keys.map((key) => {
    const found = overlay.look(keyName(bytes(key)));
    return found && (found.value ? Number(found.modSeq) : -Number(found.modSeq));
  });
}

describe("keys that expire by records in flight", () => {
  test("are gone for whoever looks, as long as their record is in flight", () => {
    const overlay = new Overlay();
    const [first, second] = [
      [expire("a"), expire("b")],
      [expire("c"), expire("d")],
    ];
    overlay.add(seq(5), first);
    overlay.add(seq(6), second);
    expect(stands(overlay, "a", "b", "c", "d", "e")).toEqual([-5, -5, -6, -6, undefined]);
    overlay.forget(seq(5), first);
    expect(stands(overlay, "a", "b", "c", "d")).toEqual([undefined, undefined, -6, -6]);
    overlay.forget(seq(6), second);
    expect(stands(overlay, "c", "d")).toEqual([undefined, undefined]);
  });

  test("are forgotten in their order when nobody has looked before they are applied", () => {
    const overlay = new Overlay();
    overlay.add(seq(5), [expire("a")]);
    overlay.add(seq(6), [expire("b")]);
    overlay.forget(seq(5), [expire("a")]);
    expect([overlay.touches(bytes("a")), overlay.touches(bytes("b"))]).toEqual([false, true]);
    overlay.add(seq(7), [expire("c")]);
    overlay.forget(seq(6), [expire("b")]);
    overlay.forget(seq(7), [expire("c")]);
    expect(["a", "b", "c"].map((key) => overlay.touches(bytes(key)))).toEqual([false, false, false]);
  });

  test("stay as a write that came before has left them, and as one does that comes after", () => {
    const overlay = new Overlay();
    overlay.add(seq(5), [put("before", 1)]);
    overlay.add(seq(6), [expire("before"), expire("after"), expire("neither")]);
    overlay.add(seq(7), [put("after")]);
    expect(stands(overlay, "before", "after", "neither")).toEqual([5, 7, -6]);
    overlay.forget(seq(5), [put("before", 1)]);
    overlay.forget(seq(6), [expire("before"), expire("after"), expire("neither")]);
    expect(stands(overlay, "before", "after", "neither")).toEqual([undefined, 7, undefined]);
  });

  test("stand below a range that is deleted after them", () => {
    const overlay = new Overlay();
    overlay.add(seq(5), [expire("a"), expire("x")]);
    overlay.add(seq(6), [{ kind: "delete-range", start: bytes("a"), end: bytes("c") }]);
    expect(stands(overlay, "a", "b", "x")).toEqual([-6, -6, -5]);
  });

  test("are among the names that records in flight touch", () => {
    const overlay = new Overlay();
    overlay.add(seq(5), [evict("b"), put("c")]);
    overlay.add(seq(6), [expire("a"), expire("d"), expire("z")]);
    expect([...overlay.namesWithin("a", "e")].sort()).toEqual(["a", "b", "c", "d"]);
  });

  test("are forgotten with all else when what is in flight comes to nothing", () => {
    const overlay = new Overlay();
    overlay.add(seq(5), [put("a")]);
    overlay.add(seq(6), [expire("b")]);
    overlay.clear();
    expect(["a", "b"].map((key) => overlay.touches(bytes(key)))).toEqual([false, false]);
  });
});
