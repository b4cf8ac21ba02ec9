import { request } from "node:http";
import type { ServerProcess } from "./server-process.js";

/** A call of a node's API, as JSON, on a connection of its own: one that is kept may belong to a server that is gone by now. */
export function callJson(server: ServerProcess, method: string, message: object): Promise<unknown> {
  const [host, port] = server.address.split(":");
  const options = {
    host,
    port,
    path: `/cambium.v1.${method}`,
    method: "POST",
    headers: { "content-type": "application/json" },
    agent: false,
  };
  return new Promise((resolve, reject) => {
    const call = request(options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (text += chunk));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`${server.name} refuses ${method}: ${text}`));
      });
    });
    call.on("error", (error) => reject(new Error(`${server.name} does not answer ${method}: ${error.message}`)));
    call.end(JSON.stringify(message));
  });
}
