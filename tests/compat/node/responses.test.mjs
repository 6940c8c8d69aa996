import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { CHAT, MOCK, client, until } from "./portal.mjs";

test("a whole response, looked up and deleted", async () => {
  const answer = await client.responses.create({
    model: CHAT,
    input: "Tell me about the site.",
    instructions: "Be brief.",
    max_output_tokens: 12,
  });
  assert.match(answer.id, /^resp_/);
  assert.ok(["completed", "incomplete"].includes(answer.status));
  assert.ok(answer.output_text.length > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens);
  assert.equal((await client.responses.retrieve(answer.id)).output_text, answer.output_text);
  await client.responses.delete(answer.id);
  await assert.rejects(client.responses.retrieve(answer.id), (error) => error instanceof OpenAI.NotFoundError);
});

test("the client's own stream helper gathers it", async () => {
  const stream = client.responses.stream({ model: CHAT, input: "Tell me about the site.", max_output_tokens: 12 });
  let text = "";
  let last;
  const kinds = [];
  for await (const event of stream) {
    kinds.push(event.type);
    last = event;
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(kinds[0], "response.created");
  assert.equal(last.response.output[0].content[0].text, text);
});

test("background work ends and is found", async () => {
  const made = await client.responses.create({ model: MOCK, input: "Count.", max_output_tokens: 5, background: true });
  const done = await until(async () => {
    const found = await client.responses.retrieve(made.id);
    return ["completed", "incomplete"].includes(found.status) && found;
  });
  assert.ok(done.output_text.length > 0);
});
