/** Stands before every handler: may the caller call it, and what is the caller told when it fails. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Access } from "../identity/access.js";
import { callerKey } from "./adapter.js";
import type { ErrorMap } from "./errors.js";

/** As the access table names it. */
export const methodName = ({ parent, name }: DescMethod): string => `${parent.typeName}/${name}`;

/** The adapter has asked already whether the caller may call; here it is asked again, whichever way the call came. */
export function callGuard({ access, errors }: { access: Access; errors: ErrorMap }): Interceptor {
  return (next) => async (request) => {
    const method = methodName(request.method);
    try {
      access.check(method, request.contextValues.get(callerKey));
      const answer = await next(request);
      if (!answer.stream) return answer;
      return {
        ...answer,
        message: guarded(answer.message, (error) => errors.toConnectError(error, method, request.signal)),
      };
    } catch (error) {
      throw errors.toConnectError(error, method, request.signal);
    }
  };
}

async function* guarded<T>(messages: AsyncIterable<T>, map: (error: unknown) => Error): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw map(error);
  }
}
