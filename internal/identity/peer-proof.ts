/**
 * How the nodes of a cluster prove to each other that they know its secret: a header with a keyed hash of a fixed
 * sentence. The secret itself never travels. The proof protects against strangers, not against somebody who can read
 * the network; for that there is TLS.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

const SCHEME = "Cambium-Peer";
const SENTENCE = "cambium peer v1";

/** The value of the `authorization` header of a node that knows the secret. */
export function peerAuthorization(secret: Uint8Array): string {
  return `${SCHEME} ${createHmac("sha256", secret).update(SENTENCE).digest("base64url")}`;
}

/** Whether an `authorization` header is meant as the proof of a peer, a true one or not. */
export function claimsPeer(authorization: string | undefined): boolean {
  return authorization?.startsWith(`${SCHEME} `) === true;
}

/** Whether an `authorization` header proves the secret; the time that it takes does not depend on where they differ. */
export function provesPeer(authorization: string | undefined, secret: Uint8Array): boolean {
  if (authorization === undefined) return false;
  const expected = Buffer.from(peerAuthorization(secret));
  const given = Buffer.from(authorization);
  return given.length === expected.length && timingSafeEqual(given, expected);
}
