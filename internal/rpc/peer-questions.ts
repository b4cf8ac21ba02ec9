/**
 * The questions that nodes ask each other one at a time (Survey, RequestPromise, ReadIndex), between the wire and
 * replication's own forms. Masterships and votes hang on them, so that an answer which contradicts itself counts as none.
 */
import { create } from "@bufbuild/protobuf";
import {
  PromiseRefusal as WireRefusal,
  type ReadIndexRequest,
  ReadIndexRequestSchema,
  type ReadIndexResponse,
  ReadIndexResponseSchema,
  type RequestPromiseRequest,
  RequestPromiseRequestSchema,
  type RequestPromiseResponse,
  RequestPromiseResponseSchema,
  type SurveyRequest,
  SurveyRequestSchema,
  type SurveyResponse,
  SurveyResponseSchema,
} from "../../api/gen/cambium/v1/replication_pb.js";
import type { Position as WirePosition } from "../../api/gen/cambium/v1/types_pb.js";
import { AssertionError, unreachable } from "../base/assert.js";
import { idToBytes } from "../base/ids.js";
import { type Position, toWire64 } from "../base/position.js";
import { PROTOCOL_VERSION } from "../replication/core/message.js";
import type { Asker, PromiseRefusal, PromiseReply, PromiseRequest, SurveyReply } from "../replication/peer.js";
import { epochFromWire, positionFromWire, positionToWire } from "./convert.js";
import { checkAddress } from "./limits.js";
import {
  clusterIdFromWire,
  clusterIdToWire,
  epochIdFromWire,
  epochIdToWire,
  NO_BYTES,
  nodeIdFromWire,
} from "./peer-messages.js";
import { RequestError } from "./request-error.js";

/** The epoch id of what lies before the first epoch; no mastership has it. */
const NO_EPOCH_ID = 0n;

// ---- who asks --------------------------------------------------------------------------------------------------------

export const surveyToWire = (asker: Asker): SurveyRequest => create(SurveyRequestSchema, askerToWire(asker));

export const readIndexToWire = (asker: Asker): ReadIndexRequest => create(ReadIndexRequestSchema, askerToWire(asker));

export function askerFromWire(request: SurveyRequest | ReadIndexRequest): Asker {
  checkProtocol(request.protocolVersion);
  const clusterId = clusterIdFromWire(request.clusterId, "cluster_id");
  return { ...(clusterId !== undefined && { clusterId }), nodeId: nodeIdFromWire(request.nodeId, "node_id") };
}

function askerToWire(asker: Asker): { clusterId: Uint8Array; nodeId: Uint8Array; protocolVersion: number } {
  return {
    clusterId: clusterIdToWire(asker.clusterId),
    nodeId: idToBytes(asker.nodeId),
    protocolVersion: PROTOCOL_VERSION,
  };
}

/**
 * Nodes of another protocol may mean something else by the same question, and masterships hang on the answers. None given
 * means the first version, whose questions did not name it.
 */
export function checkProtocol(version: number): void {
  if (version === 0 || version === PROTOCOL_VERSION) return;
  throw new RequestError(
    "protocol",
    `this node speaks version ${PROTOCOL_VERSION} of the protocol between nodes, the one that asks version ${version}; run the same release on both`,
  );
}

// ---- Survey ----------------------------------------------------------------------------------------------------------

export function surveyReplyToWire(reply: SurveyReply): SurveyResponse {
  const { candidate } = reply.promised;
  return create(SurveyResponseSchema, {
    clusterId: clusterIdToWire(reply.clusterId),
    nodeId: idToBytes(reply.nodeId),
    promisedEpoch: toWire64(reply.promised.epoch),
    promisedCandidate: candidate === undefined ? NO_BYTES : idToBytes(candidate),
    last: positionToWire(reply.last),
    isMaster: reply.isMaster,
    founds: reply.founds,
    masterAddress: reply.masterAddress ?? "",
    unclean: reply.unclean === true,
  });
}

export function surveyReplyFromWire(response: SurveyResponse): SurveyReply {
  const { masterAddress, promisedCandidate, isMaster } = response;
  const clusterId = clusterIdFromWire(response.clusterId, "cluster_id");
  if (isMaster && clusterId === undefined) throw new RequestError("invalid", "a master names no cluster");
  if (masterAddress !== "") checkAddress(masterAddress, "master_address");
  return {
    ...(clusterId !== undefined && { clusterId }),
    nodeId: nodeIdFromWire(response.nodeId, "node_id"),
    promised: {
      epoch: epochFromWire(response.promisedEpoch, "promised_epoch"),
      ...(promisedCandidate.length > 0 && { candidate: nodeIdFromWire(promisedCandidate, "promised_candidate") }),
    },
    last: placeFromWire(response.last, "last"),
    isMaster,
    founds: response.founds,
    ...(masterAddress !== "" && { masterAddress }),
    ...(response.unclean && { unclean: true }),
  };
}

// ---- RequestPromise --------------------------------------------------------------------------------------------------

