import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchResponseSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { eventsIn } from "./watch-load.js";

test.for([0, 1, 3])("a message of %i events has so many", (count) => {
  const events = Array.from({ length: count }, (_, n) => ({ key: `k${n}`, value: Buffer.alloc(n * 200) }));
  const message = create(WatchResponseSchema, { events, position: { epoch: 1n, seq: 2n }, token: Buffer.alloc(33) });
  expect(eventsIn(toBinary(WatchResponseSchema, message))).toBe(count);
});
