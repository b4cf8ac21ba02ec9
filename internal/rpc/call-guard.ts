/** Stands before every handler: may the caller call it, what is it told when it fails, and how do bytes become JSON. */
import { Code, type ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Access } from "../identity/access.js";
import { callerKey, jsonKey } from "./adapter.js";
import { type Call, callKey } from "./call-log.js";
import type { ErrorMap } from "./errors.js";
import type { JsonBytes } from "./json-bytes.js";
import { methodName } from "./method-name.js";

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
    const call = request.contextValues.get(callKey);
    if (call && !request.stream) call.message = request.message;
    const fail = (error: unknown): ConnectError => {
      const told = errors.toConnectError(error, method, request.signal, call?.requestId);
      if (call) call.outcome = told.code;
      return told;
    };
    try {
      access.check(method, request.contextValues.get(callerKey));
      const answer = await next(request);
      if (answer.stream) return { ...answer, message: guarded(answer.message, prepare, fail, call) };
      prepare(answer.message);
      if (call) call.outcome = 0;
      return answer;
    } catch (error) {
      throw fail(error);
    }
  };
}

async function* guarded<T extends object>(
  messages: AsyncIterable<T>,
  prepare: (message: T) => void,
  map: (error: unknown) => Error,
  call: Call | undefined,
): AsyncGenerator<T> {
  // Who leaves in between lets the loop end without a word.
  if (call) call.outcome = Code.Canceled;
  try {
    for await (const message of messages) {
      prepare(message);
      yield message;
    }
    if (call) call.outcome = 0;
  } catch (error) {
    throw map(error);
  }
}
