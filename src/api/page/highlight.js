// Colours for code: comments, strings, numbers and keywords, told by one expression for each family of
// languages. It knows no grammar, and a wrong colour harms nobody.
import { el } from "./dom.js";

const CODE_MAX = 60000; // longer code stays plain

const STRING = String.raw`"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?`;
const REST = String.raw`(?<number>\b\d[\w.]*)|(?<word>[A-Za-z_]\w*)`;
const expression = (comment, string) => new RegExp(`(?<comment>${comment})|(?<string>${string})|${REST}`, "g");

const SLASH = expression(String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`, STRING + "|`(?:\\\\[^]|[^`\\\\])*`?");
const HASH = expression(String.raw`#[^\n]*`, String.raw`"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|` + STRING);
const DASH = expression(String.raw`--[^\n]*|\/\*[^]*?(?:\*\/|$)`, STRING);
const MARKUP = expression("<!--[^]*?(?:-->|$)", STRING);

const FAMILIES = [
  [SLASH, "c h cpp c++ cc cu cuda java javascript js jsx typescript ts tsx json jsonc go rust rs swift kotlin " +
    "kt scala csharp c# cs php dart zig css scss"],
  [HASH, "python py bash sh shell zsh console ruby rb perl yaml yml toml ini dockerfile makefile make r julia " +
    "elixir cmake nix"],
  [DASH, "sql lua haskell hs ada"],
  [MARKUP, "html xml svg vue"],
];

const FAMILY_OF = new Map(FAMILIES.flatMap(([family, names]) => names.split(" ").map((name) => [name, family])));

const KEYWORDS = new Set((
  "abstract and as assert async await begin bool boolean break byte case catch char class const constexpr " +
  "continue def default defer del do done double elif else elsif end enum esac except export extends extern " +
  "false False fi final finally float fn for foreach from func function global go goto if impl implements " +
  "import in include inline instanceof int interface is lambda let local long loop match mod module mut " +
  "namespace new nil none None nonlocal not null nullptr or package pass private protected pub public raise " +
  "ref repeat return self short signed sizeof static str string struct super switch template then this throw " +
  "throws trait true True try type typedef typename typeof undefined union unless unsafe unsigned until use " +
  "using var virtual void volatile when where while with yield " +
  "SELECT FROM WHERE AND OR NOT NULL INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE DROP JOIN LEFT RIGHT " +
  "INNER OUTER ON GROUP BY ORDER HAVING LIMIT AS DISTINCT UNION").split(" "));

export function highlight(code, language) {
  const family = FAMILY_OF.get(language);
  if (!family || code.length > CODE_MAX) return [code];
  const nodes = [];
  let end = 0;
  for (const match of code.matchAll(family)) {
    const { comment, string, number, word } = match.groups;
    const kind = comment !== undefined ? "comment" : string !== undefined ? "string" :
      number !== undefined ? "number" : KEYWORDS.has(word) ? "keyword" : null;
    if (!kind) continue;
    nodes.push(code.slice(end, match.index), el("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  nodes.push(code.slice(end));
  return nodes;
}
