/**
 * What watchers are sent, encoded once for all of them. The library would go through the same events anew for each; it is
 * given them as bytes that it writes as they are: in binary as fields that it takes for unknown, in JSON by stand-ins.
 */
import { create, type JsonWriteOptions, toBinary, toJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import {
  type Event,
  EventSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../api/gen/cambium/v1/kvstore_pb.js";
import { PositionSchema } from "../../api/gen/cambium/v1/types_pb.js";
import type { UpdateEvent } from "../store/store.js";
import type { WatchBatch } from "../watch/watch-types.js";
import { bytesOfEvent, bytesToWire, eventToWire, positionToWire } from "./convert.js";
import { type JsonBytes, type JsonFrame, jsonFrameOf } from "./json-bytes.js";

const { events: EVENTS, position: POSITION, token: TOKEN, more: MORE } = WatchResponseSchema.field;

const COMMA = Buffer.from(",");

export class WatchEncoder {
  readonly #jsonBytes: JsonBytes;
  readonly #jsonOptions: Partial<JsonWriteOptions>;
  /** An event in a list of a message in JSON, before and after the text of its key, when it has nothing else. */
  readonly #frame: JsonFrame;
  /** As long as somebody is still to be told of them. */
  readonly #batches = new WeakMap<WatchBatch, WatchResponse>();
  readonly #events = new WeakMap<UpdateEvent, Uint8Array>();
  readonly #texts = new WeakMap<WatchBatch, Uint8Array>();
  readonly #eventTexts = new WeakMap<UpdateEvent, Uint8Array>();
  readonly #frames = { binary: new WeakMap<WatchBatch, Uint8Array>(), json: new WeakMap<WatchBatch, Uint8Array>() };

  constructor(options: { readonly jsonBytes: JsonBytes; readonly jsonOptions: Partial<JsonWriteOptions> }) {
    this.#jsonBytes = options.jsonBytes;
    this.#jsonOptions = options.jsonOptions;
    this.#frame = jsonFrameOf((key) => toJsonString(EventSchema, create(EventSchema, { key }), options.jsonOptions));
  }

  /** About how many bytes the message of a batch has. */
  bytesOf({ events }: WatchBatch): number {
    return events.reduce((sum, event) => sum + bytesOfEvent(event), 0);
  }

  /** The message of a batch, to be sent on this tick. */
  encode(batch: WatchBatch, form: "binary" | "json"): WatchResponse {
    if (form === "json") return this.#json(batch);
    let message = this.#batches.get(batch);
    if (!message) this.#batches.set(batch, (message = this.#binary(batch)));
    return message;
  }

  /** The message of a batch as it is written to everybody who watches the same. */
  frame(batch: WatchBatch, form: "binary" | "json"): Uint8Array {
    const frames = this.#frames[form];
    let frame = frames.get(batch);
    if (!frame) {
      const message = this.encode(batch, form);
      const isJson = form === "json";
      if (isJson) this.#jsonBytes.prepare(message);
      const text = isJson ? toJsonString(WatchResponseSchema, message, this.#jsonOptions) : "";
      frame = encodeEnvelope(0, isJson ? this.#jsonBytes.encode(text) : toBinary(WatchResponseSchema, message));
      frames.set(batch, frame);
    }
    return frame;
  }

  #binary(batch: WatchBatch): WatchResponse {
    const message = create(WatchResponseSchema);
    const bytesField = (no: number, bytes: Uint8Array) => ({
      no,
      wireType: WireType.LengthDelimited,
      data: new BinaryWriter().bytes(bytes).finish(),
    });
    message.$unknown = [
      ...batch.events.map((event) => ({
        no: EVENTS.number,
        wireType: WireType.LengthDelimited,
        data: this.#binaryEvent(event),
      })),
      bytesField(POSITION.number, toBinary(PositionSchema, positionToWire(batch.position))),
      ...(batch.token ? [bytesField(TOKEN.number, batch.token)] : []),
      ...(batch.more ? [{ no: MORE.number, wireType: WireType.Varint, data: new Uint8Array([1]) }] : []),
    ];
    return message;
  }

  /** With its length before it. */
  #binaryEvent(event: UpdateEvent): Uint8Array {
    let bytes = this.#events.get(event);
    if (!bytes) {
      bytes = new BinaryWriter().bytes(toBinary(EventSchema, eventToWire(event))).finish();
      this.#events.set(event, bytes);
    }
    return bytes;
  }

  #json(batch: WatchBatch): WatchResponse {
    const { events, position, token, more } = batch;
    return create(WatchResponseSchema, {
      // One in the place of all of them: their texts are in its place in the list, with the commas between them.
      events: events.length === 0 ? [] : [this.#standInFor(this.#textsOf(batch))],
      position: positionToWire(position),
      ...(token && { token: bytesToWire(token) }),
      ...(more && { more }),
    });
  }

  #textsOf(batch: WatchBatch): Uint8Array {
    let texts = this.#texts.get(batch);
    if (!texts) {
      const parts = batch.events.flatMap((event) => [COMMA, this.#text(event)]);
      this.#texts.set(batch, (texts = Buffer.concat(parts.slice(1))));
    }
    return texts;
  }

  #text(event: UpdateEvent): Uint8Array {
    let text = this.#eventTexts.get(event);
    if (!text) {
      const message = eventToWire(event);
      this.#jsonBytes.prepare(message);
      text = this.#jsonBytes.encode(toJsonString(EventSchema, message, this.#jsonOptions));
      this.#eventTexts.set(event, text);
    }
    return text;
  }

  #standInFor(json: Uint8Array): Event {
    return create(EventSchema, { key: this.#jsonBytes.standInFor({ json, ...this.#frame }) });
  }
}
