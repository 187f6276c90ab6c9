// What the page remembers. The conversation, its tools and the key are kept by this tab (sessionStorage: they
// survive a reload and end with the tab); settings by this browser (localStorage).

const TAB = { storage: () => sessionStorage, key: "worker-orcd.tab" };
const BROWSER = { storage: () => localStorage, key: "worker-orcd.settings" };

function load({ storage, key }, defaults) {
  try {
    return { ...defaults, ...JSON.parse(storage().getItem(key) ?? "{}") };
  } catch {
    return { ...defaults }; // storage is switched off, or holds something else
  }
}

function save({ storage, key }, values) {
  try {
    storage().setItem(key, JSON.stringify(values));
    return true;
  } catch {
    return false; // full, or switched off: the page works without
  }
}

// A message: role, content; of the model's: reasoning, calls, state ("streaming", "done", "stopped", "cut",
// "failed"), problem, figures; of a tool's: callId.
export const tab = load(TAB, { messages: [], draft: "", tools: "", toolChoice: "auto", key: "" });
export const settings = load(BROWSER, {
  theme: "auto", system: "", thinking: "", temperature: "", top_p: "", top_k: "", min_p: "",
  repetition_penalty: "", presence_penalty: "", frequency_penalty: "", max_tokens: "", seed: "", stop: "",
});
if (!Array.isArray(tab.messages)) tab.messages = [];

export const saveTab = () => save(TAB, tab);
export const saveSettings = () => save(BROWSER, settings);

let timer = 0;

// While an answer streams there is something new each few milliseconds.
export function saveTabSoon() {
  timer ||= setTimeout(() => {
    timer = 0;
    saveTab();
  }, 250);
}

addEventListener("pagehide", saveTab);
