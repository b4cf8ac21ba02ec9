/**
 * Keys as paths of files, and back. Any key has a path that stays inside the folder it is put under, and the key can be
 * read off the path alone: `decodePath(encodeKey(key)) === key`.
 *
 * A path is the key itself wherever that is safe. What is not safe is percent-encoded as in URLs, byte by byte of UTF-8:
 *
 * - the segments `.` and `..`;
 * - a `/` that would make an empty segment (at either end, or after another);
 * - NUL, which no file name holds;
 * - `%` before two hexadecimal digits or `~`, so that what was there before is not decoded;
 * - on Windows also `\ : * ? " < > |`, control characters, a final `.` or space, and the first letter of a device name;
 * - a segment of more than 240 bytes becomes several folders: each but the last ends with `%~`.
 *
 * Two keys may want the same place: `a` and `a/b`, or `A` and `a` where the file system does not tell them apart. Then one
 * of them goes into a folder `%~` beside the other. A `%~` before a `/` stands for nothing, and takes the `/` with it.
 */

export interface KeyPathOptions {
  /** Names must hold on Windows. */
  readonly windows: boolean;
  /** The file system takes names for the same that differ in case or Unicode form only. */
  readonly foldsNames: boolean;
}

/** Keys, as a Set or the keys of a Map. */
export interface KeySet {
  has(key: string): boolean;
  keys(): Iterable<string>;
}

/** What the platform needs. */
export function keyPathOptions(platform: NodeJS.Platform): KeyPathOptions {
  return { windows: platform === "win32", foldsNames: platform === "win32" || platform === "darwin" };
}

/** File systems take 255 bytes, Windows and macOS 255 UTF-16 units; some room is left for other spellings. */
const SEGMENT_BYTES_MAX = 240;
/** A folder name, or the end of one, that decodes to nothing. */
const NOTHING = "%~";

const WINDOWS_UNSAFE = /[\\:*?"<>|\p{Cc}]/gu;
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=$|\.)/i;

/** The path of a key, its segments separated by `/`. */
export function encodeKey(key: string, options: KeyPathOptions): string {
  return segmentsOf(key)
    .flatMap((segment) => pieces(escape(segment, options)))
    .map((piece) => encodeWhole(piece, options))
    .join("/");
}

/** The key of a path that `encodeKey` or `planPaths` made. Of any other path: the key that it would stand for. */
export function decodePath(path: string): string {
  const bytes: Buffer[] = [];
  let at = 0;
  for (const match of path.matchAll(/%~\/|((?:%[0-9a-f]{2})+)/gi)) {
    bytes.push(Buffer.from(path.slice(at, match.index)));
    if (match[1] !== undefined) bytes.push(Buffer.from(match[1].replaceAll("%", ""), "hex"));
    at = match.index + match[0].length;
  }
  bytes.push(Buffer.from(path.slice(at)));
  return Buffer.concat(bytes).toString();
}

/** The keys whose plain path is taken, each with the path that it gets instead. All others have that of `encodeKey`. */
export function planPaths(keys: KeySet, options: KeyPathOptions): Map<string, string> {
  const moved = new Map<string, string>();
  for (const key of keys.keys()) {
    for (const folder of foldersOf(encodeKey(key, options))) {
      if (folder.endsWith(NOTHING)) continue;
      const rival = decodePath(folder);
      if (!keys.has(rival) || encodeKey(rival, options) !== folder) continue;
      // No other path has a folder of just this name here, and nothing but such files goes into it.
      const name = folder.lastIndexOf("/") + 1;
      moved.set(rival, `${folder.slice(0, name)}${NOTHING}/${folder.slice(name)}`);
    }
  }
  return options.foldsNames ? planFoldedPaths(keys, moved, options) : moved;
}

/** The first spelling of a folder or file stands; a key that comes later and spells it otherwise gives way as a whole. */
function planFoldedPaths(keys: KeySet, moved: Map<string, string>, options: KeyPathOptions): Map<string, string> {
  /** A folder's has a `/` at its end, so that it is never taken for a file's. */
  const spellings = new Map<string, string>();
  for (const key of keys.keys()) {
    const plain = encodeKey(key, options);
    let path = moved.get(key) ?? plain;
    const steps = (): string[] => [...foldersOf(path).map((folder) => `${folder}/`), path];
    const fold = (step: string): string => step.replace(/\/$/, "").normalize("NFC").toLowerCase();
    while (steps().some((step) => (spellings.get(fold(step)) ?? step) !== step)) path = `${NOTHING}/${path}`;
    for (const step of steps()) spellings.set(fold(step), step);
    if (path !== plain) moved.set(key, path);
  }
  return moved;
}

/** Splits at every `/` that separates two segments; any other stays in its segment. */
function segmentsOf(key: string): string[] {
  const segments: string[] = [];
  let segment = "";
  for (let at = 0; at < key.length; at++) {
    if (key[at] === "/" && segment !== "" && at < key.length - 1) {
      segments.push(segment);
      segment = "";
    } else segment += key[at];
  }
  return [...segments, segment];
}

/** Encodes the characters that are unsafe anywhere in a name. */
function escape(segment: string, { windows }: KeyPathOptions): string {
  const escaped = segment.replaceAll(/%(?=[0-9a-f]{2}|~)|[/\0]/gi, percent);
  return windows ? escaped.replaceAll(WINDOWS_UNSAFE, percent) : escaped;
}

/** Encodes what is unsafe because of the whole name. It comes after the cutting, which makes new names. */
function encodeWhole(name: string, { windows }: KeyPathOptions): string {
  if (name === "." || name === "..") return name.replaceAll(".", "%2E");
  if (!windows) return name;
  return name.replace(/[. ]$/, percent).replace(WINDOWS_DEVICE, (device) => percent(device[0]!) + device.slice(1));
}

/** Every byte of the text as `%XX`. */
function percent(text: string): string {
  return Buffer.from(text)
    .toString("hex")
    .toUpperCase()
    .replaceAll(/../g, (byte) => `%${byte}`);
}

/** Cuts an escaped segment into names that file systems take, between characters and never inside an escape. */
function pieces(segment: string): string[] {
  if (Buffer.byteLength(segment) <= SEGMENT_BYTES_MAX) return [segment];
  const names: string[] = [];
  let name = "";
  let bytes = 0;
  for (const [part] of segment.matchAll(/%[0-9A-F]{2}|./gsu)) {
    const partBytes = Buffer.byteLength(part);
    if (bytes + partBytes > SEGMENT_BYTES_MAX) {
      names.push(name + NOTHING);
      name = "";
      bytes = 0;
    }
    name += part;
    bytes += partBytes;
  }
  return [...names, name];
}

/** The folders that a path lies in, outermost first. */
function foldersOf(path: string): string[] {
  const folders: string[] = [];
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) folders.push(path.slice(0, at));
  return folders;
}
