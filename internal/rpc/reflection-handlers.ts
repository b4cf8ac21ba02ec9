/**
 * Server reflection: by it tools such as `buf curl` and grpcurl learn the API from a running node. The two versions of
 * the service differ in name only.
 */
import { type DescFile, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";

/** A request of either version, as far as it is looked at. */
interface ReflectionRequest {
  readonly host: string;
  readonly messageRequest:
    | { readonly case: "fileByFilename"; readonly value: string }
    | { readonly case: "fileContainingSymbol"; readonly value: string }
    | {
        readonly case: "fileContainingExtension";
        readonly value: { readonly containingType: string; readonly extensionNumber: number };
      }
    | { readonly case: "allExtensionNumbersOfType"; readonly value: string }
    | { readonly case: "listServices"; readonly value: string }
    | { readonly case: undefined; readonly value?: undefined };
}

type MessageRequest = ReflectionRequest["messageRequest"];

type MessageResponse =
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

interface ReflectionResponse {
  validHost: string;
  originalRequest: { host: string; messageRequest: MessageRequest };
  messageResponse: MessageResponse;
}

export class Reflection {
  readonly #serviceNames: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #filesBySymbol = new Map<string, DescFile>();

  /** Serves the given files with all that they import; `services` are the names of those that are served. */
  constructor(files: readonly DescFile[], services: readonly string[]) {
    this.#serviceNames = services;
    for (const file of files) this.#add(file);
  }

  /** The handler of both versions of the service. */
  readonly serverReflectionInfo = async function* (
    this: Reflection,
    requests: AsyncIterable<ReflectionRequest>,
  ): AsyncGenerator<ReflectionResponse> {
    for await (const request of requests) yield this.answer(request);
  }.bind(this);

  answer({ host, messageRequest }: ReflectionRequest): ReflectionResponse {
    return {
      validHost: host,
      originalRequest: { host, messageRequest: plain(messageRequest) },
      messageResponse: this.#answer(messageRequest),
    };
  }

  #answer(request: MessageRequest): MessageResponse {
    switch (request.case) {
      case "fileByFilename":
        return this.#describe(this.#files.get(request.value), `file ${request.value}`);
      case "fileContainingSymbol":
        return this.#describe(this.#filesBySymbol.get(request.value.replace(/^\./, "")), `symbol ${request.value}`);
      case "fileContainingExtension":
        return notFound(`extension ${request.value.extensionNumber} of ${request.value.containingType}`);
      case "allExtensionNumbersOfType":
        return this.#filesBySymbol.has(request.value)
          ? { case: "allExtensionNumbersResponse", value: { baseTypeName: request.value, extensionNumber: [] } }
          : notFound(`type ${request.value}`);
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: this.#serviceNames.map((name) => ({ name })) },
        };
      case undefined:
        return error(Code.InvalidArgument, "the request asks for nothing that this node knows");
    }
  }

  #describe(file: DescFile | undefined, what: string): MessageResponse {
    if (!file) return notFound(what);
    const files = withImports(file).map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto: files } };
  }

  #add(file: DescFile): void {
    for (const each of withImports(file)) {
      if (this.#files.has(each.proto.name)) continue;
      this.#files.set(each.proto.name, each);
      for (const symbol of symbolsOf(each)) this.#filesBySymbol.set(symbol, each);
    }
  }
}

/** The file itself, then what it imports, directly or not. */
function withImports(file: DescFile): DescFile[] {
  const found = new Set([file]);
  for (const each of found) for (const dependency of each.dependencies) found.add(dependency);
  return [...found];
}

function* symbolsOf(file: DescFile): Generator<string> {
  for (const type of nestedTypes(file)) {
    yield type.typeName;
    switch (type.kind) {
      case "message":
        for (const field of type.fields) yield `${type.typeName}.${field.name}`;
        break;
      case "service":
        for (const method of type.methods) yield `${type.typeName}.${method.name}`;
        break;
      case "enum":
        // The values of an enum stand beside it, not in it.
        for (const value of type.values) yield type.typeName.replace(/[^.]*$/, value.name);
        break;
      case "extension":
        break;
    }
  }
}

/** Without the message's type, so that either version can be made of it. */
function plain(request: MessageRequest): MessageRequest {
  if (request.case !== "fileContainingExtension") return request;
  const { containingType, extensionNumber } = request.value;
  return { case: request.case, value: { containingType, extensionNumber } };
}

function notFound(what: string): MessageResponse {
  return error(Code.NotFound, `this node knows no ${what.slice(0, 300)}`);
}

function error(errorCode: Code, errorMessage: string): MessageResponse {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
