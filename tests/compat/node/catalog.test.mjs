import assert from "node:assert/strict";
import test from "node:test";
import { CHAT, EMBEDDINGS, client } from "./portal.mjs";

test("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(CHAT) && names.includes(EMBEDDINGS));
  const found = await client.models.retrieve(CHAT);
  assert.equal(found.owned_by, "cango");
  assert.ok(found.pricing.output_microusd_per_mtok > 0);
});

test("vectors of texts, which the client asks for in base64", async () => {
  const answer = await client.embeddings.create({ model: EMBEDDINGS, input: ["one", "two"] });
  assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
  assert.ok(answer.data.every((item) => item.embedding.length === 384));
  const plain = await client.embeddings.create({ model: EMBEDDINGS, input: ["one"], encoding_format: "float" });
  plain.data[0].embedding.forEach((value, n) => assert.ok(Math.abs(value - answer.data[0].embedding[n]) < 1e-4));
});
