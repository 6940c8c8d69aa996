import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { CHAT, EMBEDDINGS, MOCK, client, engine, keys } from "./portal.mjs";

const ASK = [{ role: "user", content: "x" }];

for (const [asked, param, code] of [
  [{ max_tokens: -1 }, "max_tokens", "invalid_value"],
  [{ nonsense: 1 }, "nonsense", "unknown_parameter"],
  [{ model: EMBEDDINGS }, "model", "wrong_model_kind"],
]) {
  test(`a wrong request names its parameter: ${param}`, async () => {
    await assert.rejects(
      client.chat.completions.create({ model: CHAT, messages: ASK, ...asked }),
      (error) =>
        error instanceof OpenAI.BadRequestError &&
        error.param === param &&
        error.code === code &&
        error.requestID.startsWith("req_"),
    );
  });
}

test("an unknown model and a wrong key", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "nobody/nothing", messages: ASK }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
  await assert.rejects(
    client.withOptions({ apiKey: "cango_wrong" }).models.list(),
    (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key",
  );
});

const ask = (of, changes = {}, options = {}) =>
  of.chat.completions.create({ model: CHAT, messages: ASK, max_tokens: 4, ...changes }, options);
const as = (apiKey) => client.withOptions({ apiKey });

for (const [status, raised, code, work] of [
  [402, OpenAI.APIError, "budget_exceeded", () => ask(as(keys.broke))],
  [403, OpenAI.PermissionDeniedError, "model_not_allowed", () => ask(as(keys.narrow))],
  [404, OpenAI.NotFoundError, "response_not_found", () => client.responses.retrieve("resp_" + "0".repeat(26))],
  [413, OpenAI.APIError, "request_too_large", () => ask(client, { messages: [{ role: "user", content: "x".repeat(9_000_000) }] })],
  [415, OpenAI.APIError, "unsupported_media_type", () => ask(client, {}, { headers: { "Content-Type": "text/plain" } })],
  [422, OpenAI.UnprocessableEntityError, "token_out_of_vocabulary", () => client.embeddings.create({ model: EMBEDDINGS, input: [[1], [30_522]] })],
  [422, OpenAI.UnprocessableEntityError, "token_out_of_vocabulary", () => client.completions.create({ model: CHAT, prompt: [1024] })],
]) {
  test(`${status} is the client's own error`, async () => {
    await assert.rejects(
      work(),
      (error) =>
        error instanceof raised &&
        error.status === status &&
        error.code === code &&
        error.requestID.startsWith("req_"),
    );
  });
}

test("a rate limit says how long", async () => {
  const slow = as(keys.slow);
  const outcomes = await Promise.allSettled([ask(slow), ask(slow)]);
  const { reason } = outcomes.find(({ status }) => status === "rejected");
  assert.ok(reason instanceof OpenAI.RateLimitError);
  assert.equal(reason.code, "rate_limit_exceeded");
  const wait = Number(reason.headers.get("retry-after-ms"));
  assert.ok(wait > 0 && wait <= 61_000, String(wait));
});

test("an engine that is out of order is no fault of the customer", async () => {
  await engine({ fail_status: 500 }, { fail_status: 0 }, () =>
    assert.rejects(
      ask(client, { model: MOCK }),
      (error) =>
        error instanceof OpenAI.InternalServerError && error.status === 503 && error.code === "engine_unavailable",
    ),
  );
});
