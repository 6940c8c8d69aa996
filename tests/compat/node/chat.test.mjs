import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { ASK, CHAT, MOCK, client, engine, management, until } from "./portal.mjs";

test("a whole answer has every field", async () => {
  const answer = await client.chat.completions.create({ model: CHAT, messages: ASK, max_completion_tokens: 12 });
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.usage.cost_microusd > 0);
  assert.ok(answer.usage.energy_wh > 0);
  assert.equal(answer.site, "Georgia 1");
  assert.match(answer._request_id, /^req_/);
});

test("a stream says the same as the whole answer", async () => {
  const asked = { model: CHAT, messages: ASK, max_tokens: 24, temperature: 0 };
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    last = chunk;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
  assert.deepEqual(last.choices, []);
});

test("the client's own stream helper gathers it", async () => {
  const stream = client.chat.completions.stream({ model: CHAT, messages: ASK, max_tokens: 8 });
  const pieces = [];
  stream.on("content", (delta) => pieces.push(delta));
  const final = await stream.finalChatCompletion();
  assert.equal(pieces.join(""), final.choices[0].message.content);
});

test("a client that hangs up pays for what it got", async () => {
  const ended = await engine({ tokens_per_second: 10 }, { tokens_per_second: 0 }, async () => {
    const { data: stream, response } = await client.chat.completions
      .create({ model: MOCK, messages: ASK, max_tokens: 200, stream: true })
      .withResponse();
    let count = 0;
    for await (const _ of stream) if (++count === 4) break;
    return until(async () => {
      const found = await management(`jobs/${response.headers.get("x-job-id")}`);
      return found.state === "cancelled" && found;
    });
  });
  assert.ok(ended.usage.completion_tokens < 100);
});

test("a failure in the middle of a stream is raised", async () => {
  await engine({ cut_after: 3 }, { cut_after: null }, async () => {
    const stream = await client.chat.completions.create({ model: MOCK, messages: ASK, max_tokens: 20, stream: true });
    await assert.rejects(
      async () => {
        for await (const _ of stream);
      },
      (error) => error instanceof OpenAI.APIError && error.code === "engine_unavailable",
    );
  });
});
