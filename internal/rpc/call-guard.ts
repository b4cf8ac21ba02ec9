/** Stands before every handler: may the caller call it, what is it told when it fails, and how do bytes become JSON. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Access } from "../identity/access.js";
import { callerKey, jsonKey } from "./adapter.js";
import type { ErrorMap } from "./errors.js";
import type { JsonBytes } from "./json-bytes.js";

/** As the access table names it. */
export const methodName = ({ parent, name }: DescMethod): string => `${parent.typeName}/${name}`;

/** The adapter has asked already whether the caller may call; here it is asked again, whichever way the call came. */
export function callGuard({
  access,
  errors,
  jsonBytes,
}: {
  readonly access: Access;
  readonly errors: ErrorMap;
  readonly jsonBytes: JsonBytes;
}): Interceptor {
  return (next) => async (request) => {
    const method = methodName(request.method);
    const prepare = (message: object): void => {
      if (request.contextValues.get(jsonKey)) jsonBytes.prepare(message);
    };
    try {
      access.check(method, request.contextValues.get(callerKey));
      const answer = await next(request);
      if (answer.stream) {
        const map = (error: unknown): Error => errors.toConnectError(error, method, request.signal);
        return { ...answer, message: guarded(answer.message, prepare, map) };
      }
      prepare(answer.message);
      return answer;
    } catch (error) {
      throw errors.toConnectError(error, method, request.signal);
    }
  };
}

async function* guarded<T extends object>(
  messages: AsyncIterable<T>,
  prepare: (message: T) => void,
  map: (error: unknown) => Error,
): AsyncGenerator<T> {
  try {
    for await (const message of messages) {
      prepare(message);
      yield message;
    }
  } catch (error) {
    throw map(error);
  }
}
