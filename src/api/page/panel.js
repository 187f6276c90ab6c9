// The panel at the side: tabs, and on a small screen a sheet over the conversation that keeps the focus.
import { byId } from "./dom.js";
import { saveSettings, settings } from "./store.js";

const narrow = matchMedia("(max-width: 900px)");
const tabs = [...document.querySelectorAll("[role=tab]")];

let opened = () => {};

export const isShown = (name) => !byId("panel").hidden && !byId(name).hidden;

function select(chosen) {
  for (const one of tabs) {
    const isChosen = one === chosen;
    one.setAttribute("aria-selected", String(isChosen));
    one.tabIndex = isChosen ? 0 : -1;
    byId(one.getAttribute("aria-controls")).hidden = !isChosen;
  }
  settings.tab = chosen.id;
  saveSettings();
  opened();
}

function setOpen(isOpen) {
  byId("panel").hidden = !isOpen;
  byId("panel-toggle").setAttribute("aria-expanded", String(isOpen));
  byId("conversation").inert = isOpen && narrow.matches;
  settings.panel = isOpen;
  saveSettings();
  if (isOpen) opened();
}

export function closePanel() {
  if (byId("panel").hidden) return false;
  setOpen(false);
  byId("panel-toggle").focus();
  return true;
}

// Opens at a tab, with the focus in one of its fields.
export function openAt(tabId, fieldId) {
  setOpen(true);
  select(byId(tabId));
  byId(fieldId).focus();
}

function moveByKey(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = tabs.indexOf(event.currentTarget);
  const next = step ? tabs[(at + step + tabs.length) % tabs.length]
    : { Home: tabs[0], End: tabs.at(-1) }[event.key];
  if (!next) return;
  event.preventDefault();
  select(next);
  next.focus();
}

export function openPanel(onOpen) {
  opened = onOpen;
  for (const one of tabs) {
    one.addEventListener("click", () => select(one));
    one.addEventListener("keydown", moveByKey);
  }
  byId("panel-toggle").addEventListener("click", () => {
    setOpen(byId("panel").hidden);
    if (isShown("panel") && narrow.matches) byId("panel-close").focus();
  });
  byId("panel-close").addEventListener("click", closePanel);
  narrow.addEventListener("change", () => setOpen(!byId("panel").hidden));
  select(tabs.find(({ id }) => id === settings.tab) ?? tabs[0]);
  setOpen(Boolean(settings.panel) && !narrow.matches);
}
