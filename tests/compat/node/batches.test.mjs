import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { toFile } from "openai";
import { CHAT, client, until } from "./portal.mjs";

const row = (number) => ({
  custom_id: `row-${number}`,
  method: "POST",
  url: "/v1/chat/completions",
  body: { model: CHAT, messages: [{ role: "user", content: `Row ${number}.` }], max_tokens: 4 },
});
const ENDED = ["completed", "failed", "expired", "cancelled"];

test("a file is kept, listed, read and deleted", async () => {
  const content = JSON.stringify(row(1)) + "\n";
  const made = await client.files.create({ file: await toFile(Buffer.from(content), "rows.jsonl"), purpose: "batch" });
  assert.equal(made.bytes, content.length);
  const names = [];
  for await (const file of client.files.list({ purpose: "batch" })) names.push(file.id);
  assert.ok(names.includes(made.id));
  assert.equal(await (await client.files.content(made.id)).text(), content);
  assert.ok((await client.files.delete(made.id)).deleted);
  await assert.rejects(client.files.retrieve(made.id), (error) => error instanceof OpenAI.NotFoundError);
});

test("a batch ends with a line for each row", async () => {
  const content = [...Array(12).keys()].map((number) => JSON.stringify(row(number)) + "\n").join("");
  const file = await client.files.create({ file: await toFile(Buffer.from(content), "rows.jsonl"), purpose: "batch" });
  const made = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
  const batch = await until(async () => {
    const found = await client.batches.retrieve(made.id);
    return ENDED.includes(found.status) && found;
  }, 90);
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.request_counts, { total: 12, completed: 12, failed: 0 });
  const answers = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n").map(JSON.parse);
  assert.equal(new Set(answers.map((answer) => answer.custom_id)).size, 12);
});
