/**
 * `Replication`: the replica's end of a master's push, the master's answer to a replica that registers itself, and what
 * nodes ask each other about masterships.
 */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type {
  PushRequest,
  PushResponse,
  RegisterRequest as WireRegisterRequest,
  Replication,
} from "../../api/gen/cambium/v1/replication_pb.js";
import { idToBytes } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { toWire64 } from "../base/position.js";
import type { RegisterRequest } from "../replication/replicator.js";
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
  checkProtocol,
  promiseReplyToWire,
  promiseRequestFromWire,
  readIndexReplyToWire,
  surveyReplyToWire,
} from "./peer-questions.js";
import type { RpcReplicator } from "./ports.js";
import { RequestError } from "./request-error.js";

/** Reckoned for an answer of a replica; all but a Welcome are smaller. */
const ANSWER_BYTES = 128;
/** Bytes of answers that a master has not read, at most. */
export const UNREAD_BYTES_MAX = 1024 * 1024;

export function replicationHandlers({
  replicator,
  logger,
}: {
  readonly replicator: RpcReplicator;
  readonly logger: Logger;
}): ServiceImpl<typeof Replication> {
  let complaint = "";
  /** Reads a question. The operator of this node is told of one that it does not understand too, once. */
  const readBy = <T, R>(read: (request: T) => R, request: T): R => {
    try {
      return read(request);
    } catch (error) {
      if (error instanceof RequestError && error.code === "protocol" && error.message !== complaint) {
        complaint = error.message;
        logger.warn("a node of another release is not answered", { reason: error.message });
      }
      throw error;
    }
  };
  return {
    push: (requests, context) => push(requests, context, replicator),

    async register(request) {
      const reply = await replicator.register(readBy(registerRequestFromWire, request));
      return {
        clusterId: clusterIdToWire(reply.clusterId),
        masterNodeId: idToBytes(reply.masterNodeId),
        epoch: toWire64(reply.epoch),
      };
    },

    survey: (request) => surveyReplyToWire(replicator.survey(readBy(askerFromWire, request))),

    async requestPromise(request) {
      return promiseReplyToWire(await replicator.requestPromise(readBy(promiseRequestFromWire, request)));
    },

    async readIndex(request, context) {
      return readIndexReplyToWire(await replicator.readIndex(readBy(askerFromWire, request), context.signal));
    },
  };
}

function registerRequestFromWire(request: WireRegisterRequest): RegisterRequest {
  checkProtocol(request.protocolVersion);
  checkAddress(request.address, "address");
  const clusterId = clusterIdFromWire(request.clusterId, "cluster_id");
  return {
    ...(clusterId !== undefined && { clusterId }),
    nodeId: nodeIdFromWire(request.nodeId, "node_id"),
    address: request.address,
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
