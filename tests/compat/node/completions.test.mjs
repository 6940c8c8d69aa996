import assert from "node:assert/strict";
import test from "node:test";
import { CHAT, EMBEDDINGS, client } from "./portal.mjs";

test("a completion, whole and streamed", async () => {
  const asked = { model: CHAT, prompt: "The site", max_tokens: 12, temperature: 0 };
  const whole = await client.completions.create(asked);
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true }))
    text += chunk.choices[0]?.text ?? "";
  assert.equal(text, whole.choices[0].text);
});

test("documents by their relevance, by the client's generic call", async () => {
  const answer = await client.post("/rerank", {
    body: { model: EMBEDDINGS, query: "a cat", documents: ["the invoice is due", "a feline animal"], top_n: 1 },
  });
  assert.deepEqual(answer.results.map((result) => result.index), [1]);
});
