import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { CHAT, EMBEDDINGS, client } from "./portal.mjs";

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
