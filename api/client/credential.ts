/** How a client says who it is: by a token in the `authorization` header of every call, and in no URL. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { CambiumError } from "./cambium-error.js";

/** A token as `cambium token create` prints it, or what gives the one that counts now; asked before every call. */
export type TokenSource = string | (() => string | Promise<string>);

const TOKEN = /^[\x21-\x7e]{1,256}$/;
const WHAT_IS_RIGHT = "must be what `cambium token create` printed, without blanks or line breaks";

/** Puts the token before every call. Throws `CambiumError` `invalid_argument` for what is no token. */
export function tokenInterceptor(token: TokenSource): Interceptor {
  if (typeof token === "string" && !TOKEN.test(token))
    throw new CambiumError("invalid_argument", `token ${WHAT_IS_RIGHT}`);
  return (next) => async (request) => {
    const text = typeof token === "string" ? token : await token();
    if (!TOKEN.test(text)) throw new ConnectError(`the token ${WHAT_IS_RIGHT}`, Code.InvalidArgument);
    request.header.set("authorization", `Bearer ${text}`);
    return next(request);
  };
}
