// The settings and the tools: fields that are kept as they change.
import { byId } from "./dom.js";
import { readTools } from "./request.js";
import { saveSettings, saveTab, settings, tab } from "./store.js";

const EXAMPLE = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city now",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];

export function applyTheme() {
  if (settings.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
}

function bind(field, values, save) {
  field.value = values[field.name] ?? "";
  field.addEventListener("input", () => {
    values[field.name] = field.validity.valid ? field.value : "";
    save();
  });
}

export function showToolsProblem(sentence) {
  byId("tools-problem").textContent = sentence;
  byId("tools").setAttribute("aria-invalid", String(sentence !== ""));
}

function checkTools() {
  let problem = "";
  try {
    readTools(tab.tools);
  } catch (error) {
    problem = error.message;
  }
  showToolsProblem(problem);
}

export function openSettings(changed, keyChanged) {
  const changedTab = () => (saveTab(), changed());
  const changedSettings = () => (saveSettings(), applyTheme(), changed());
  const fields = byId("settings").elements;
  for (const field of fields) {
    if (field.name === "key") bind(field, tab, changedTab), field.addEventListener("change", keyChanged);
    else if (field.name) bind(field, settings, changedSettings);
  }
  byId("reset").addEventListener("click", () => {
    for (const field of fields) {
      if (!field.name || field.name === "key" || field.name === "theme") continue;
      settings[field.name] = field.value = "";
    }
    changedSettings();
  });
  bind(byId("tools"), tab, () => (checkTools(), changedTab()));
  bind(byId("tool-choice"), tab, changedTab);
  byId("tools-example").addEventListener("click", () => {
    byId("tools").value = tab.tools = JSON.stringify(EXAMPLE, null, 2);
    checkTools();
    changedTab();
  });
  checkTools();
  applyTheme();
}
