import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { ASK, CHAT, client } from "./portal.mjs";

const LIMITS = ["limit", "remaining", "reset"].flatMap((what) =>
  ["requests", "tokens"].map((of) => `x-ratelimit-${what}-${of}`),
);

test("every answer and every refusal has the official headers", async () => {
  const { response } = await client.chat.completions.create({ model: CHAT, messages: ASK, max_tokens: 2 }).withResponse();
  for (const name of ["x-request-id", "openai-processing-ms", ...LIMITS]) assert.ok(response.headers.get(name), name);
  await assert.rejects(client.chat.completions.create({ model: CHAT, messages: [] }), (error) => {
    for (const name of ["x-request-id", "openai-processing-ms", ...LIMITS]) assert.ok(error.headers.get(name), name);
    return error instanceof OpenAI.BadRequestError;
  });
});

test("one Idempotency-Key is one job", async () => {
  const asked = [{ model: CHAT, messages: ASK, max_tokens: 8 }, { headers: { "Idempotency-Key": "node-1" } }];
  const first = await client.chat.completions.create(...asked).withResponse();
  const second = await client.chat.completions.create(...asked).withResponse();
  assert.equal(second.response.headers.get("x-job-id"), first.response.headers.get("x-job-id"));
  assert.deepEqual(second.data, first.data);
  await assert.rejects(
    client.chat.completions.create({ ...asked[0], max_tokens: 9 }, asked[1]),
    (error) => error instanceof OpenAI.ConflictError && error.code === "idempotency_key_reused",
  );
});
