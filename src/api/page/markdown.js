// Markdown to nodes: CommonMark's blocks and inline marks, GitHub's tables, strikethrough and task lists.
//
// Differences, all meant: HTML is shown as text; images are links, since nothing is loaded; only absolute
// http, https and mailto links are links; there are no link definitions; formulas in TeX's brackets stay as
// they are. All work grows with the text's length, whatever the text is: a model may write anything.
import { el, copyButton } from "./dom.js";
import { highlight } from "./highlight.js";
import { inlineNodes } from "./inline.js";

// Lists and quotes inside each other; what is deeper is plain text.
const DEPTH_MAX = 12;

const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-+*]|\d{1,9}[.)])( +|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const DELIMITER_ROW = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const FORMULA = /^ {0,3}(\$\$|\\\[)/;

const isBlank = (line) => /^[ \t]*$/.test(line);
const indentOf = (line) => line.length - line.trimStart().length;

// A line whose tabs before the text are spaces, up to the next multiple of four. Blocks are told by this;
// code keeps its tabs.
function spread(line) {
  if (!line.includes("\t")) return line;
  let head = "", at = 0;
  for (; line[at] === " " || line[at] === "\t"; at++)
    head += line[at] === " " ? " " : " ".repeat(4 - (head.length % 4));
  const rest = line.slice(at);
  const marker = /^(?:[-+*]|\d{1,9}[.)]|>)\t/.exec(rest);
  if (!marker) return head + rest;
  const width = head.length + marker[0].length - 1;
  return head + marker[0].slice(0, -1) + " ".repeat(4 - (width % 4)) + rest.slice(marker[0].length);
}

// A line without its first `width` columns, which are blank.
function dedent(line, width) {
  return (line.slice(0, width).includes("\t") ? spread(line) : line).slice(width);
}

function fenceOf(line) {
  const match = FENCE.exec(spread(line));
  return match && !(match[2][0] === "`" && match[3].includes("`")) ? match : null;
}

// A list item at this line; `inParagraph`: one that may end a paragraph.
function itemOf(text, inParagraph) {
  const line = spread(text);
  if (RULE.test(line)) return null;
  const match = ITEM.exec(line);
  if (!match) return null;
  const [all, indent, marker, space] = match;
  const isEmpty = isBlank(line.slice(all.length));
  const number = /^\d/.test(marker) ? parseInt(marker, 10) : null;
  if (inParagraph && (isEmpty || (number !== null && number !== 1))) return null;
  const padding = isEmpty || space.length > 4 ? 1 : space.length;
  return { number, type: marker.at(-1), width: indent.length + marker.length + padding };
}

function cellsOf(line) {
  const cells = [];
  let cell = "";
  const text = line.trim().replace(/^\|/, "");
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\" && text[i + 1] === "|") cell += text[++i];
    else if (text[i] === "|") cells.push(cell.trim()), (cell = "");
    else cell += text[i];
  }
  if (cell.trim() || !text.endsWith("|")) cells.push(cell.trim());
  return cells;
}

function isTable(lines, at) {
  const [head, marks] = [lines[at], lines[at + 1] ?? ""];
  return head.includes("|") && marks.trim().length > 1 && DELIMITER_ROW.test(marks) &&
    cellsOf(head).length === cellsOf(marks).length;
}

// Whether a block begins here that ends the paragraph before it. `isInside`: that paragraph is inside of a
// list or a quote that this line does not belong to.
function endsParagraph(lines, at, isInside) {
  const line = spread(lines[at]);
  return isBlank(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) ||
    fenceOf(line) !== null || itemOf(line, !isInside) !== null || isTable(lines, at);
}

// ---- blocks: each reader returns the block and the line behind it ----

