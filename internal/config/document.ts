/**
 * A configuration file as YAML: what stands in it, and where. A file is taken apart only as deep as a configuration goes,
 * so that neither nesting nor aliases can make the work grow beyond the file's own length.
 */
import {
  Composer,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Pair,
  Parser,
  type ParsedNode,
} from "yaml";
import type { FileProblem } from "./config-error.js";
import { type Layout, unknownKey, unknownSection } from "./layout.js";
import type { NodeKind } from "./node-config.js";

/** Bytes of a configuration file. */
export const fileBytesMax = 1 << 20;
/** Words and signs of a file: thousands of lines, and a tenth of a second. */
const lexemesMax = 50_000;
/** The parser's stack; a configuration needs a dozen. */
const depthMax = 64;
/** Characters of a key that no configuration knows. */
const shownMax = 64;

/** The settings of one source, and where they are. */
export interface Source {
  /** Section → key → value as written. Only sections and keys that exist. */
  readonly settings: Map<string, Map<string, unknown>>;
  /** The place of a section (`wal`), key (`wal.directory`) or entry of a list (`replication.replicas.0`). */
  readonly places: Map<string, FilePlace>;
  readonly problems: FileProblem[];
  /** Sections and keys whose value could not be made out, which is told in `problems`; the empty one is the whole file. */
  readonly spoiled: Set<string>;
  /** False when the text is no YAML, so that nothing is known of its settings. */
  readable: boolean;
}

export interface FilePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Reads the text of a file. Never throws: what is wrong is in `problems`. */
export function readDocument(options: { kind: NodeKind; file: string; text: string; layout: Layout }): Source {
  const reader = new DocumentReader(options);
  reader.read(options.text);
  return reader.source;
}

class DocumentReader {
  readonly source: Source = {
    settings: new Map(),
    places: new Map(),
    problems: [],
    spoiled: new Set(),
    readable: false,
  };
  readonly #lines = new LineCounter();
  readonly #anchors = new Map<string, ParsedNode>();
  readonly #kind: NodeKind;
  readonly #file: string;
  readonly #layout: Layout;

  constructor({ kind, file, layout }: { kind: NodeKind; file: string; layout: Layout }) {
    this.#kind = kind;
    this.#file = file;
    this.#layout = layout;
  }

  read(text: string): void {
    if (Buffer.byteLength(text) > fileBytesMax) {
      this.#complain(undefined, "", `is larger than ${fileBytesMax} bytes, which no configuration needs`);
      return;
    }
    const document = this.#parse(text);
    // Of a file that is no YAML, everything further would be guessed.
    if (!document || this.source.problems.length > 0) return;
    this.source.readable = true;
    this.#readSections(document.contents);
  }

