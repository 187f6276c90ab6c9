// The marks inside a line of Markdown: emphasis, code, links, breaks (CommonMark 0.31, chapter 6).
//
// One pass makes a list of texts, finished nodes and runs of delimiters; closing brackets and the end of the
// text then pair the runs, as the specification's appendix describes.
import { el } from "./dom.js";

// Longer ones stay text, so that a text of nothing but openings costs no more than its length.
const DESTINATION_MAX = 2048;
const TITLE_MAX = 1024;
const FORMULA_MAX = 2000;

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const AUTOLINK = /<([a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]{0,2000})>/y;
const EMAIL = /<([\w.!#$%&'*+/=?^`{|}~-]{1,64}@[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,252}[a-zA-Z0-9])?)>/y;
const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/y;
const PLAIN = /[^\\`*_~[\]!<&\n]+/y;
const BARE_LINK = /https?:\/\/[^\s<>"“”`]{1,2000}/g;
const NAMED = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", hellip: "…",
  mdash: "—", ndash: "–", larr: "←", rarr: "→", times: "×", deg: "°", middot: "·", bull: "•", euro: "€",
};

// The address of a link that may be one; null for all others: they would run something, or lead into this
// worker.
function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const linkNode = (address, children, title) =>
  el("a", { href: address, title: title || undefined, target: "_blank", rel: "noopener noreferrer nofollow" },
    ...children);

const textOf = (node) => (typeof node === "string" ? node : node.localName === "br" ? "\n" : node.textContent);

// What stands in a link: an image in it is no link of its own.
function withoutLinks(node) {
  if (typeof node === "string") return [node];
  if (node.localName === "a") return [...node.childNodes];
  for (const link of node.querySelectorAll("a")) link.replaceWith(...link.childNodes);
  return [node];
}

// ---- the list ----

const makeItem = (fields) => ({ previous: null, next: null, ...fields });

class ItemList {
  constructor() {
    this.head = makeItem({});
    this.tail = this.head;
  }
  push(item) {
    item.previous = this.tail;
    this.tail.next = item;
    this.tail = item;
    return item;
  }
  text(text) {
    if (this.tail.text !== undefined && !this.tail.run && !this.tail.bracket) this.tail.text += text;
    else this.push(makeItem({ text }));
  }
  remove(item) {
    item.previous.next = item.next;
    if (item.next) item.next.previous = item.previous;
    else this.tail = item.previous;
  }
  // The items behind `first` up to `last` (null: the end) become one, made by `wrap` of their nodes.
  wrap(first, last, wrap) {
    const nodes = nodesBetween(first.next, last);
    const item = makeItem({ node: wrap(nodes), previous: first, next: last });
    first.next = item;
    if (last) last.previous = item;
    else this.tail = item;
    return item;
  }
}

function nodesBetween(first, last) {
  const nodes = [];
  let text = "";
  for (let item = first; item && item !== last; item = item.next) {
    if (item.node === undefined) {
      text += item.run ? item.run.mark.repeat(item.run.count) : item.text;
      continue;
    }
    if (text) nodes.push(text);
    text = "";
    nodes.push(item.node);
  }
  if (text) nodes.push(text);
  return nodes;
}

// ---- emphasis ----

const isSpace = (char) => char === "" || /\s/u.test(char);

function runOf(text, at, length) {
  const mark = text[at];
  const low = text.charCodeAt(at - 1);
  const before = at === 0 ? "" : low >= 0xdc00 && low < 0xe000 ? text.slice(at - 2, at) : text[at - 1];
  const after = at + length < text.length ? String.fromCodePoint(text.codePointAt(at + length)) : "";
  const left = !isSpace(after) && (!PUNCTUATION.test(after) || isSpace(before) || PUNCTUATION.test(before));
  const right = !isSpace(before) && (!PUNCTUATION.test(before) || isSpace(after) || PUNCTUATION.test(after));
  const isWord = mark === "_";
  return {
    mark, count: length, length,
    canOpen: left && (!isWord || !right || PUNCTUATION.test(before)),
    canClose: right && (!isWord || !left || PUNCTUATION.test(after)),
  };
}

function pairs(opener, closer) {
  if (opener.mark !== closer.mark || !opener.canOpen) return false;
  if (!(opener.canClose || closer.canOpen)) return true;
  return (opener.length + closer.length) % 3 !== 0 || (opener.length % 3 === 0 && closer.length % 3 === 0);
}

// Pairs the runs of delimiters from index `bottom` on, and takes them off the stack.
function pairRuns(list, runs, bottom) {
  const floors = new Map(); // by kind of closer: below it there is no opener for one
  const stack = runs.splice(bottom);
  const open = []; // runs that may still open, in order
  for (const closer of stack) {
    const run = closer.run;
    while (run.canClose && run.count > 0) {
      const kind = `${run.mark}${run.canOpen}${run.length % 3}`;
      const floor = floors.get(kind) ?? 0;
      let at = open.length - 1;
      while (at >= floor && !pairs(open[at].run, run)) at--;
      if (at < floor) {
        floors.set(kind, open.length);
        break;
      }
      const opener = open[at];
      const width = run.mark === "~" || (run.count >= 2 && opener.run.count >= 2) ? 2 : 1;
      const tag = run.mark === "~" ? "del" : width === 2 ? "strong" : "em";
      list.wrap(opener, closer, (nodes) => el(tag, null, ...nodes));
      opener.run.count -= width;
      run.count -= width;
      open.length = at + (opener.run.count > 0 ? 1 : 0);
      for (const [key, value] of floors) if (value > open.length) floors.set(key, open.length);
    }
    if (run.canOpen && run.count > 0) open.push(closer);
  }
}

// ---- links ----

// "(destination "title")" at `at`: the two and the index behind it; null for anything else.
function readTarget(text, at) {
  const skip = (from) => {
    while (from < text.length && /[ \t\n]/.test(text[from])) from++;
    return from;
  };
  if (text[at] !== "(") return null;
  let next = skip(at + 1), destination = "", title = "";
  if (text[next] === "<") {
    const match = /^<((?:\\.|[^\\<>\n])*)>/.exec(text.slice(next, next + DESTINATION_MAX));
    if (!match) return null;
    destination = match[1];
    next += match[0].length;
  } else {
    const begin = next;
    for (let depth = 0; next < text.length && next - begin < DESTINATION_MAX; next++) {
      const char = text[next];
      if (char === "\\" && ESCAPABLE.test(text[next + 1] ?? "")) next++;
      else if (/[\s\p{Cc}]/u.test(char)) break;
      else if (char === "(" && ++depth > 32) return null;
      else if (char === ")" && --depth < 0) break;
    }
    destination = text.slice(begin, next);
  }
  const afterSpace = skip(next);
  const quoted = afterSpace > next &&
    /^(?:"((?:\\[^]|[^"\\])*)"|'((?:\\[^]|[^'\\])*)'|\(((?:\\[^]|[^()\\])*)\))/
      .exec(text.slice(afterSpace, afterSpace + TITLE_MAX));
  if (quoted) title = quoted[1] ?? quoted[2] ?? quoted[3];
  next = skip(quoted ? afterSpace + quoted[0].length : next);
  if (text[next] !== ")") return null;
  return { destination: unescape(destination), title: unescape(title), end: next + 1 };
}

