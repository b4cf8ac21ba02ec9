/** Stands before every handler: may the caller call it for these keys, what is it told when it fails, and how do bytes become JSON. */
import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Access } from "../identity/access.js";
import { IdentityError } from "../identity/identity-error.js";
import { identityKey, jsonKey } from "./adapter.js";
import type { ErrorMap } from "./errors.js";
import type { JsonBytes } from "./json-bytes.js";
import { methodName, methodTable } from "./method-table.js";

/**
 * The adapter has found out who calls, and that it may call this method at all, before it read anything of the message; a call
 * that comes without is refused. Here the message is there, and with it the keys. A stream is looked at message by message, both
 * ways, so that it ends when its identity does.
 */
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
      const identity = request.contextValues.get(identityKey);
      const rule = methodTable.get(method);
      if (!identity || !rule) throw new IdentityError("not_allowed", `nobody may call ${method}`);
      const check = (message: Message): void => {
        if (identity.prefixes) access.checkKeys(method, identity, rule.reach(message));
      };
      const map = (error: unknown): Error => errors.toConnectError(error, method, request.signal);
      if (!request.stream) check(request.message);
      const answer = await next(
        request.stream
          ? {
              ...request,
              message: guarded(
                request.message,
                (message) => {
                  access.checkCurrent(identity);
                  check(message);
                },
                (error) => error,
              ),
            }
          : request,
      );
      if (answer.stream) {
        return {
          ...answer,
          message: guarded(
            answer.message,
            (message) => {
              access.checkCurrent(identity);
              prepare(message);
            },
            map,
          ),
        };
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
  look: (message: T) => void,
  map: (error: unknown) => unknown,
): AsyncGenerator<T> {
  try {
    for await (const message of messages) {
      look(message);
      yield message;
    }
  } catch (error) {
    throw map(error);
  }
}
