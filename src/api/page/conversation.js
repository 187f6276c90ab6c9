// The conversation: its messages as articles, the answer that streams, and what can be done with each.
import { announce, byId, copyButton, el, icon, iconButton } from "./dom.js";
import { countPiece, figuresText, finishFigures, startFigures } from "./figures.js";
import { showMarkdown } from "./markdown.js";
import { requestFor } from "./request.js";
import { saveTab, saveTabSoon, tab } from "./store.js";
import { chatChunks, Problem } from "./worker.js";

const SPOKEN_MAX = 600; // characters of an answer that a screen reader is given when it is complete
const NEAR_END = 80; // pixels from the end that still count as reading along

let running = null; // the AbortController of the answer that streams
const views = new Map(); // from each message that is shown to what shows it
let hooks = { changed() {}, needsKey() {}, toolsAreWrong() {} };

// A page that is left loses its connections first, and is told of its end afterwards.
let isLeaving = false;
addEventListener("beforeunload", () => (isLeaving = true));

export const isAnswering = () => running !== null;

// ---- scrolling along ----

let readsAlong = true;

function followEnd() {
  const list = byId("scroller");
  if (readsAlong) list.scrollTop = list.scrollHeight;
}

function noteScroll() {
  const list = byId("scroller");
  readsAlong = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
  byId("to-end").hidden = readsAlong;
}

export function scrollToEnd() {
  readsAlong = true;
  byId("to-end").hidden = true;
  followEnd();
}

// ---- what was said ----

function editMessage(message, view) {
  const area = el("textarea", { "aria-label": "Edit your message", rows: "3" });
  area.value = message.content;
  const close = () => {
    view.node.classList.remove("editing");
    form.replaceWith(view.body);
    view.edit.focus();
  };
  const form = el("form", {
    class: "edit",
    onsubmit: (event) => {
      event.preventDefault();
      if (!area.value.trim() || isAnswering()) return;
      cutFrom(message);
      say(area.value);
      byId("draft").focus();
    },
    onkeydown: (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      } else return;
      event.stopPropagation();
    },
  }, area, el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Send again"),
    el("button", { type: "button", onclick: close }, "Cancel")));
  view.node.classList.add("editing");
  view.body.replaceWith(form);
  area.focus();
}

function userView(message) {
  const view = { message };
  view.body = el("div", { class: "said" }, message.content);
  view.edit = iconButton("edit", "Edit message", () => !isAnswering() && editMessage(message, view));
  view.node = el("article", { class: "user" }, el("h2", { class: "offscreen" }, "You"), view.body,
    el("div", { class: "actions" }, view.edit, copyButton("Copy message", () => message.content)));
  view.update = () => {};
  return view;
}

// ---- calls of tools ----

function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // still coming, or not JSON: shown as it is
  }
}

const resultOf = (call) => tab.messages.find(({ role, callId }) => role === "tool" && callId === call.id);

function callView(call) {
  const shown = el("code", null, prettyJson(call.arguments));
  const result = el("textarea", {
    rows: "2", "aria-label": `Result of ${call.name}`, placeholder: "What the tool answers, as text or JSON",
    oninput: () => ((call.draft = result.value), saveTabSoon()),
  });
  const given = resultOf(call);
  result.value = given ? given.content : call.draft ?? "";
  result.readOnly = Boolean(given);
  const node = el("div", { class: "call", role: "group", "aria-label": `Call of ${call.name}` },
    el("header", null, icon("tool"), el("span", { class: "call-name" }, call.name),
      copyButton("Copy arguments", () => call.arguments)),
    el("pre", { tabindex: "0", role: "group", "aria-label": "Arguments" }, shown), result);
  return { node, result, update: () => shown.replaceChildren(prettyJson(call.arguments)) };
}

function updateCalls(view) {
  const { message } = view;
  for (const call of message.calls.slice(view.calls.length)) {
    view.calls.push(callView(call));
    view.callList.append(view.calls.at(-1).node);
  }
  view.calls.forEach((one) => one.update());
  const isOpen = message.state === "done" && view.calls.length > 0 && tab.messages.at(-1) === message;
  view.calls.forEach(({ result }) => (result.hidden = message.state === "streaming" ||
    (!isOpen && !result.readOnly)));
  view.sendResults.hidden = !isOpen;
}

