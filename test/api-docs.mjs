/** `npm run docs`: writes docs/api.md, the reference of the API, from the comments of the .proto files. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { createFileRegistry, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import * as prettier from "prettier";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const documentPath = path.join(root, "docs", "api.md");

/** What nodes say to each other is not for clients. */
const FILES = [
  "cambium/v1/kvstore.proto",
  "cambium/v1/log.proto",
  "cambium/v1/cluster.proto",
  "cambium/v1/types.proto",
];

/** The codes of Connect, which are those of gRPC, with the status that a unary call over plain HTTP has. */
const CODES = {
  CANCELED: 499,
  UNKNOWN: 500,
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  PERMISSION_DENIED: 403,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 400,
  ABORTED: 409,
  OUT_OF_RANGE: 400,
  UNIMPLEMENTED: 501,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
  UNAUTHENTICATED: 401,
};

/** The whole document, as `prettier` would have it. */
export async function apiDocument() {
  const files = readContract();
  const services = files.flatMap((file) => file.services);
  const text = [
    "# API reference",
    "<!-- Written by `npm run docs` from the comments in api/cambium/v1. Change those. -->",
    INTRODUCTION,
    "## Contents",
    services
      .map((service) => {
        const methods = service.methods.map((method) => link(method.name, anchorOf(method))).join(", ");
        return `- ${link(service.name, anchorOf(service))}: ${methods}`;
      })
      .join("\n") + "\n- [Errors](#errors)\n- [Common messages](#common-messages)",
    ...services.map((service) => serviceSection(service)),
    errorSection(files),
    "## Common messages",
    ...files.filter((file) => file.services.length === 0).flatMap((file) => typeSections(file)),
  ].join("\n\n");
  return prettier.format(text, { ...(await prettier.resolveConfig(documentPath)), parser: "markdown" });
}

const INTRODUCTION = `Every node serves all of this on one port: over HTTP/1.1 and HTTP/2, in the protocols Connect, gRPC and gRPC-web, in binary and
in JSON. A unary call is a POST, and its answer has the status of its error, so that any program can make it:

\`\`\`sh
curl -s localhost:8080/cambium.v1.KVStore/Set -H 'content-type: application/json' -d '{"key":"greeting","value":"aGVsbG8="}'
curl -s localhost:8080/cambium.v1.KVStore/Get -H 'content-type: application/json' -d '{"key":"greeting"}'
\`\`\`

In JSON names are in camelCase (\`ttlMs\`), numbers of 64 bits are strings, bytes are base64, and a field that there is not is refused.
A method that is marked with GET may be sent so too, with the message in the query
(\`?encoding=json&message={"key":"greeting"}\`, percent-encoded). The .proto files are in [api/cambium/v1](../api/cambium/v1), and every node describes
itself by server reflection. Health is served as \`grpc.health.v1.Health\`, and as \`/livez\` and \`/readyz\`. The typed client in
[api/client](../api/client) does most of what is said here by itself.`;

function readContract() {
  const buf = path.join(root, "node_modules", ".bin", "buf");
  const image = execFileSync(buf, ["build", "-o", "-", "--as-file-descriptor-set"], { cwd: root, maxBuffer: 1 << 26 });
  const set = fromBinary(FileDescriptorSetSchema, image);
  const registry = createFileRegistry(set);
  return FILES.map((name) => {
    const file = registry.getFile(name);
    if (!file) throw new Error(`${name} is not among the .proto files`);
    const comments = commentsOf(file.proto);
    const enums = file.enums.map((desc, i) => ({
      kind: "enum",
      name: desc.name,
      comment: comments([5, i]),
      values: desc.values.map((value, j) => ({ name: value.name, comment: comments([5, i, 2, j]) })),
    }));
    const messages = file.messages.map((desc, i) => ({
      kind: "message",
      name: desc.name,
      comment: comments([4, i]),
      fields: desc.fields.map((field) => ({
        desc: field,
        name: field.name,
        comment: comments([4, i, 2, desc.proto.field.indexOf(field.proto)]),
      })),
    }));
    const services = file.services.map((desc, i) => {
      const service = { kind: "service", name: desc.name, comment: comments([6, i]), file: undefined, methods: [] };
      service.methods = desc.methods.map((method, j) => ({
        kind: "method",
        desc: method,
        service,
        name: method.name,
        comment: comments([6, i, 2, j]),
      }));
      return service;
    });
    const read = { name, services, messages, enums };
    for (const service of services) service.file = read;
    return read;
  });
}

