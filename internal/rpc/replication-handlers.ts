/**
 * `Replication`: the replica's end of a master's push, the master's answer to a replica that registers itself, and what
 * nodes ask each other about masterships.
 */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { PushRequest, PushResponse, Replication } from "../../api/gen/cambium/v1/replication_pb.js";
import { toWire64 } from "../base/position.js";
import { checkAddress } from "./limits.js";
import { Outgoing } from "./outgoing.js";
import {
  clusterIdFromWire,
  clusterIdToWire,
  masterMessageFromWire,
  nodeIdFromWire,
  replicaMessageToWire,
} from "./peer-messages.js";
import {
  askerFromWire,
  promiseReplyToWire,
  promiseRequestFromWire,
  readIndexReplyToWire,
  surveyReplyToWire,
} from "./peer-questions.js";
import type { RpcReplicator } from "./ports.js";
import { RequestError } from "./request-error.js";
import { idToBytes } from "../base/ids.js";

/** Reckoned for an answer of a replica; all but a Welcome are smaller. */
const ANSWER_BYTES = 128;
/** Bytes of answers that a master has not read, at most. */
const UNREAD_BYTES_MAX = 1024 * 1024;

export function replicationHandlers({ replicator }: { replicator: RpcReplicator }): ServiceImpl<typeof Replication> {
  return {
    push: (requests, context) => push(requests, context, replicator),

    async register(request) {
      checkAddress(request.address, "address");
      const clusterId = clusterIdFromWire(request.clusterId, "cluster_id");
      const reply = await replicator.register({
        ...(clusterId !== undefined && { clusterId }),
        nodeId: nodeIdFromWire(request.nodeId, "node_id"),
        address: request.address,
      });
      return {
        clusterId: clusterIdToWire(reply.clusterId),
        masterNodeId: idToBytes(reply.masterNodeId),
        epoch: toWire64(reply.epoch),
      };
    },

    survey: (request) => surveyReplyToWire(replicator.survey(askerFromWire(request))),

    async requestPromise(request) {
      return promiseReplyToWire(await replicator.requestPromise(promiseRequestFromWire(request)));
    },

    async readIndex(request, context) {
      return readIndexReplyToWire(await replicator.readIndex(askerFromWire(request), context.signal));
    },
  };
}

async function* push(
  requests: AsyncIterable<PushRequest>,
  context: HandlerContext,
  replicator: RpcReplicator,
): AsyncGenerator<PushResponse> {
  const answers = new Outgoing<PushResponse>({
    bytesMax: UNREAD_BYTES_MAX,
    sizeOf: () => ANSWER_BYTES,
    overflow: () => new RequestError("unread", "the master does not read the answers of this replica"),
  });
  const session = replicator.acceptPush(
    (message) => answers.add(replicaMessageToWire(message)),
    (reason) => answers.fail(new RequestError("ended", reason)),
  );
  let isOpen = true;
  const receive = async (): Promise<void> => {
    for await (const request of requests) {
      if (!isOpen) return;
      session.message(masterMessageFromWire(request));
    }
  };
  receive().then(
    () => answers.end(),
    (error: unknown) => answers.fail(error),
  );
  // Without this, a stream that waits for the next answer would outlive its connection.
  const abort = (): void => answers.fail(context.signal.reason);
  context.signal.addEventListener("abort", abort);
  if (context.signal.aborted) abort();
  try {
    yield* answers;
  } finally {
    isOpen = false;
    context.signal.removeEventListener("abort", abort);
    session.closed();
  }
}
