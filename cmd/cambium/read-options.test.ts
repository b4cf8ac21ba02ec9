import { Command, CommanderError } from "commander";
import { expect, test } from "vitest";
import { addAcknowledgeOption, addReadOptions, type ReadFlags, readConsistencyOf } from "./read-options.js";

function parse(...args: string[]): ReturnType<typeof readConsistencyOf> {
  const command = addReadOptions(new Command())
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  return readConsistencyOf(command.parse(args, { from: "user" }).opts<ReadFlags>());
}

test("without a flag nothing is asked for", () => {
  expect(parse()).toEqual({});
});

test("each flag asks for what it says, and they go together", () => {
  expect(parse("--linearizable")).toEqual({ linearizable: true });
  expect(parse("--max-staleness", "250")).toEqual({ maxStalenessMs: 250 });
  expect(parse("--max-staleness", "2s", "--linearizable")).toEqual({ maxStalenessMs: 2000, linearizable: true });
  expect(parse("--max-staleness", "0")).toEqual({ maxStalenessMs: 0 });
});

test("a token comes as base64, and a run of digits is a seq", () => {
  const token = Buffer.alloc(41, 7);
  expect(parse("--at-least", token.toString("base64"))).toEqual({ atLeast: new Uint8Array(token) });
  expect(parse("--at-least", "42")).toEqual({ atLeastSeq: 42 });
});

test.each(["", "no token", "a===", "9007199254740993", "-1"])("%j is neither a token nor a seq", (text) => {
  expect(() => parse("--at-least", text)).toThrow(CommanderError);
});

test("a write is answered once it is committed, unless the flag says another of three words", () => {
  const acknowledge = (...args: string[]): unknown =>
    addAcknowledgeOption(new Command())
      .exitOverride()
      .configureOutput({ writeErr: () => undefined })
      .parse(args, { from: "user" })
      .opts()["acknowledge"];
  expect(acknowledge()).toBe("committed");
  expect(acknowledge("--acknowledge", "all")).toBe("all");
  expect(() => acknowledge("--acknowledge", "some")).toThrow(CommanderError);
});
