"""Give every page the one-sentence description that search engines and link previews show.

A page may state its own: `myst: {html_meta: {description: ...}}` in the front matter of a `.md` page or in a
notebook's metadata. Otherwise its first plain paragraph serves.
"""

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx

SHORTEST, LONGEST = 50, 200


def first_paragraph(doctree: nodes.document) -> str:
    """Return the first paragraph of running text without formulas, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, nodes.section) or next(paragraph.findall(nodes.math), None):
            continue
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if len(text) >= SHORTEST:
            return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"
    return ""


def add(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Write the tag, unless the page has one of its own."""
    tags = context.get("metatags", "")
    if doctree is None or re.search(r'name="description"', tags):
        return
    text = first_paragraph(doctree)
    if text:
        context["metatags"] = f'{tags}\n<meta name="description" content="{escape(text, quote=True)}" />'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