/** Paths are those of the numbers of the fields of a descriptor, as protoc defines them. */
function commentsOf(proto) {
  const byPath = new Map();
  for (const { path: at, leadingComments } of proto.sourceCodeInfo?.location ?? []) {
    if (leadingComments) byPath.set(at.join("."), leadingComments);
  }
  return (at) => paragraphs(byPath.get(at.join(".")) ?? "");
}

/** The lines of a comment, put together to paragraphs. */
function paragraphs(comment) {
  return comment
    .split(/\n\s*\n/)
    .map((paragraph) =>
      paragraph
        .split("\n")
        .map((line) => line.trim())
        .join(" ")
        .trim(),
    )
    .filter((paragraph) => paragraph !== "");
}

function serviceSection(service) {
  return [
    `## ${service.name}`,
    ...service.comment.map(asText),
    ...service.methods.flatMap((method) => methodSection(method)),
    ...typeSections(service.file),
  ].join("\n\n");
}

function methodSection({ desc, name, comment, service }) {
  const { input, output, methodKind } = desc;
  const takes = methodKind === "client_streaming" || methodKind === "bidi_streaming" ? "a stream of " : "";
  const gives = methodKind === "server_streaming" || methodKind === "bidi_streaming" ? "a stream of " : "";
  const isGet = desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS && methodKind === "unary";
  return [
    `### ${service.name}.${name}`,
    `Takes ${takes}${typeLink(input.name)}, gives ${gives}${typeLink(output.name)}.${isGet ? " Also by GET." : ""}`,
    ...splitErrors(comment).map(asText),
  ];
}

/** Errors are a paragraph of their own. */
function splitErrors(comment) {
  return comment.flatMap((paragraph) => paragraph.split(/ (?=Errors?(?: of all reads[^:]*)?: )/));
}

function typeSections({ messages, enums }) {
  return [...messages.map((message) => messageSection(message)), ...enums.map((one) => enumSection(one))];
}

function messageSection({ name, comment, fields }) {
  const rows = fields.map(({ desc, name: field, comment: meaning }) =>
    row([`\`${field}\``, typeOf(desc), cell(withOneof(desc, meaning))]),
  );
  const table =
    rows.length === 0 ? "No fields." : [row(["Field", "Type", ""]), row(["---", "---", "---"]), ...rows].join("\n");
  return [`#### ${name}`, ...comment.map(asText), table].join("\n\n");
}

function withOneof({ oneof }, meaning) {
  return oneof ? [`One of \`${oneof.name}\`.`, ...meaning] : meaning;
}

function enumSection({ name, comment, values }) {
  const rows = values.map((value) => row([`\`${value.name}\``, cell(value.comment)]));
  return [`#### ${name}`, ...comment.map(asText), [row(["Value", ""]), row(["---", "---"]), ...rows].join("\n")].join(
    "\n\n",
  );
}

function typeOf(field) {
  switch (field.fieldKind) {
    case "list":
      return `repeated ${elementOf(field.listKind, field)}`;
    case "map":
      return `map of ${ScalarType[field.mapKey].toLowerCase()} to ${elementOf(field.mapKind, field)}`;
    case "scalar":
      return `${field.proto.proto3Optional ? "optional " : ""}${elementOf("scalar", field)}`;
    default:
      return elementOf(field.fieldKind, field);
  }
}

function elementOf(kind, field) {
  if (kind === "message") return typeLink(field.message.name);
  if (kind === "enum") return typeLink(field.enum.name);
  return ScalarType[field.scalar].toLowerCase();
}

