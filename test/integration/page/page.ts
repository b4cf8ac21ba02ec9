/**
 * The program of a web page that uses a cluster straight from the browser, bundled and served by the test, with
 * connect-web over either of its protocols, and with the client of this repository.
 */
import { createClient as createConnectClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { createClient } from "../../../api/client/index.js";
import { KVStore } from "../../../api/gen/cambium/v1/kvstore_pb.js";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function transportOf(protocol: "connect" | "connect by GET" | "grpc-web", address: string): Transport {
  const baseUrl = `http://${address}`;
  if (protocol === "grpc-web") return createGrpcWebTransport({ baseUrl });
  return createConnectTransport({ baseUrl, useHttpGet: protocol === "connect by GET" });
}

const page = {
  /** Writes through the master, then reads from a replica until it has the write; resolves to what the replica says. */
  async roundTrip(protocol: Parameters<typeof transportOf>[0], master: string, replica: string, key: string) {
    const written = await createConnectClient(KVStore, transportOf(protocol, master)).set({
      key,
      value: new TextEncoder().encode(`from a page over ${protocol}`),
    });
    const reader = createConnectClient(KVStore, transportOf(protocol, replica));
    // Waits on the replica for the record, instead of asking again and again.
    const seq = written.position!.seq;
    for (let after = seq - 1n; ;) {
      const updates = await reader.getUpdates({ after, waitMs: 5000 });
      if (updates.next >= seq) break;
      after = updates.next;
    }
    const read = await reader.get({ key });
    return { exists: read.exists, value: text(read.value) };
  },

  /** The Connect code with which a write to this node fails. */
  async codeOfWrite(protocol: Parameters<typeof transportOf>[0], address: string) {
    const client = createConnectClient(KVStore, transportOf(protocol, address));
    try {
      await client.set({ key: "a", value: new Uint8Array(1) });
      return "none";
    } catch (error) {
      const { code, details } = error as { code: number; details: { type: string }[] };
      return { code, details: details.map(({ type }) => type) };
    }
  },

  /** The same with the client of this repository, which finds the master among the endpoints by itself. */
  async roundTripOfClient(endpoints: string[], key: string) {
    const client = createClient({ endpoints });
    const receipt = await client.set(key, new TextEncoder().encode("from a page"));
    const entry = await client.get(key);
    return { seq: receipt.position.seq, value: entry && text(entry.value) };
  },

  /** Calls that are made at once, one of which is aborted and one refused; and the requests that the browser made for them. */
  async callsAtOnce(endpoints: string[]) {
    const client = createClient({ endpoints });
    const counts = Array.from({ length: 60 }, () => client.increment("at-once"));
    const sums = (await Promise.all(counts)).map(({ value }) => Number(value));
    const abort = new AbortController();
    const reads = Promise.allSettled([
      client.getText("at-once"),
      client.get("at-once", abort),
      client.get(""),
      client.get("at-once/absent"),
    ]);
    abort.abort();
    const outcomes = (await reads).map((outcome) =>
      outcome.status === "fulfilled" ? outcome.value : (outcome.reason as { code: string }).code,
    );
    client.close();
    const requests = performance.getEntriesByType("resource").map(({ name }) => name.split("/").at(-1));
    return { sums, outcomes, batches: requests.filter((name) => name === "Batch").length };
  },

  /** Produces records one by one, each after the one before has come through a stream that follows the record log. */
  async followOfClient(endpoints: string[], records: string[]) {
    const client = createClient({ endpoints });
    const { offset } = await client.produce(records[0]!);
    const found: string[] = [];
    for await (const { record } of client.consume({ offset })) {
      found.push(text(record));
      if (found.length === records.length) break;
      await client.produce(records[found.length]!);
    }
    client.close();
    return found;
  },
};

export type Page = typeof page;

Object.assign(globalThis, { page });