export function promiseRequestToWire(request: PromiseRequest): RequestPromiseRequest {
  return create(RequestPromiseRequestSchema, {
    clusterId: clusterIdToWire(request.clusterId),
    candidate: idToBytes(request.candidate),
    address: request.address,
    epoch: toWire64(request.epoch),
    epochId: epochIdToWire(request.epochId),
    last: positionToWire(request.last),
    forced: request.forced,
    promisedEpoch: toWire64(request.promisedEpoch),
    protocolVersion: PROTOCOL_VERSION,
    voter: request.voter === undefined ? NO_BYTES : idToBytes(request.voter),
  });
}

export function promiseRequestFromWire(request: RequestPromiseRequest): PromiseRequest {
  checkProtocol(request.protocolVersion);
  const clusterId = clusterIdFromWire(request.clusterId, "cluster_id");
  if (clusterId === undefined)
    throw new RequestError("invalid", "cluster_id is empty; a candidate belongs to a cluster");
  checkAddress(request.address, "address");
  const asked = epochFromWire(request.epoch, "epoch");
  if (asked === 0) throw new RequestError("invalid", "epoch is 0; masterships are numbered from 1");
  if (request.epochId === NO_EPOCH_ID) throw new RequestError("invalid", "epoch_id is 0, which no mastership has");
  const last = placeFromWire(request.last, "last");
  const promisedEpoch = epochFromWire(request.promisedEpoch, "promised_epoch");
  // Who has more than what it asks for has no need of it: such a candidate has lost its way.
  if (last.epoch > asked || promisedEpoch > asked) {
    throw new RequestError(
      "invalid",
      `epoch is ${asked}, and the candidate has a log of epoch ${last.epoch} and has promised epoch ${promisedEpoch}`,
    );
  }
  return {
    clusterId,
    candidate: nodeIdFromWire(request.candidate, "candidate"),
    address: request.address,
    epoch: asked,
    epochId: epochIdFromWire(request.epochId),
    last,
    forced: request.forced,
    promisedEpoch,
    ...(request.voter.length > 0 && { voter: nodeIdFromWire(request.voter, "voter") }),
  };
}

export function promiseReplyToWire(reply: PromiseReply): RequestPromiseResponse {
  return create(RequestPromiseResponseSchema, {
    nodeId: idToBytes(reply.nodeId),
    refusal: refusalToWire(reply.refusal),
    detail: reply.detail,
    unclean: reply.unclean,
    promisedEpoch: toWire64(reply.promisedEpoch),
    last: positionToWire(reply.last),
  });
}

/** `asked`: what the answer is for. */
export function promiseReplyFromWire(response: RequestPromiseResponse, asked: PromiseRequest): PromiseReply {
  const refusal = refusalFromWire(response.refusal);
  const promisedEpoch = epochFromWire(response.promisedEpoch, "promised_epoch");
  // It would be counted as a vote that the node never gave.
  if (refusal === undefined && promisedEpoch < asked.epoch) {
    throw new RequestError(
      "invalid",
      `the node says that it granted epoch ${asked.epoch}, and that it has promised no higher one than ${promisedEpoch}`,
    );
  }
  return {
    nodeId: nodeIdFromWire(response.nodeId, "node_id"),
    ...(refusal !== undefined && { refusal }),
    detail: response.detail,
    unclean: response.unclean,
    promisedEpoch,
    last: placeFromWire(response.last, "last"),
  };
}

function refusalToWire(refusal: PromiseRefusal | undefined): WireRefusal {
  switch (refusal) {
    case undefined:
      return WireRefusal.UNSPECIFIED;
    case "foreign_cluster":
      return WireRefusal.FOREIGN_CLUSTER;
    case "stale_epoch":
      return WireRefusal.STALE_EPOCH;
    case "behind":
      return WireRefusal.BEHIND;
    case "no_vote":
      return WireRefusal.NO_VOTE;
    case "busy":
      return WireRefusal.BUSY;
    case "unknown":
      // It has no value on the wire, and the value of nothing means that the promise was given.
      throw new AssertionError("a node knows its own reasons");
    default:
      return unreachable(refusal);
  }
}

/** Undefined: granted. */
function refusalFromWire(refusal: WireRefusal): PromiseRefusal | undefined {
  switch (refusal) {
    case WireRefusal.UNSPECIFIED:
      return undefined;
    case WireRefusal.FOREIGN_CLUSTER:
      return "foreign_cluster";
    case WireRefusal.STALE_EPOCH:
      return "stale_epoch";
    case WireRefusal.BEHIND:
      return "behind";
    case WireRefusal.NO_VOTE:
      return "no_vote";
    case WireRefusal.BUSY:
      return "busy";
    default:
      // A newer node may know more reasons; none of them is a grant.
      return "unknown";
  }
}

// ---- ReadIndex -------------------------------------------------------------------------------------------------------

export const readIndexReplyToWire = (position: Position): ReadIndexResponse =>
  create(ReadIndexResponseSchema, { position: positionToWire(position) });

export const readIndexReplyFromWire = (response: ReadIndexResponse): Position =>
  placeFromWire(response.position, "position");

/** The end of a log, or a place in it: a record has both an epoch and a seq, and before the first there is neither. */
function placeFromWire(position: WirePosition | undefined, field: string): Position {
  const place = positionFromWire(position, field);
  if ((place.epoch === 0) === (place.seq === 0)) return place;
  throw new RequestError(
    "invalid",
    `${field} has epoch ${place.epoch} and seq ${place.seq}, which is no place in a log`,
  );
}
