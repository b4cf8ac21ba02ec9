/** Stands before every handler: may the caller call it for these keys, what is it told when it fails, and how do bytes become JSON. */
import type { Message } from "@bufbuild/protobuf";
import { Code, type ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Access } from "../identity/access.js";
import { IdentityError } from "../identity/identity-error.js";
import { identityKey, jsonKey } from "./adapter.js";
import { type Call, callKey } from "./call-log.js";
import { framesKey } from "./direct-frames.js";
import type { ErrorMap } from "./errors.js";
import type { JsonBytes } from "./json-bytes.js";
import { methodName } from "./method-name.js";
import { methodTable } from "./method-table.js";

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
    const call = request.contextValues.get(callKey);
    if (call && !request.stream) call.message = request.message;
    const fail = (error: unknown): ConnectError => {
      const told = errors.toConnectError(error, method, request.signal, call?.requestId);
      if (call) {
        call.outcome = told.code;
        if (error instanceof IdentityError) call.refused = error;
      }
      return told;
    };
    try {
      const identity = request.contextValues.get(identityKey);
      const rule = methodTable.get(method);
      if (!identity || !rule) throw new IdentityError("not_allowed", `nobody may call ${method}`);
      const check = (message: Message): void => {
        if (identity.prefixes && !rule.isJudgedByOperation) access.checkKeys(method, identity, rule.reach(message));
      };
      if (!request.stream) check(request.message);
      const frames = request.contextValues.get(framesKey);
      if (frames) {
        request.contextValues.set(framesKey, {
          write(frame) {
            access.checkCurrent(identity);
            return frames.write(frame);
          },
        });
      }
      const answer = await next(
        request.stream
          ? {
              ...request,
              message: guarded(request.message, (message) => {
                access.checkCurrent(identity);
                check(message);
              }),
            }
          : request,
      );
      if (answer.stream) {
        const look = (message: object): void => {
          access.checkCurrent(identity);
          prepare(message);
        };
        return { ...answer, message: guardedAnswers(answer.message, look, fail, call) };
      }
      prepare(answer.message);
      if (call) call.outcome = 0;
      return answer;
    } catch (error) {
      throw fail(error);
    }
  };
}

/** Looks at each message before it is passed on. */
async function* guarded<T extends object>(messages: AsyncIterable<T>, look: (message: T) => void): AsyncGenerator<T> {
  for await (const message of messages) {
    look(message);
    yield message;
  }
}

/** The same of answers, and notes how they end. */
async function* guardedAnswers<T extends object>(
  messages: AsyncIterable<T>,
  look: (message: T) => void,
  fail: (error: unknown) => ConnectError,
  call: Call | undefined,
): AsyncGenerator<T> {
  // Who leaves in between lets the loop end without a word.
  if (call) call.outcome = Code.Canceled;
  try {
    for await (const message of messages) {
      look(message);
      yield message;
    }
    if (call) call.outcome = 0;
  } catch (error) {
    throw fail(error);
  }
}
