/**
 * Large pages of a scan, encoded a slice at a time, with whatever else there is to do in between: the library would take a tenth
 * of a second for the largest. It is given the slices as bytes that it writes as they are; see `watch-encoder.ts`.
 */
import { setImmediate } from "node:timers/promises";
import { create, type JsonWriteOptions, toBinary, toJsonString } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import {
  type ScanEntry,
  ScanEntrySchema,
  type ScanResponse,
  ScanResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { assert } from "../base/assert.js";
import { type JsonBytes, type JsonFrame, jsonFrameOf } from "./json-bytes.js";

/** Entries that are encoded in one turn of the event loop. */
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

  /** Puts the entries into a page that has none, to be sent on the tick on which it resolves. */
  async fill(
    page: ScanResponse,
    entries: readonly ScanEntry[],
    { form, signal }: { readonly form: "binary" | "json"; readonly signal: AbortSignal },
  ): Promise<void> {
    if (entries.length <= SLICE) {
      page.entries = [...entries];
      return;
    }
    const slices: Uint8Array[] = [];
    for (let at = 0; at < entries.length; at += SLICE) {
      if (at > 0) await setImmediate();
      signal.throwIfAborted();
      const slice = entries.slice(at, at + SLICE);
      slices.push(
        form === "json"
          ? this.#json(slice)
          : toBinary(ScanResponseSchema, create(ScanResponseSchema, { entries: slice })),
      );
    }
    if (form === "binary") {
      page.$unknown = slices.map((slice) => ({
        no: ENTRIES.number,
        wireType: WireType.LengthDelimited,
        data: slice.subarray(TAG_BYTES),
      }));
      return;
    }
    const json = Buffer.concat(slices.flatMap((slice) => [COMMA, slice]).slice(1));
    page.entries = [create(ScanEntrySchema, { key: this.#jsonBytes.standInFor({ json, ...this.#frame }) })];
  }

  #json(entries: readonly ScanEntry[]): Uint8Array {
    for (const entry of entries) this.#jsonBytes.prepare(entry);
    const texts = entries.map((entry) => toJsonString(ScanEntrySchema, entry, this.#jsonOptions));
    return this.#jsonBytes.encode(texts.join(","));
  }
}