function entityAt(text, at) {
  ENTITY.lastIndex = at;
  const match = ENTITY.exec(text);
  if (!match) return null;
  const [all, decimal, hexadecimal, name] = match;
  const code = decimal ? parseInt(decimal, 10) : hexadecimal ? parseInt(hexadecimal, 16) : null;
  if (code === null) return Object.hasOwn(NAMED, name) ? { length: all.length, text: NAMED[name] } : null;
  const isCharacter = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000);
  return { length: all.length, text: isCharacter ? String.fromCodePoint(code) : "\ufffd" };
}

function unescape(text) {
  return text.replace(/\\([!-/:-@[-`{-~])|&[#\w]{2,9};/g,
    (all, char) => char ?? entityAt(all, 0)?.text ?? all);
}

function withoutSentenceEnd(address) {
  let unmatched = address.split(")").length - address.split("(").length, end = address.length;
  for (; end > 0; end--) {
    if (address[end - 1] === ")" && unmatched > 0) unmatched--;
    else if (!".,:;!?'*_~".includes(address[end - 1])) break;
  }
  return address.slice(0, end);
}

// Addresses that stand in a text as they are. Its end is cut where a sentence goes on.
function linkText(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(BARE_LINK)) {
    const address = withoutSentenceEnd(match[0]);
    const safe = safeAddress(address);
    if (!safe) continue;
    nodes.push(text.slice(end, match.index), linkNode(safe, [address]));
    end = match.index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

// ---- the pass ----

class InlineReader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.list = new ItemList();
    this.runs = []; // items of delimiters that are not yet paired
    this.brackets = []; // items of "[" and "!["
    this.backticks = null; // by length: where runs of them begin, ascending
    this.missing = new Set(); // closings that do not come any more
  }

  read() {
    while (this.at < this.text.length) this.readOne();
    pairRuns(this.list, this.runs, 0);
    return nodesBetween(this.list.head.next, null)
      .flatMap((node) => (typeof node === "string" ? linkText(node) : [node]));
  }

  take(length) {
    this.list.text(this.text.slice(this.at, this.at + length));
    this.at += length;
  }

  readOne() {
    PLAIN.lastIndex = this.at;
    const plain = PLAIN.exec(this.text);
    if (plain) return this.take(plain[0].length);
    switch (this.text[this.at]) {
      case "\\": return this.readEscape();
      case "`": return this.readCode();
      case "*": case "_": case "~": return this.readRun();
      case "[": return this.readOpening(1);
      case "!": return this.text[this.at + 1] === "[" ? this.readOpening(2) : this.take(1);
      case "]": return this.readClosing();
      case "<": return this.readAutolink();
      case "&": return this.readEntity();
      default: return this.readBreak();
    }
  }

  readEscape() {
    const next = this.text[this.at + 1] ?? "";
    if (next === "\n") {
      this.list.push(makeItem({ node: el("br", null) }));
      this.at += 2;
    } else if (next === "(" || next === "[") {
      this.readFormula(next === "(" ? "\\)" : "\\]");
    } else if (ESCAPABLE.test(next)) {
      this.list.text(next);
      this.at += 2;
    } else this.take(1);
  }

  readFormula(close) {
    const end = this.missing.has(close) ? -1 : this.text.indexOf(close, this.at + 2);
    if (end < 0) this.missing.add(close);
    if (end < 0 || end - this.at > FORMULA_MAX) {
      this.list.text(this.text[this.at + 1]);
      this.at += 2;
      return;
    }
    const formula = this.text.slice(this.at, end + 2);
    this.list.push(makeItem({ node: el("span", { class: "formula" }, formula) }));
    this.at = end + 2;
  }

  readCode() {
    const open = /`+/y;
    open.lastIndex = this.at;
    const length = open.exec(this.text)[0].length;
    if (!this.backticks) {
      this.backticks = new Map();
      for (const run of this.text.matchAll(/`+/g)) {
        const known = this.backticks.get(run[0].length) ?? { starts: [], next: 0 };
        known.starts.push(run.index);
        this.backticks.set(run[0].length, known);
      }
    }
    const same = this.backticks.get(length);
    while (same && same.starts[same.next] < this.at + length) same.next++;
    const end = same?.starts[same.next];
    if (end === undefined) return this.take(length);
    let code = this.text.slice(this.at + length, end).replaceAll("\n", " ");
    if (/^ [^]* $/.test(code) && code.trim()) code = code.slice(1, -1);
    this.list.push(makeItem({ node: el("code", null, code) }));
    this.at = end + length;
  }

  readRun() {
    const mark = this.text[this.at];
    let length = 1;
    while (this.text[this.at + length] === mark) length++;
    if (mark === "~" && length !== 2) return this.take(length);
    const item = this.list.push(makeItem({ run: runOf(this.text, this.at, length) }));
    this.runs.push(item);
    this.at += length;
  }

  readOpening(length) {
    const text = this.text.slice(this.at, this.at + length);
    const bracket = { isImage: length === 2, runs: this.runs.length, isActive: true, at: this.at };
    this.brackets.push(this.list.push(makeItem({ text, bracket })));
    this.at += length;
  }

  readClosing() {
    const opening = this.brackets.pop();
    const target = opening?.bracket.isActive ? readTarget(this.text, this.at + 1) : null;
    if (!target) return this.take(1);
    const { isImage, runs } = opening.bracket;
    const address = safeAddress(target.destination);
    if (!address) return this.take(1);
    pairRuns(this.list, this.runs, runs);
    this.list.wrap(opening, null, (nodes) => linkNode(address,
      isImage ? [`Image: ${nodes.map(textOf).join("")}`] : nodes.flatMap(withoutLinks), target.title || address));
    this.list.remove(opening);
    this.at = target.end;
    if (isImage) return;
    for (const { bracket } of this.brackets) if (!bracket.isImage) bracket.isActive = false;
    this.brackets = this.brackets.filter(({ bracket }) => bracket.isActive);
  }

  readAutolink() {
    for (const [pattern, prefix] of [[AUTOLINK, ""], [EMAIL, "mailto:"]]) {
      pattern.lastIndex = this.at;
      const match = pattern.exec(this.text);
      const address = match && safeAddress(prefix + match[1]);
      if (!address) continue;
      this.list.push(makeItem({ node: linkNode(address, [match[1]]) }));
      this.at += match[0].length;
      return;
    }
    this.take(1);
  }

  readEntity() {
    const entity = entityAt(this.text, this.at);
    if (!entity) return this.take(1);
    this.list.text(entity.text);
    this.at += entity.length;
  }

  // Two spaces before a line's end break it; otherwise it is a space.
  readBreak() {
    const tail = this.list.tail;
    const isText = tail.text !== undefined && !tail.bracket;
    let spaces = 0;
    while (isText && tail.text[tail.text.length - 1 - spaces] === " ") spaces++;
    if (spaces) tail.text = tail.text.slice(0, -spaces);
    if (spaces >= 2) this.list.push(makeItem({ node: el("br", null) }));
    else this.list.text("\n");
    this.at++;
  }
}

export function inlineNodes(text) {
  return new InlineReader(text).read();
}