  #parse(text: string): Document.Parsed | undefined {
    const parser = new Parser(this.#lines.addNewLine);
    this.#lines.addNewLine(0);
    const tokens = [];
    let lexemes = 0;
    for (const lexeme of new Lexer().lex(text)) {
      tokens.push(...parser.next(lexeme));
      // The composer recurses, and close to the end of the stack it does not throw but takes the process down.
      if (parser.stack.length > depthMax) {
        this.#complain(parser.offset, "", "is nested too deeply; a configuration has sections, keys and lists");
        return undefined;
      }
      if (++lexemes > lexemesMax) {
        this.#complain(parser.offset, "", `has more than ${lexemesMax} words and signs; a configuration is shorter`);
        return undefined;
      }
    }
    tokens.push(...parser.end());
    const composer = new Composer({ lineCounter: this.#lines, prettyErrors: false, uniqueKeys: false });
    const [document, second] = composer.compose(tokens, true, text.length);
    if (document) {
      for (const { pos, message } of [...document.errors, ...document.warnings]) {
        this.#complain(pos[0], "", `is no valid YAML here: ${message.split("\n", 1)[0]}`);
      }
    }
    if (second) this.#complain(second.range[0], "", "begins a second document; put all into one, without ---");
    return document;
  }

  #readSections(contents: ParsedNode | null): void {
    // An empty file, or one of comments: everything has its default.
    if (!contents || isEmpty(contents)) return;
    const root = this.#resolve(contents, "");
    if (!root) return;
    if (!isMap(root)) {
      this.source.spoiled.add("");
      this.#complain(root.range[0], "", `must hold sections, like "server:" or "wal:", each with keys below it`);
      return;
    }
    for (const { name, keyNode, value } of this.#entries(root, "")) {
      const keys = this.#layout.get(name);
      if (!keys) {
        this.#complain(keyNode.range[0], shownKey(name), unknownSection(name, this.#kind, this.#layout));
        continue;
      }
      this.#place(name, keyNode);
      const section = value && this.#resolve(value, name);
      const settings = new Map<string, unknown>();
      this.source.settings.set(name, settings);
      // A section whose keys are all commented out.
      if (!section || isEmpty(section)) continue;
      if (isMap(section)) this.#readSection(name, section, settings);
      else {
        this.source.spoiled.add(name);
        this.#complain(section.range[0], name, `must be a section: its keys stand below it, as "key: value"`);
      }
    }
  }

  #readSection(section: string, node: ParsedNode & { items: unknown[] }, settings: Map<string, unknown>): void {
    for (const { name, keyNode, value } of this.#entries(node, section)) {
      const path = `${section}.${name}`;
      if (!this.#layout.get(section)?.has(name)) {
        const message = unknownKey(section, name, this.#layout);
        this.#complain(keyNode.range[0], `${section}.${shownKey(name)}`, message);
        continue;
      }
      this.#place(path, value && !isEmpty(value) ? value : keyNode);
      settings.set(name, value ? this.#readValue(value, path) : null);
    }
  }

  /** The keys of a mapping that are plain words, each once. Complains about the others. */
  *#entries(node: ParsedNode & { items: unknown[] }, path: string): Generator<Entry> {
    const seen = new Map<string, ParsedNode>();
    for (const { key, value } of node.items as Pair<ParsedNode, ParsedNode | null>[]) {
      if (!isScalar(key) || key.value === null) {
        this.#complain(key.range?.[0], path, "has a key that is no plain word; keys are words like wal or directory");
        continue;
      }
      const name = typeof key.value === "string" ? key.value : (key.source ?? "");
      const first = seen.get(name);
      if (first) {
        const { line } = this.#lines.linePos(first.range[0]);
        const full = path === "" ? shownKey(name) : `${path}.${shownKey(name)}`;
        this.#complain(key.range[0], full, `is here a second time, after line ${line}; keep one of the two`);
        continue;
      }
      seen.set(name, key);
      yield { name, keyNode: key, value };
    }
  }

  /** A scalar's value, or the values of a list. What no setting takes becomes an empty mapping, which is refused later. */
  #readValue(node: ParsedNode, path: string): unknown {
    const value = this.#resolve(node, path);
    if (isScalar(value)) return value.value;
    if (!isSeq(value)) return {};
    return value.items.map((item, index) => {
      this.#place(`${path}.${index}`, item);
      const entry = this.#resolve(item, path);
      if (isScalar(entry)) return entry.value;
      return isSeq(entry) ? [] : {};
    });
  }

  /** What an alias stands for, and any other node itself. Keeps anchors for the aliases after them. */
  #resolve(node: ParsedNode, path: string): Exclude<ParsedNode, { type?: "alias" }> | undefined {
    if (!isAlias(node)) {
      if (node.anchor !== undefined) this.#anchors.set(node.anchor, node);
      return node;
    }
    const target = this.#anchors.get(node.source);
    if (target) return target;
    this.source.spoiled.add(path);
    this.#complain(node.range[0], path, `refers to *${shownKey(node.source)}, and no value before it has that anchor`);
    return undefined;
  }

  #place(path: string, node: ParsedNode): void {
    this.source.places.set(path, this.#placeAt(node.range[0]));
  }

  #placeAt(offset: number): FilePlace {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.#file, line, column: col };
  }

  #complain(offset: number | undefined, key: string, message: string): void {
    const place = offset === undefined ? { file: this.#file } : this.#placeAt(offset);
    this.source.problems.push({ ...place, key, message });
  }
}

interface Entry {
  readonly name: string;
  readonly keyNode: ParsedNode;
  readonly value: ParsedNode | null;
}

function isEmpty(node: ParsedNode): boolean {
  return isScalar(node) && node.value === null;
}

/** A key as an error shows it: one that is no plain word in quotes, so that it cannot break the line. */
export function shownKey(name: string): string {
  return /^[\w.-]+$/.test(name) && name.length <= shownMax ? name : JSON.stringify(name.slice(0, shownMax));
}
