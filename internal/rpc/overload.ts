/** What a caller is told for whom there is no room at the moment: nothing was changed, and it may come again soon. */
import { Code, ConnectError } from "@connectrpc/connect";

const RETRY_SECONDS = 1;
/** `google.rpc.RetryInfo { retry_delay { seconds: 1 } }`, by which clients of gRPC know when to try again. */
const retryInfo = { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, 2, 0x08, RETRY_SECONDS]) };

/** As the header of HTTP says it. */
export const RETRY_AFTER = { "retry-after": String(RETRY_SECONDS) };

export function overloaded(message: string): ConnectError {
  const error = new ConnectError(message, Code.ResourceExhausted, RETRY_AFTER);
  error.details = [retryInfo];
  return error;
}
