// The client as a customer makes it: base URL and key, nothing else. Retries are off, so that each refusal is seen.
import OpenAI from "openai";

export const CHAT = "cango/demo-chat";
export const MOCK = "engine/mock-chat";
export const EMBEDDINGS = "sentence-transformers/all-minilm-l6-v2";
export const ASK = [{ role: "user", content: "Tell me about the site." }];

export const base = process.env.PORTAL_URL;
export const key = process.env.PORTAL_KEY;
// Keys that are refused something: see `keys` in conftest.py.
export const keys = JSON.parse(process.env.PORTAL_KEYS);
export const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });

// Changes how the test engine behaves while `work` runs.
export async function engine(changes, undone, work) {
  const control = (body) =>
    fetch(`${process.env.ENGINE_URL}/control`, { method: "POST", body: JSON.stringify(body) });
  await control(changes);
  try {
    return await work();
  } finally {
    await control(undone);
  }
}

export async function management(path, options = {}) {
  const answer = await fetch(`${base}/api/v1/${path}`, {
    ...options,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...options.headers },
  });
  return answer.json();
}

export async function until(look, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`it did not happen within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
