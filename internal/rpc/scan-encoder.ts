/**
 * Pages of a scan on their way to the wire. In binary a page is encoded on the tick on which it is read. As JSON that would take
 * tens of milliseconds, so that only copies are made then, and of these the text a slice at a time, with whatever else there is to
 * do in between. Either way the library is given bytes that it writes as they are; see `watch-encoder.ts`.
 */
import { setImmediate } from "node:timers/promises";
import { create, type JsonWriteOptions, toJsonString } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  type ScanEntry,
  ScanEntrySchema,
  type ScanResponse,
  ScanResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { assert } from "../base/assert.js";
import { type EpochMs, toWire64 } from "../base/position.js";
import type { ScanPage } from "../store/store.js";
import { keyToWire } from "./convert.js";
import { aboutToWire, copyOf } from "./entries.js";
import { type JsonBytes, type JsonFrame, jsonFrameOf } from "./json-bytes.js";
import { entriesToBytes } from "./scan-bytes.js";

/** Entries of which the text is made in one turn of the event loop. */
const SLICE = 500;

const ENTRIES = ScanResponseSchema.field.entries;
/** A field of such a number has a tag of one byte. */
const TAG_BYTES = 1;
const COMMA = Buffer.from(",");

export class ScanEncoder {
  readonly #jsonBytes: JsonBytes;
  readonly #jsonOptions: Partial<JsonWriteOptions>;
  readonly #frame: JsonFrame;

  constructor(options: { readonly jsonBytes: JsonBytes; readonly jsonOptions: Partial<JsonWriteOptions> }) {
    assert(ENTRIES.number < 16, "a small number has a small tag");
    this.#jsonBytes = options.jsonBytes;
    this.#jsonOptions = options.jsonOptions;
    this.#frame = jsonFrameOf((key) =>
      toJsonString(ScanEntrySchema, create(ScanEntrySchema, { key }), this.#jsonOptions),
    );
  }

  /** Puts the entries, which are valid on this tick, into a page that has none; it is to be sent on the tick on which it resolves. */
  async fill(
    page: ScanResponse,
    entries: ScanPage["entries"],
    {
      form,
      nowMs,
      keysOnly,
      signal,
    }: {
      readonly form: "binary" | "json";
      readonly nowMs: EpochMs;
      readonly keysOnly: boolean;
      readonly signal: AbortSignal;
    },
  ): Promise<void> {
    if (entries.length === 0) return;
    if (form === "binary") {
      const data = entriesToBytes(entries, nowMs, keysOnly).subarray(TAG_BYTES);
      page.$unknown = [{ no: ENTRIES.number, wireType: WireType.LengthDelimited, data }];
      return;
    }
    const messages = entries.map((entry) =>
      create(ScanEntrySchema, {
        key: keyToWire(entry.key),
        ...(!keysOnly && { value: copyOf(entry.value) }),
        ...aboutToWire(entry, nowMs),
        valueBytes: toWire64(entry.value.byteLength),
      }),
    );
    if (messages.length <= SLICE) {
      page.entries = messages;
      return;
    }
    const slices: Uint8Array[] = [];
    for (let at = 0; at < messages.length; at += SLICE) {
      if (at > 0) await setImmediate();
      signal.throwIfAborted();
      slices.push(COMMA, this.#json(messages.slice(at, at + SLICE)));
    }
    const json = Buffer.concat(slices.slice(1));
    page.entries = [create(ScanEntrySchema, { key: this.#jsonBytes.standInFor({ json, ...this.#frame }) })];
  }

  #json(entries: readonly ScanEntry[]): Uint8Array {
    for (const entry of entries) this.#jsonBytes.prepare(entry);
    const texts = entries.map((entry) => toJsonString(ScanEntrySchema, entry, this.#jsonOptions));
    return this.#jsonBytes.encode(texts.join(","));
  }
}
