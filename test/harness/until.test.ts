import { expect, test } from "vitest";
import { until } from "./until.js";

test("it asks until there is an answer, through errors", async () => {
  const answers = [
    () => false as const,
    () => undefined,
    () => {
      throw new Error("not yet");
    },
    () => 0,
  ];
  expect(await until("a number", () => answers.shift()!())).toBe(0);
});

test("what never comes is an error that names it and the last reason", async () => {
  const ask = () => Promise.reject(new Error("closed for today"));
  const waited = await until("the post", ask, 1).catch((error: unknown) => error);
  expect(waited).toMatchObject({ message: "waited 1 ms in vain: the post", cause: { message: "closed for today" } });
});