function sendResults(view) {
  if (isAnswering()) return;
  view.message.calls.forEach((call, i) => {
    tab.messages.push({ role: "tool", callId: call.id, content: view.calls[i].result.value });
    view.calls[i].result.readOnly = true;
  });
  view.sendResults.hidden = true;
  answer();
  byId("draft").focus();
}

// ---- answers ----

const NOTES = {
  stopped: "Stopped.",
  cut: "Cut: this page was left or reloaded while the answer came.",
  length: "Ended at the limit of tokens.",
};

function noteOf({ state, finish, figures, content, calls }) {
  const note = NOTES[state] ?? (finish === "length" ? NOTES.length : "");
  const isEmpty = state === "done" && !content && !calls.length ? "The model ended at once." : "";
  return [note || isEmpty, figures ? figuresText(figures) : ""].filter(Boolean).join(" ");
}

function updateReasoning(view) {
  const { message } = view;
  view.reasoning.hidden = !message.reasoning;
  const isThinking = message.state === "streaming" && !message.content && !message.calls.length;
  view.summary.replaceChildren(icon("chevron"), isThinking ? "Reasoning…" : "Reasoning");
  if (view.reasoning.open) showMarkdown(view.thoughts, message.reasoning);
}

function updateProblem(view) {
  const { problem } = view.message;
  view.problem.hidden = !problem;
  if (!problem || view.problem.childElementCount) return;
  const act = problem.action === "key" ? ["Enter the key", () => hooks.needsKey()]
    : problem.action === "retry" ? ["Try again", () => regenerate(view.message)] : null;
  view.problem.append(icon("warning"), el("p", null, problem.sentence),
    act ? el("button", { type: "button", onclick: act[1] }, act[0]) : "");
}

function updateAnswer(view) {
  const { message } = view;
  const isStreaming = message.state === "streaming";
  view.node.classList.toggle("streaming", isStreaming);
  view.node.classList.toggle("waiting",
    isStreaming && !message.content && !message.reasoning && !message.calls.length);
  view.node.setAttribute("aria-busy", String(isStreaming));
  updateReasoning(view);
  showMarkdown(view.text, message.content);
  updateCalls(view);
  updateProblem(view);
  view.actions.hidden = isStreaming || (message.state === "failed" && !message.content);
  view.note.textContent = isStreaming ? "" : noteOf(message);
}

function answerView(message) {
  const view = { message, calls: [], update: () => updateAnswer(view) };
  view.summary = el("summary", null);
  view.thoughts = el("div", { class: "markdown" });
  view.reasoning = el("details", { class: "reasoning", ontoggle: () => updateReasoning(view) }, view.summary,
    view.thoughts);
  view.text = el("div", { class: "markdown" });
  view.callList = el("div", { class: "calls" });
  view.sendResults = el("button", { type: "button", class: "primary", onclick: () => sendResults(view) },
    "Send the results");
  view.problem = el("div", { class: "problem" });
  view.note = el("p", { class: "note" });
  view.actions = el("div", { class: "actions" }, copyButton("Copy answer", () => message.content),
    iconButton("again", "Regenerate answer", () => regenerate(message)), view.note);
  view.node = el("article", { class: "answer" }, el("h2", { class: "offscreen" }, "Answer"), view.reasoning,
    view.text, view.callList, view.sendResults, view.problem, view.actions);
  updateAnswer(view);
  return view;
}

function show(message) {
  if (message.role === "tool") return;
  const view = message.role === "user" ? userView(message) : answerView(message);
  views.set(message, view);
  byId("messages").append(view.node);
}

// Takes a message and all behind it out of the conversation.
function cutFrom(message) {
  for (const gone of tab.messages.splice(tab.messages.indexOf(message))) {
    views.get(gone)?.node.remove();
    views.delete(gone);
  }
}

let isPaintDue = false;

