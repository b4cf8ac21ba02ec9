/**
 * What the readers of this room know of a message: its fields by the byte that stands before each of them on the wire, and by their
 * names in JSON. It is taken from the contract's own description; a field of a kind that is not known here is none.
 */
import { create, type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";

export type Kind =
  "text" | "texts" | "bytes" | "bool" | "uint32" | "uint64" | "int64" | "enum" | "message" | "messages";

export interface Field {
  readonly name: string;
  readonly kind: Kind;
  /** The `oneof` of which it is a branch. */
  readonly branchOf: string | undefined;
  /** Of a message, and of each of several. */
  readonly shape: Shape | undefined;
  readonly values: DescEnum | undefined;
}

const NONE: ReadonlySet<string> = new Set();
const VARINTS: ReadonlySet<Kind> = new Set(["bool", "uint32", "uint64", "int64", "enum"]);
const VARINT = 0;
const LENGTH_DELIMITED = 2;
/** The highest number of a field whose tag is one byte. */
const FIELD_NUMBER_MAX = 15;

const KIND_OF_SCALAR: { readonly [type in ScalarType]?: Kind } = {
  [ScalarType.STRING]: "text",
  [ScalarType.BYTES]: "bytes",
  [ScalarType.BOOL]: "bool",
  [ScalarType.UINT32]: "uint32",
  [ScalarType.UINT64]: "uint64",
  [ScalarType.INT64]: "int64",
};

export class Shape<Desc extends DescMessage = DescMessage> {
  readonly byTag: readonly (Field | undefined)[];
  readonly byJsonName: ReadonlyMap<string, Field>;
  readonly #empty: Readonly<Record<string, unknown>>;
  readonly #lists: readonly string[];

  /** `branches`: those that are known, of every `oneof` in it; a message that has another one is left to the library. */
  constructor(desc: Desc, branches: ReadonlySet<string> = NONE) {
    const byTag = Array.from<Field | undefined>({ length: 256 });
    const byJsonName = new Map<string, Field>();
    for (const described of desc.fields) {
      const field = fieldOf(described, branches);
      if (!field || described.number > FIELD_NUMBER_MAX) continue;
      const wireType = VARINTS.has(field.kind) ? VARINT : LENGTH_DELIMITED;
      byTag[described.number * 8 + wireType] = field;
      if (!field.branchOf) byJsonName.set(described.jsonName, field);
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

function fieldOf(desc: DescField, branches: ReadonlySet<string>): Field | undefined {
  const name = desc.localName;
  // An optional field is in a `oneof` of its own, which the library does not show.
  if (desc.oneof && !branches.has(name)) return undefined;
  const branchOf = desc.oneof?.localName;
  const plain = (kind: Kind | undefined): Field | undefined =>
    kind && { name, kind, branchOf, shape: undefined, values: undefined };
  const made = (kind: Kind, message: DescMessage): Field => {
    return { name, kind, branchOf, shape: new Shape(message, branches), values: undefined };
  };
  switch (desc.fieldKind) {
    case "scalar":
      return plain(KIND_OF_SCALAR[desc.scalar]);
    case "enum":
      return { name, kind: "enum", branchOf, shape: undefined, values: desc.enum };
    case "message":
      return made("message", desc.message);
    case "list":
      if (desc.listKind === "message") return made("messages", desc.message);
      return plain(desc.listKind === "scalar" && desc.scalar === ScalarType.STRING ? "texts" : undefined);
    default:
      return undefined;
  }
}
