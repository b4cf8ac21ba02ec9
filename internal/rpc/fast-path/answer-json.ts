/**
 * Answers as JSON, with every field as the library writes it. There is nothing in them but numbers and base64, so that nothing needs
 * to be escaped, and a character is a byte.
 */
import type { FoundEntry, FoundMany, FoundOne, Place, Written } from "./answer.js";
import { ANSWER_BYTES_MAX } from "./form.js";

/** Undefined: it is too large. */
export class JsonAnswers {
  /** Reads of the same position have the same token. */
  #token: Uint8Array | undefined;
  #tokenText = "";

  get({ entry, point, stalenessMs }: FoundOne): string | undefined {
    if (entry && entry.value.length > ANSWER_BYTES_MAX) return undefined;
    const [exists, value] = entry ? ["true", base64(entry.value)] : ["false", ""];
    return fitting(
      `{"exists":${exists},"value":"${value}",${this.#position(point.position)},${about(entry, point.nowMs)}${age(stalenessMs)},"token":"${this.#base64Of(point.token)}"}`,
    );
  }

  batchGet({ entries, point, stalenessMs }: FoundMany): string | undefined {
    let text = "";
    for (const entry of entries) {
      if (text.length + (entry?.value.length ?? 0) > ANSWER_BYTES_MAX) return undefined;
      const [exists, value] = entry ? ["true", base64(entry.value)] : ["false", ""];
      text += `${text === "" ? "" : ","}{"exists":${exists},"value":"${value}",${about(entry, point.nowMs)}}`;
    }
    return fitting(
      `{"entries":[${text}],${this.#position(point.position)}${age(stalenessMs)},"token":"${this.#base64Of(point.token)}"}`,
    );
  }

  set({ position, token, repeated }: Written): string | undefined {
    return fitting(`{${this.#position(position)},"token":"${base64(token)}","repeated":${repeated}}`);
  }

  delete({ position, token, repeated, existed }: Written): string | undefined {
    return fitting(
      `{"existed":${existed},${this.#position(position)},"token":"${base64(token)}","repeated":${repeated}}`,
    );
  }

  increment({ position, token, repeated, sum = 0n }: Written): string | undefined {
    return fitting(`{"value":"${sum}",${this.#position(position)},"token":"${base64(token)}","repeated":${repeated}}`);
  }

  #position({ epoch, seq }: Place): string {
    return `"position":{"epoch":"${epoch}","seq":"${seq}"}`;
  }

  #base64Of(token: Uint8Array): string {
    if (token !== this.#token) {
      this.#token = token;
      this.#tokenText = base64(token);
    }
    return this.#tokenText;
  }
}

function fitting(text: string): string | undefined {
  return text.length <= ANSWER_BYTES_MAX ? text : undefined;
}

function about(entry: FoundEntry | undefined, nowMs: number): string {
  if (!entry) return '"createSeq":"0","modSeq":"0"';
  const { createSeq, modSeq, expiresAtMs } = entry;
  const ttl = expiresAtMs === undefined ? "" : `,"ttlMs":"${Math.max(0, expiresAtMs - nowMs)}"`;
  return `"createSeq":"${createSeq}","modSeq":"${modSeq}"${ttl}`;
}

function age(stalenessMs: number | undefined): string {
  return stalenessMs === undefined ? "" : `,"stalenessMs":"${Math.ceil(stalenessMs)}"`;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}