/** Which errors the comments name, and where they do. */
function namedErrors(files) {
  const details = new Set(files.flatMap(({ messages }) => messages.map(({ name }) => name)));
  const places = files.flatMap(({ services }) =>
    services.flatMap((service) => [
      ...service.comment.map((text) => ({ text, where: { service } })),
      ...service.methods.flatMap((method) => method.comment.map((text) => ({ text, where: { service, method } }))),
    ]),
  );
  const codes = Object.keys(CODES).join("|");
  const named = [];
  for (const { text, where } of places) {
    // One code or several, and the detail that all of them have; or another one.
    const error = new RegExp(
      `((?:\\b(?:${codes})\\b(?: or |, )?)+)(?: with (\\w+)(?:,? or with (\\w+)| [^;:.]*, or with (\\w+))?)?`,
      "g",
    );
    for (const [, list, ...others] of text.matchAll(error)) {
      const known = others.filter((detail) => details.has(detail));
      for (const code of list.match(new RegExp(codes, "g"))) {
        for (const detail of known.length > 0 ? known : [undefined]) {
          named.push({ error: { code, ...(detail && { detail }) }, where });
        }
      }
    }
  }
  return named;
}

function errorSection(files) {
  const named = namedErrors(files);
  const rows = Object.entries(CODES).flatMap(([code, status]) => {
    const mine = named.filter(({ error }) => error.code === code);
    if (mine.length === 0) return [];
    const byDetail = Map.groupBy ? Map.groupBy(mine, ({ error }) => error.detail) : groupByDetail(mine);
    return [...byDetail].map(([detail, uses]) =>
      row([`\`${code}\``, String(status), detail ? typeLink(detail) : "", placesOf(uses)]),
    );
  });
  return [
    "## Errors",
    "An error has a code, a sentence for people that says what to do, and often a detail for programs. The sentences may change, the codes and " +
      "details do not. In JSON the code is in lower case (`failed_precondition`), and a detail is base64 of its message, with its type beside it.",
    [row(["Code", "HTTP", "Detail", "Told by"]), row(["---", "---", "---", "---"]), ...rows].join("\n"),
    "Beside these the protocol itself has `CANCELED`, where the caller ended the call, `DEADLINE_EXCEEDED`, where its time was over, `UNIMPLEMENTED` " +
      "for a method that there is not, and `INTERNAL`, where a node has found a mistake in itself.",
  ].join("\n\n");
}

function groupByDetail(named) {
  const groups = new Map();
  for (const one of named) groups.set(one.error.detail, [...(groups.get(one.error.detail) ?? []), one]);
  return groups;
}

function placesOf(uses) {
  const places = new Map();
  for (const { where } of uses) {
    const target = where.method ?? where.service;
    places.set(
      target,
      where.method
        ? link(`${where.service.name}.${where.method.name}`, anchorOf(target))
        : link(`${where.service.name}, in general`, anchorOf(target)),
    );
  }
  return [...places.values()].join(", ");
}

const row = (cells) => `| ${cells.join(" | ")} |`;
const cell = (comment) => comment.map(asText).join("<br>").replaceAll("|", "\\|");
const link = (text, anchor) => `[${text}](#${anchor})`;
const typeLink = (name) => link(name, name.toLowerCase());
const anchorOf = ({ kind, name, service }) => (kind === "method" ? `${service.name}${name}` : name).toLowerCase();

/** Codes look like code; what Markdown would take for something else does not. */
function asText(paragraph) {
  const codes = new RegExp(`\\b(${Object.keys(CODES).join("|")})\\b`, "g");
  return paragraph.replaceAll(/(`[^`]*`)|([^`]+)/g, (whole, code, text) =>
    code
      ? whole
      : text
          .replaceAll(/[*<]/g, "\\$&")
          .replaceAll(codes, "`$1`")
          .replaceAll(/(?<![`A-Z])_|_(?![`A-Z])/g, "\\_"),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(documentPath, await apiDocument());
