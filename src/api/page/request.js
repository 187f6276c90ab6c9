// The request that comes next, from the conversation and the settings, and how to send it without this page.
import { settings, tab } from "./store.js";
import { urlOf } from "./worker.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
  "frequency_penalty", "max_tokens"];

// The fields that the openai package knows; it sends others in extra_body.
const KNOWN_TO_OPENAI = new Set(["model", "messages", "temperature", "top_p", "presence_penalty",
  "frequency_penalty", "max_tokens", "seed", "stop", "reasoning_effort", "tools", "tool_choice", "stream",
  "stream_options"]);

export const worker = { model: "" }; // as /v1/models names it

// The tool definitions as they were written; null for none. Throws a sentence.
export function readTools(text) {
  if (!text.trim()) return null;
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}.`);
  }
  if (!Array.isArray(tools)) throw new Error("Tools are a list: begin with [ and end with ].");
  tools.forEach((tool, i) => {
    if (tool?.type === "function" && typeof tool.function?.name === "string" && tool.function.name) return;
    throw new Error(`Tool ${i + 1} needs "type": "function" and a "function" with a "name".`);
  });
  return tools.length ? tools : null;
}

function messageFor(message) {
  if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.content };
  if (message.role === "user") return { role: "user", content: message.content };
  const sent = { role: "assistant", content: message.content };
  if (message.reasoning) sent.reasoning_content = message.reasoning;
  if (message.calls?.length) {
    sent.tool_calls = message.calls.map((call) => ({
      id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
    }));
  }
  return sent;
}

// An answer with nothing in it (refused, or stopped before its first token) is none, and neither is what it
// would have answered: many templates refuse two messages of the user's in a row.
function answeredOf(messages) {
  const answered = [];
  for (const message of messages) {
    if (message.role !== "assistant" || message.content || message.calls?.length) answered.push(message);
    else if (answered.at(-1)?.role === "user") answered.pop();
  }
  return answered;
}

export function requestFor(messages) {
  const request = { messages: answeredOf(messages).map(messageFor) };
  if (worker.model) request.model = worker.model;
  if (settings.system.trim()) request.messages.unshift({ role: "system", content: settings.system });
  for (const name of NUMBERS) if (settings[name] !== "") request[name] = Number(settings[name]);
  // 64 bits do not fit a number of JavaScript's.
  if (settings.seed !== "") request.seed = JSON.rawJSON?.(settings.seed) ?? Number(settings.seed);
  const stops = settings.stop.split("\n").filter((line) => line !== "");
  if (stops.length) request.stop = stops;
  if (settings.thinking === "off") request.chat_template_kwargs = { enable_thinking: false };
  else if (settings.thinking) request.reasoning_effort = settings.thinking;
  const tools = readTools(tab.tools);
  if (tools) Object.assign(request, { tools, tool_choice: tab.toolChoice });
  return { ...request, stream: true, stream_options: { include_usage: true } };
}

// ---- the same from elsewhere ----

const quoteForShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curlFor(request) {
  const lines = [`curl -N ${quoteForShell(urlOf("v1/chat/completions"))}`,
    "-H 'Content-Type: application/json'"];
  if (tab.key) lines.push('-H "Authorization: Bearer $WORKER_API_KEY"');
  lines.push(`-d ${quoteForShell(JSON.stringify(request, null, 1))}`);
  return lines.join(" \\\n  ");
}

// JSON as a Python expression: strings are the same in both.
function python(value, indent) {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object" || JSON.isRawJSON?.(value)) return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList ? value.map((one) => python(one, inner))
    : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${python(one, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  const short = `${open}${parts.join(", ")}${close}`;
  if (short.length + indent.length < 80 && !short.includes("\n")) return short;
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent}${close}`;
}

export function pythonFor(request) {
  const known = [], extra = {};
  for (const [name, value] of Object.entries(request)) {
    if (KNOWN_TO_OPENAI.has(name)) known.push(`    ${name}=${python(value, "    ")},\n`);
    else extra[name] = value;
  }
  if (Object.keys(extra).length) known.push(`    extra_body=${python(extra, "    ")},\n`);
  if (!request.model) known.unshift('    model="default",\n');
  const key = tab.key ? 'os.environ["WORKER_API_KEY"]' : '"none"';
  return `${tab.key ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(urlOf("v1"))}, api_key=${key})
stream = client.chat.completions.create(
${known.join("")})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}
