import path from "node:path/posix";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodePath, encodeKey, type KeyPathOptions, keyPathOptions, planPaths } from "./key-path.js";

const unix: KeyPathOptions = { windows: false, foldsNames: false };
const mac: KeyPathOptions = { windows: false, foldsNames: true };
const windows: KeyPathOptions = { windows: true, foldsNames: true };

test.each([
  ["node_modules/@types/node/index.d.ts", "node_modules/@types/node/index.d.ts"],
  ["100%", "100%"],
  ["a b\n\\:*?", "a b\n\\:*?"],
  ["..", "%2E%2E"],
  ["../../x", "%2E%2E/%2E%2E/x"],
  ["a/./b", "a/%2E/b"],
  ["...", "..."],
  ["/etc/passwd", "%2Fetc/passwd"],
  ["a//b", "a/%2Fb"],
  ["a/", "a%2F"],
  ["/", "%2F"],
  ["//", "%2F%2F"],
  ["\u0000", "%00"],
  ["%2E", "%252E"],
  ["%~", "%25~"],
  ["__proto__", "__proto__"],
])("the key %j is the file %j", (key, file) => {
  expect(encodeKey(key, unix)).toBe(file);
  expect(decodePath(file)).toBe(key);
});

test.each([
  ["a\\b", "a%5Cb"],
  ["C:x", "C%3Ax"],
  ["a.", "a%2E"],
  ["a /b", "a%20/b"],
  ["con", "%63on"],
  ["NUL.txt", "%4EUL.txt"],
  ["console", "console"],
])("on Windows the key %j is the file %j", (key, file) => {
  expect(encodeKey(key, windows)).toBe(file);
  expect(decodePath(file)).toBe(key);
});

test("a long segment becomes folders, none of which leads anywhere else", () => {
  expect(encodeKey(`${"a".repeat(240)}..`, unix)).toBe(`${"a".repeat(240)}%~/%2E%2E`);
  expect(encodeKey(`${"a".repeat(239)}é`, unix)).toBe(`${"a".repeat(239)}%~/é`);
});

test("each platform gets what its file systems need", () => {
  expect(keyPathOptions("linux")).toEqual(unix);
  expect(keyPathOptions("darwin")).toEqual(mac);
  expect(keyPathOptions("win32")).toEqual(windows);
});

describe("of two keys that want the same place one gives way", () => {
  test("where one is a folder of the other", () => {
    expect(planPaths(new Set(["a", "a/b", "a/b/c", "ab"]), unix)).toEqual(
      new Map([
        ["a", "%~/a"],
        ["a/b", "a/%~/b"],
      ]),
    );
  });

  test("only if they truly meet", () => {
    expect(planPaths(new Set(["a", "a/", "A", "%61"]), unix)).toEqual(new Map());
    expect(planPaths(new Set(["/", "//x"]), unix)).toEqual(new Map([["/", "%~/%2F"]]));
  });

  test("where the file system does not tell them apart", () => {
    expect(planPaths(new Set(["README", "readme", "Readme", "Src/x", "src/y", "src"]), mac)).toEqual(
      new Map([
        ["readme", "%~/readme"],
        ["Readme", "%~/%~/Readme"],
        ["src/y", "%~/src/y"],
        ["src", "%~/%~/src"],
      ]),
    );
  });
});

/** Keys made of what is dangerous, long and alike. */
const keys = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "/",
        "..",
        ".",
        "%",
        "%2",
        "2E",
        "~",
        "%~",
        "%~/",
        "\0",
        "\\",
        ":",
        " ",
        "a",
        "A",
        "é",
        "é",
        "ﬁ",
        "con",
        "NUL",
      ),
      fc.constantFrom(
        "x".repeat(239),
        "é".repeat(120),
        "😀".repeat(60),
        "%41".repeat(80),
        "/".repeat(250),
        "\0".repeat(100),
      ),
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: "binary" }),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .map((parts) => parts.join(""))
  .filter((key) => key !== "" && !/\p{Surrogate}/u.test(key));

describe.each([
  ["Linux", unix],
  ["macOS", mac],
  ["Windows", windows],
])("on %s", (_, options) => {
  test("every key is read off its path again, and its path stays inside the folder", () => {
    fc.assert(
      fc.property(keys, (key) => {
        const file = encodeKey(key, options);
        expect(decodePath(file)).toBe(key);
        expectSafe(file, options);
      }),
    );
  });

  test("no two keys get the same place, and none gets a place inside another's file", () => {
    fc.assert(
      fc.property(fc.uniqueArray(keys, { maxLength: 12 }), fc.array(fc.nat(30)), (some, cuts) => {
        // Prefixes of keys make the meetings likely.
        const all = new Set([...some, ...some.flatMap((key, i) => prefix(key, cuts[i] ?? 0))]);
        const moved = planPaths(all, options);
        const fold = (text: string): string => (options.foldsNames ? text.normalize("NFC").toLowerCase() : text);
        const files = new Set<string>();
        const folders = new Map<string, string>();
        for (const key of all) {
          const file = moved.get(key) ?? encodeKey(key, options);
          expect(decodePath(file)).toBe(key);
          expectSafe(file, options);
          expect(files).not.toContain(fold(file));
          files.add(fold(file));
          for (let folder = path.dirname(file); folder !== "."; folder = path.dirname(folder)) {
            expect(folders.get(fold(folder)) ?? folder).toBe(folder);
            folders.set(fold(folder), folder);
          }
        }
        for (const folder of folders.keys()) expect(files).not.toContain(folder);
      }),
      { numRuns: 50 },
    );
  });
});

function prefix(key: string, slash: number): string[] {
  const parts = key.split("/");
  const shorter = parts.slice(0, slash % parts.length).join("/");
  return shorter === "" || /\p{Surrogate}/u.test(shorter) ? [] : [shorter];
}

function expectSafe(file: string, options: KeyPathOptions): void {
  expect(path.join("/out", file).startsWith("/out/")).toBe(true);
  expect(path.normalize(file)).toBe(file);
  for (const name of file.split("/")) {
    expect(Buffer.byteLength(name)).toBeGreaterThan(0);
    expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255);
    expect(name).not.toContain("\0");
    if (options.windows) expect(name).not.toMatch(/[\\:*?"<>|\p{Cc}]|[. ]$|^(con|nul)(\.|$)/iu);
  }
}
