/** Serves a page that is nothing but a program of `test/integration/page`, bundled as a web project would bundle it. */
import { createServer, type Server } from "node:http";
import path from "node:path";
import { build } from "esbuild";

export interface PageServer {
  readonly server: Server;
  readonly port: number;
  readonly origin: string;
}

/** `program` is the name of its file. */
export async function servePage(program: string): Promise<PageServer> {
  const bundle = await build({
    entryPoints: [path.join(import.meta.dirname, "..", "integration", "page", program)],
    bundle: true,
    write: false,
    format: "iife",
    // Fails where anything of Node is in the way, as a web project's own bundler would.
    platform: "browser",
  });
  const script = bundle.outputFiles[0]!.text;
  const server = createServer((request, response) => {
    if (request.url === "/page.js") response.setHeader("content-type", "text/javascript").end(script);
    else response.setHeader("content-type", "text/html").end("<!doctype html><script src=/page.js></script>");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { server, port, origin: `http://127.0.0.1:${port}` };
}
