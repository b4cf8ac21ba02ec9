/**
 * The servers that do nothing:
 *
 * - `http`: node:http
 * - `http2`: node:http2, with the trailers of gRPC
 * - `connect-http`, `connect-http2`: the stock Connect library on the two, answering Get
 */
export const baselineKinds = ["http", "http2", "connect-http", "connect-http2"] as const;
export type BaselineKind = (typeof baselineKinds)[number];
