#!/usr/bin/env node
/** Stands in for curl on a machine that has none: the flags -s, -w, -H, -d and -X, as curl understands them. */
import http from "node:http";

const headers = { "user-agent": "curl/8.0.0", accept: "*/*" };
let url;
let method;
let body;
let after = "";
const args = process.argv.slice(2);
for (let arg = args.shift(); arg !== undefined; arg = args.shift()) {
  if (arg === "-s") continue;
  if (arg === "-w") after = args.shift().replaceAll("\\n", "\n");
  else if (arg === "-d") body = args.shift();
  else if (arg === "-X") method = args.shift();
  else if (arg === "-H") {
    const [name, ...value] = args.shift().split(":");
    headers[name.toLowerCase()] = value.join(":").trim();
  } else if (arg.startsWith("-")) throw new Error(`this stand-in for curl does not know ${arg}`);
  else url = arg;
}
if (body !== undefined) headers["content-type"] ??= "application/x-www-form-urlencoded";
if (body !== undefined) headers["content-length"] = Buffer.byteLength(body);
const request = http.request(url, { method: method ?? (body === undefined ? "GET" : "POST"), headers }, (response) => {
  response.on("end", () => process.stdout.write(after));
  response.pipe(process.stdout, { end: false });
});
request.on("error", (error) => {
  process.stderr.write(`curl: (7) ${error.message}\n`);
  process.exitCode = 7;
});
request.end(body);
