import { connect, type Socket } from "node:net";

/** A connection to `host:port`. Resolves once it stands. */
export async function openSocket(address: string): Promise<Socket> {
  const colon = address.lastIndexOf(":");
  const socket = connect(Number(address.slice(colon + 1)), address.slice(0, colon));
  socket.setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return socket;
}
