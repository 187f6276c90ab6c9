"""What markdown-it-py makes of a text, and what the page shows of it, as lists that can be compared.

Where the page means to differ (see src/api/page/markdown.js), the texts made here stay away.
"""

import random
import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "pre", "table", "thead", "tbody",
          "tr", "th", "td"}
RENAMED = {"s": "del", "h1": "level-1", "h2": "level-2", "h3": "level-3", "h4": "level-4", "h5": "level-5", "h6": "level-6"}


class Flat(HTMLParser):
    """Tags and texts in order; of attributes only addresses and starts of lists."""

    def __init__(self, html, is_page):
        super().__init__()
        self.is_page, self.skipping, self.parts, self.open = is_page, 0, [], []
        self.feed(html)
        self.close()
        self.end_text()

    def name_of(self, tag, attributes):
        if not self.is_page or not tag.startswith("h") or tag == "hr":
            return RENAMED.get(tag, tag)
        return attributes.get("class", tag)

    def add_text(self, text):
        if self.parts and self.parts[-1].startswith("'"):
            self.parts[-1] += text
        elif text:
            self.parts.append("'" + text)

    def end_text(self):
        # Line breaks between blocks are no text.
        if self.parts and self.parts[-1].startswith("'") and "pre" not in self.open:
            self.parts[-1] = "'" + self.parts[-1][1:].strip("\n")
            if self.parts[-1] == "'":
                self.parts.pop()

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":  # a link to it; in a link, its text
            in_link = "a" in self.open
            self.parts += [] if in_link else [f"<a {attributes['src']}>"]
            self.add_text("Image: " + attributes["alt"])
            self.parts += [] if in_link else ["</a>"]
            return
        if self.is_page and tag == "figcaption":
            self.skipping += 1
        if self.skipping or tag in ("div", "figure", "span"):
            return
        if tag in BLOCKS:
            self.end_text()
        if tag == "a" and "a" in self.open:  # no link stands in another
            self.open.append("")
            return
        name = self.name_of(tag, attributes)
        more = f" {attributes['href']}" if "href" in attributes else f" {attributes['start']}" if "start" in attributes else ""
        self.parts.append(f"<{name}{more}>")
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.is_page and tag == "figcaption":
            self.skipping -= 1
            return
        if self.skipping or tag in ("div", "figure", "span"):
            return
        if tag == "pre" and self.parts[-2].startswith("'"):
            self.parts[-2] = self.parts[-2].rstrip("\n")
        elif tag in BLOCKS:
            self.end_text()
        name = self.open.pop()
        if not name:
            return
        self.parts.append(f"</{RENAMED.get(name, name) if not self.is_page else name}>" if not name.startswith("h") else "</h>")

    def handle_data(self, data):
        if self.parts and self.parts[-1] == "<br>":
            data = data.removeprefix("\n")
        if not self.skipping:
            self.add_text(data)


def expected(text):
    return Flat(MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render(text), False).parts


def shown(html):
    return Flat(html, True).parts


PIECES = ["*", "**", "***", "_", "__", "~~", "`", "``", "a", "b c", " ", "é", "x_y", "1", ".", "!", "[", "]", "(",
          ")", "[a](mailto:q@example.org)", "![", "\\*", "<", ">", "&amp;", "&lt;", "&", "\"", "'", "<mailto:q@example.org>",
          "](mailto:q@example.org 'title')", "(b c)", "-", "  \nq", "\nq"]

LINES = ["- a", "- b", "* c", "  - d", "    - e", "1. f", "2. g", "3) h", "> i", "> - j", "> > k", "```", "~~~ py", "text", "more text",
         "", "", "", "# l", "## m ##", "    code", "***", "---", "===", "| n | o |", "|---|--:|", "| p |", "  indented", "+ q",
         ">", "   text", "10. r", "   - s", "\tt", "-\tu"]


def inline_texts(seed, count):
    """Paragraphs, each of one random text."""
    pick = random.Random(seed)
    texts = ("x" + "".join(pick.choice(PIECES) for _ in range(pick.randint(2, 14))) + "z" for _ in range(count))
    return [text for text in texts if "~~~" not in text and "](*" not in text and text.count("![") < 2]


def block_texts(seed, count):
    pick = random.Random(seed)
    texts = ("\n".join(pick.choice(LINES) for _ in range(pick.randint(2, 9))) for _ in range(count))
    # Code behind a quote, and tables behind a paragraph's last line, are where the two differ.
    return [text for text in texts if not re.search(r"(^|\n)>.*\n {4}|(^|\n)[^|\n].*\n\|", text)]
