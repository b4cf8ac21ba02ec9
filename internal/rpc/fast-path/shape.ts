/**
 * What the readers of this room know of a message: its fields by the byte that stands before each of them on the wire, and by their
 * names in JSON. It is taken from the contract's own description; a field of a kind that is not known here is none.
 */
import { create, type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

export type Kind = "text" | "texts" | "bytes" | "bool" | "uint64" | "int64" | "enum" | "message";

export interface Field {
  readonly name: string;
  readonly kind: Kind;
  /** Of a message. */
  readonly shape: Shape | undefined;
  readonly values: DescEnum | undefined;
}

const VARINT = 0;
const LENGTH_DELIMITED = 2;
/** The highest number of a field whose tag is one byte. */
const FIELD_NUMBER_MAX = 15;

const KIND_OF_SCALAR: { readonly [type in ScalarType]?: Kind } = {
  [ScalarType.STRING]: "text",
  [ScalarType.BYTES]: "bytes",
  [ScalarType.BOOL]: "bool",
  [ScalarType.UINT64]: "uint64",
  [ScalarType.INT64]: "int64",
};

export class Shape<Desc extends DescMessage = DescMessage> {
  readonly byTag: readonly (Field | undefined)[];
  readonly byJsonName: ReadonlyMap<string, Field>;
  readonly #empty: Readonly<Record<string, unknown>>;
  readonly #lists: readonly string[];

  constructor(desc: Desc) {
    const byTag = Array.from<Field | undefined>({ length: 256 });
    const byJsonName = new Map<string, Field>();
    for (const described of desc.fields) {
      const field = fieldOf(described);
      if (!field || described.number > FIELD_NUMBER_MAX) continue;
      const wireType = ["bool", "uint64", "int64", "enum"].includes(field.kind) ? VARINT : LENGTH_DELIMITED;
      byTag[described.number * 8 + wireType] = field;
      byJsonName.set(described.jsonName, field);
    }
    this.byTag = byTag;
    this.byJsonName = byJsonName;
    this.#empty = { ...create(desc) };
    this.#lists = desc.fields.filter(({ fieldKind }) => fieldKind === "list").map(({ localName }) => localName);
  }

  /** A message in which nothing is set, for the readers to set it by the names of the fields. */
  blank(): Record<string, unknown> {
    const blank = { ...this.#empty };
    for (const name of this.#lists) blank[name] = [];
    return blank;
  }
}

function fieldOf(desc: DescField): Field | undefined {
  const name = desc.localName;
  const plain = (kind: Kind | undefined): Field | undefined =>
    kind && { name, kind, shape: undefined, values: undefined };
  // The branch of a `oneof` is set elsewhere; an optional field is in one of its own, which the library does not show.
  if (desc.oneof) return undefined;
  switch (desc.fieldKind) {
    case "scalar":
      return plain(KIND_OF_SCALAR[desc.scalar]);
    case "enum":
      return { name, kind: "enum", shape: undefined, values: desc.enum };
    case "message":
      return { name, kind: "message", shape: new Shape(desc.message), values: undefined };
    case "list":
      return plain(desc.listKind === "scalar" && desc.scalar === ScalarType.STRING ? "texts" : undefined);
    default:
      return undefined;
  }
}