function readFence(lines, at) {
  const [, indent, fence, info] = fenceOf(lines[at]);
  const closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}[ \\t]*$`);
  const code = [];
  let next = at + 1;
  for (; next < lines.length && !closing.test(lines[next]); next++)
    code.push(lines[next].slice(Math.min(indent.length, indentOf(lines[next]))));
  const isClosed = next < lines.length;
  return [{ kind: "code", language: info.trim().split(/\s/)[0], text: code.join("\n"), isClosed },
    next + (isClosed ? 1 : 0)];
}

function readIndentedCode(lines, at) {
  const code = [];
  let next = at, end = at;
  for (; next < lines.length && (isBlank(lines[next]) || indentOf(spread(lines[next])) >= 4); next++) {
    code.push(dedent(lines[next], 4));
    if (!isBlank(lines[next])) end = next + 1;
  }
  return [{ kind: "code", language: "", text: code.slice(0, end - at).join("\n"), isClosed: true }, end];
}

// A line that continues a paragraph of a quote or an item without being marked as theirs: so far in that no
// block begins with it, however many lists it goes through.
const continuation = (line) => " ".repeat(100) + line.trimStart();

function readQuote(lines, at, depth) {
  const inside = [];
  let next = at, isText = false;
  for (; next < lines.length; next++) {
    const line = lines[next];
    if (QUOTE.test(line)) {
      const text = line.replace(QUOTE, "");
      inside.push(text);
      isText = !isBlank(text) && !fenceOf(text) && !HEADING.test(text) && indentOf(spread(text)) < 4;
    } else if (isText && !endsParagraph(lines, next, true)) {
      inside.push(continuation(line));
    } else break;
  }
  return [{ kind: "quote", blocks: parse(inside, depth + 1) }, next];
}

function readItem(lines, at, item, depth) {
  const inside = [spread(lines[at]).slice(item.width)];
  let next = at + 1, end = next;
  for (; next < lines.length; next++) {
    const line = lines[next];
    if (isBlank(line)) {
      if (next === at + 1 && isBlank(inside[0])) break; // an item that begins with two blank lines is empty
      inside.push("");
      continue;
    }
    const goesOn = end === next && !isBlank(inside.at(-1)) && !endsParagraph(lines, next, true);
    if (indentOf(spread(line)) >= item.width) inside.push(dedent(line, item.width));
    else if (goesOn) inside.push(continuation(line));
    else break;
    end = next + 1;
  }
  const blocks = parse(inside.slice(0, end - at), depth + 1);
  const isLoose = blocks.some((block, i) => i > 0 && block.afterBlank);
  return [{ blocks, isLoose }, end];
}

function readList(lines, at, depth) {
  const first = itemOf(lines[at], false);
  const list = { kind: "list", start: first.number, items: [], isLoose: false };
  let next = at, isAfterBlank = false;
  while (next < lines.length) {
    const item = itemOf(lines[next], false);
    if (!item || item.type !== first.type) break;
    const [read, end] = readItem(lines, next, item, depth);
    list.items.push(read);
    list.isLoose ||= read.isLoose || isAfterBlank;
    next = end;
    let after = next;
    while (after < lines.length && isBlank(lines[after])) after++;
    isAfterBlank = after > next;
    const following = after < lines.length ? itemOf(lines[after], false) : null;
    if (!following || following.type !== first.type) break;
    next = after;
  }
  return [list, next];
}

function readTable(lines, at) {
  const head = cellsOf(lines[at]);
  const align = cellsOf(lines[at + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : cell.startsWith(":") ? "left" : "");
  const rows = [];
  let next = at + 2;
  for (; next < lines.length; next++) {
    const line = spread(lines[next]);
    if (isBlank(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || fenceOf(line) ||
      itemOf(line, false) || indentOf(line) >= 4) break;
    const cells = cellsOf(line);
    rows.push(head.map((_, i) => cells[i] ?? ""));
  }
  return [{ kind: "table", head, align, rows }, next];
}

// A formula that stands on lines of its own; null where it does not end before the next blank line.
function readFormula(lines, at) {
  const open = FORMULA.exec(lines[at])[1];
  const close = open === "$$" ? "$$" : "\\]";
  for (let next = at; next < lines.length && !isBlank(lines[next]); next++) {
    const text = next === at ? lines[next].trimStart().slice(2) : lines[next];
    if (!text.trimEnd().endsWith(close)) continue;
    return [{ kind: "formula", text: lines.slice(at, next + 1).join("\n") }, next + 1];
  }
  return null;
}

// A heading's text without the marks that may close it.
function withoutMarks(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (trimmed[end - 1] === "#") end--;
  return end === 0 || /[ \t]/.test(trimmed[end - 1]) ? trimmed.slice(0, end).trimEnd() : trimmed;
}

function readParagraph(lines, at) {
  const text = [lines[at].trimStart()];
  let next = at + 1;
  for (; next < lines.length; next++) {
    const underline = UNDERLINE.exec(lines[next]);
    if (underline) {
      const level = underline[1][0] === "=" ? 1 : 2;
      return [{ kind: "heading", level, text: text.join("\n").trim() }, next + 1];
    }
    if (endsParagraph(lines, next, false)) break;
    text.push(lines[next].trimStart());
  }
  return [{ kind: "paragraph", text: text.join("\n").trimEnd() }, next];
}

function readBlock(lines, at, depth) {
  const line = spread(lines[at]);
  const heading = HEADING.exec(line);
  if (fenceOf(line)) return readFence(lines, at);
  if (indentOf(line) >= 4) return readIndentedCode(lines, at);
  if (heading) {
    return [{ kind: "heading", level: heading[1].length, text: withoutMarks(heading[2] ?? "") }, at + 1];
  }
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < DEPTH_MAX && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEPTH_MAX && itemOf(line, false)) return readList(lines, at, depth);
  if (isTable(lines, at)) return readTable(lines, at);
  return (FORMULA.test(line) && readFormula(lines, at)) || readParagraph(lines, at);
}

function parse(lines, depth) {
  const blocks = [];
  let at = 0, isAfterBlank = false;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      isAfterBlank = true;
      at++;
      continue;
    }
    const [block, next] = readBlock(lines, at, depth);
    blocks.push({ ...block, afterBlank: isAfterBlank, source: lines.slice(at, next).join("\n") });
    // A blank line inside a list's end belongs to what follows.
    isAfterBlank = false;
    at = next;
  }
  return blocks;
}

// ---- nodes ----

function codeNode(block) {
  const name = block.language.replace(/[^\w+#.-]/g, "").slice(0, 24);
  return el("figure", { class: "code" },
    el("figcaption", null, el("span", null, name || "text"), copyButton("Copy code", () => block.text)),
    el("pre", { tabindex: "0", role: "group", "aria-label": `Code${name ? `, ${name}` : ""}` },
      el("code", null, ...highlight(block.text, name.toLowerCase()))));
}

function itemNode(item, isLoose) {
  const node = el("li", null);
  item.blocks.forEach((block, i) => {
    const task = i === 0 && block.kind === "paragraph" ? /^\[([ xX])\][ \n]/.exec(block.text) : null;
    const text = task ? block.text.slice(4) : block.text;
    if (task) {
      const done = task[1] !== " ";
      node.className = "task";
      node.append(el("span", { class: "box", role: "img", "aria-label": done ? "done" : "to do" },
        done ? "☑" : "☐"), " ");
    }
    if (block.kind === "paragraph" && !isLoose) node.append(...inlineNodes(text));
    else node.append(blockNode({ ...block, text }));
  });
  return node;
}

function listNode(block) {
  const isOrdered = block.start !== null;
  const start = isOrdered && block.start !== 1 ? block.start : undefined;
  return el(isOrdered ? "ol" : "ul", { start }, ...block.items.map((item) => itemNode(item, block.isLoose)));
}

function tableNode(block) {
  const cell = (name) => (text, i) => el(name, { class: block.align[i] || undefined }, ...inlineNodes(text));
  const rowNode = (row) => el("tr", null, ...row.map(cell("td")));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" },
    el("table", null, el("thead", null, el("tr", null, ...block.head.map(cell("th")))),
      block.rows.length > 0 && el("tbody", null, ...block.rows.map(rowNode))));
}

function blockNode(block) {
  switch (block.kind) {
    case "code": return codeNode(block);
    // A message's own heading is one of the second level.
    case "heading": return el(`h${Math.min(block.level + 2, 6)}`, { class: `level-${block.level}` },
      ...inlineNodes(block.text));
    case "rule": return el("hr", null);
    case "quote": return el("blockquote", null, ...block.blocks.map(blockNode));
    case "list": return listNode(block);
    case "table": return tableNode(block);
    case "formula": return el("p", { class: "formula" }, block.text);
    default: return el("p", null, ...inlineNodes(block.text));
  }
}

export function markdownNodes(text) {
  return parse(text.split(/\r\n|\r|\n/), 0).map(blockNode);
}

// Shows a text that grows. Blocks whose source is as it was keep their nodes, and with them what the reader
// has selected or scrolled.
export function showMarkdown(parent, text) {
  const blocks = parse(text.split(/\r\n|\r|\n/), 0);
  const shown = (parent.markdownSources ??= []);
  blocks.forEach((block, i) => {
    if (shown[i] === block.source && parent.children[i]) return;
    const node = blockNode(block);
    if (parent.children[i]) parent.children[i].replaceWith(node);
    else parent.append(node);
    shown[i] = block.source;
  });
  while (parent.children.length > blocks.length) parent.lastElementChild.remove();
  shown.length = blocks.length;
}