// At most once a frame, whatever comes.
function paintSoon(view) {
  if (isPaintDue) return;
  isPaintDue = true;
  requestAnimationFrame(() => {
    isPaintDue = false;
    view.update();
    followEnd();
  });
}

// ---- answering ----

function addCallPiece(message, piece) {
  const index = piece.index ?? 0;
  const call = (message.calls[index] ??= { id: "", name: "", arguments: "" });
  if (piece.id) call.id = piece.id;
  if (piece.function?.name) call.name += piece.function.name;
  if (piece.function?.arguments) call.arguments += piece.function.arguments;
}

// What a chunk adds to the message; false for nothing.
function addChunk(message, chunk) {
  const choice = chunk.choices?.[0];
  if (!choice) return false;
  const delta = choice.delta ?? {};
  const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
  message.content += delta.content ?? "";
  message.reasoning += reasoning;
  delta.tool_calls?.forEach((piece) => addCallPiece(message, piece));
  if (choice.finish_reason) message.finish = choice.finish_reason;
  return Boolean(delta.content || reasoning || delta.tool_calls);
}

async function stream(message, request, view) {
  const seen = startFigures();
  let usage, timings;
  try {
    for await (const chunk of chatChunks(request, running.signal)) {
      if (addChunk(message, chunk)) countPiece(seen);
      usage = chunk.usage ?? usage;
      timings = chunk.timings ?? timings;
      paintSoon(view);
      saveTabSoon();
    }
    message.state = "done";
  } catch (error) {
    message.state = isLeaving ? "cut" : error.name === "AbortError" ? "stopped" : "failed";
    if (message.state === "failed") {
      const sentence = error instanceof Problem ? error.message : `This page failed: ${error.message}`;
      message.problem = { sentence, action: error.action };
    }
  }
  message.calls = message.calls.filter(Boolean);
  if (seen.pieces) message.figures = finishFigures(seen, usage, timings);
}

function sayEnd(message, view) {
  const plain = view.text.textContent.trim();
  const calls = message.calls.map(({ name }) => `The model calls ${name}.`).join(" ");
  const spoken = plain.length > SPOKEN_MAX ? `${plain.slice(0, SPOKEN_MAX)} …` : plain;
  announce(message.problem ? message.problem.sentence
    : message.state === "stopped" ? "Stopped." : `Answer: ${spoken} ${calls}`);
}

async function answer() {
  let request;
  try {
    request = requestFor(tab.messages);
  } catch (error) {
    hooks.toolsAreWrong(error.message);
    return;
  }
  const message = { role: "assistant", content: "", reasoning: "", calls: [], state: "streaming" };
  tab.messages.push(message);
  running = new AbortController();
  isLeaving = false;
  show(message);
  hooks.changed();
  announce("Answering.");
  scrollToEnd();
  const view = views.get(message);
  await stream(message, request, view);
  running = null;
  view.update();
  followEnd();
  saveTab();
  hooks.changed();
  sayEnd(message, view);
}

export function say(text) {
  if (isAnswering()) return;
  const message = { role: "user", content: text };
  const before = views.get(tab.messages.at(-1));
  tab.messages.push(message);
  byId("welcome").hidden = true;
  before?.update(); // calls that wait for results wait no longer
  show(message);
  answer();
}

export function stop() {
  running?.abort();
}

function regenerate(message) {
  if (isAnswering()) return;
  cutFrom(message);
  answer();
  byId("draft").focus();
}

export function editLast() {
  const message = tab.messages.findLast(({ role }) => role === "user");
  if (message && !isAnswering()) editMessage(message, views.get(message));
}

export function startAnew() {
  stop();
  if (tab.messages.length) cutFrom(tab.messages[0]);
  saveTab();
  byId("welcome").hidden = false;
  hooks.changed();
}

export function openConversation(given) {
  hooks = given;
  for (const message of tab.messages) if (message.state === "streaming") message.state = "cut";
  byId("scroller").addEventListener("scroll", noteScroll, { passive: true });
  byId("to-end").addEventListener("click", scrollToEnd);
  tab.messages.forEach(show);
  byId("welcome").hidden = tab.messages.length > 0;
  scrollToEnd();
}
