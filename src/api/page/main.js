// The page as a whole: what follows from what.
import { editLast, isAnswering, openConversation, say, startAnew, stop } from "./conversation.js";
import { byId, copyButton, icon } from "./dom.js";
import { closePanel, isShown, openAt, openPanel } from "./panel.js";
import { curlFor, pythonFor, requestFor } from "./request.js";
import { openSettings, showToolsProblem } from "./settings.js";
import { openStatus, readModels, refreshCharts } from "./status.js";
import { saveTabSoon, tab } from "./store.js";

const draft = byId("draft");
const hasKeyboard = matchMedia("(pointer: fine)");

// ---- the request, for elsewhere ----

function showRequest() {
  if (!isShown("request-panel")) return;
  let curl = "", python = "";
  try {
    const text = draft.value.trim();
    const request = requestFor(text ? [...tab.messages, { role: "user", content: draft.value }] : tab.messages);
    curl = curlFor(request);
    python = pythonFor(request);
  } catch (error) {
    curl = python = `# The tools cannot be sent. ${error.message}`;
  }
  byId("curl").textContent = curl;
  byId("python").textContent = python;
}

for (const name of ["curl", "python"])
  byId(`copy-${name}`).replaceWith(copyButton(`Copy ${name}`, () => byId(name).textContent));

// ---- writing ----

function fitDraft() {
  draft.style.height = "auto";
  draft.style.height = `${draft.scrollHeight}px`;
}

function showSend() {
  const isStop = isAnswering();
  const button = byId("send");
  button.replaceChildren(icon(isStop ? "stop" : "send"));
  button.setAttribute("aria-label", isStop ? "Stop" : "Send");
  button.title = isStop ? "Stop (Esc)" : "Send (Enter)";
  button.classList.toggle("stop", isStop);
  button.setAttribute("aria-disabled", String(!isStop && !draft.value.trim()));
}

function draftChanged() {
  tab.draft = draft.value;
  saveTabSoon();
  fitDraft();
  showSend();
  showRequest();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isAnswering()) return stop();
  const text = draft.value;
  if (!text.trim()) return;
  draft.value = "";
  draftChanged();
  say(text);
});

draft.addEventListener("input", draftChanged);
draft.addEventListener("keydown", (event) => {
  if (event.key === "ArrowUp" && draft.value === "") {
    event.preventDefault();
    editLast();
  }
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || !hasKeyboard.matches) return;
  event.preventDefault();
  if (!isAnswering()) byId("composer").requestSubmit();
});

addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (byId("panel").contains(event.target)) closePanel();
  else if (isAnswering()) stop();
  else closePanel();
});

for (const example of document.querySelectorAll("#welcome button")) {
  example.addEventListener("click", () => {
    draft.value = example.textContent;
    draftChanged();
    draft.focus();
  });
}

byId("new").addEventListener("click", () => {
  startAnew();
  draft.focus();
});

// ---- the start ----

openConversation({
  changed: () => (showSend(), showRequest()),
  needsKey: () => openAt("settings-tab", "key"),
  toolsAreWrong: (sentence) => (openAt("tools-tab", "tools"), showToolsProblem(sentence)),
});
openSettings(showRequest, readModels);
openPanel(() => (showRequest(), refreshCharts()));
openStatus(() => isShown("worker-panel"));
draft.value = tab.draft;
draftChanged();
if (hasKeyboard.matches) draft.focus();
