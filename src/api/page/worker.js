// Asking the worker: requests with the key, streams of events, and what went wrong as a sentence.
import { tab } from "./store.js";

// Relative to the page, which a proxy may have put below a path of its own.
export const urlOf = (path) => new URL(path, document.baseURI).href;

export function headers() {
  const all = { "Content-Type": "application/json" };
  if (tab.key) all.Authorization = `Bearer ${tab.key}`;
  return all;
}

// A problem that is shown: the sentence, and what the reader can do about it ("key", "retry" or nothing).
export class Problem extends Error {
  constructor(sentence, action) {
    super(sentence);
    this.action = action;
  }
}

const UNREACHABLE = "The worker cannot be reached. Check that it is running, then try again.";

function waitOf(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return seconds > 1 ? `in ${seconds} seconds` : "in a moment";
}

const withStop = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

// OpenAI's errors and the worker's own both have error.message.
async function problemOf(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  const message = withStop(String(error.message ?? `status ${response.status}`));
  switch (response.status) {
    case 400: case 422: return new Problem(`The worker cannot use this request: ${message}`, null);
    case 401: return new Problem(tab.key
      ? "The worker does not accept this API key. Enter another one in the settings, then try again."
      : "This worker asks for an API key. Enter it in the settings, then try again.", "key");
    case 403: return new Problem(`The worker does not answer this page: ${message}`, null);
    case 404: return new Problem("This worker has no chat. Update it, or point the proxy at a newer one.", null);
    case 413: return new Problem("The conversation is too long to send. Start a new one or shorten it.", null);
    case 429: return new Problem(`The worker is busy and its queue is full. Try again ${waitOf(response)}.`,
      "retry");
    case 503: return new Problem(`The worker takes no requests now (${message.slice(0, -1)}). ` +
      `Try again ${waitOf(response)}.`, "retry");
    case 504: return new Problem("The answer took longer than this worker allows. Ask for fewer tokens.",
      "retry");
    default: return new Problem(`The worker failed: ${message} Try again, and look at its log.`, "retry");
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(urlOf(path), { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE, "retry");
  }
  return response;
}

// JSON of a GET, whatever its status says; null where there is none to be had.
export async function getJson(path) {
  const response = await ask(path, { headers: headers() });
  return response.ok || path === "health" ? response.json().catch(() => null) : null;
}

export async function getText(path) {
  const response = await ask(path, { headers: headers() });
  if (!response.ok) throw await problemOf(response);
  return response.text();
}

// The data of server-sent events (HTML Living Standard, 9.2), one string an event.
async function* eventsOf(body) {
  const reader = body.getReader(), decoder = new TextDecoder();
  let rest = "", data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "" && data.length) yield data.join("\n");
      if (line === "") data = [];
      else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    }
  }
}

function chunkOf(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new Problem("The worker sent something that is not JSON. Is there a proxy in between?", "retry");
  }
  if (!chunk.error) return chunk;
  throw new Problem(`The answer broke off: ${withStop(String(chunk.error.message))}`, "retry");
}

// The chunks of a streamed chat completion. Ends without "[DONE]": the connection was lost, and so it throws.
export async function* chatChunks(request, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(request), signal,
  });
  if (!response.ok) throw await problemOf(response);
  try {
    for await (const data of eventsOf(response.body)) {
      if (data === "[DONE]") return;
      yield chunkOf(data);
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
  }
  throw new Problem("The connection ended before the answer did. Check that the worker runs, then try again.",
    "retry");
}
