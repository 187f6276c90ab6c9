// Nodes are built, never parsed: no text of the model's, the worker's or the user's becomes HTML.

export function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// One of the symbols at the top of page.html.
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#icon-${name}` }));
}

export function iconButton(name, label, onclick) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick },
    icon(name));
}

export const byId = (id) => document.getElementById(id);

// What a screen reader says next. The same sentence twice is said twice.
export function announce(sentence) {
  byId("announcer").replaceChildren(el("p", null, sentence));
}

async function writeClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Pages that came over plain HTTP from another machine have no clipboard; they can still copy a selection.
  const area = el("textarea", { class: "offscreen", "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser refused");
}

// A button that copies what `text()` gives at that moment, and says so.
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    let done = true;
    try {
      await writeClipboard(text());
    } catch {
      done = false;
    }
    button.replaceChildren(icon(done ? "check" : "warning"));
    announce(done ? "Copied." : "The browser does not let this page copy.");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}
