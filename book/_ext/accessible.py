"""Mend, while the book is built, what the theme and its extensions write against WCAG 2.2 or against HTML itself.

It is done in the pages and not by a script in them, so that they are right where no script runs. `tests/site` runs
axe-core on every page, in light and in dark, with no rule switched off; what it found in the theme is mended here, or
in `_static/site.css` where it is a matter of colour.
"""

import re

from sphinx.application import Sphinx

NAME = "Constraints in Neural Networks"
OF_A_GENERATED_PAGE = {
    "genindex": f"Every indexed name in {NAME}, from A to Z, with links to the places that define it.",
    "search": f"Search every page of {NAME}. The index comes with the site, so nothing that you type leaves it.",
}


def mend(body: str) -> str:
    r"""Return the page's HTML with the faults known to us repaired.

    >>> mend('<div role="list" class="citation-list"><div class="citation" id="a" role="doc-biblioentry"></div></div>')
    '<div role="list" class="citation-list"><div class="citation" id="a" role="listitem"></div></div>'
    >>> mend('<div class="proof admonition" id="proof">')
    '<div class="proof argument admonition">'
    >>> mend('<input class="task-list-item-checkbox" disabled="disabled" type="checkbox">')
    '<input aria-label="to do" class="task-list-item-checkbox" disabled="disabled" type="checkbox">'
    >>> print(mend(r'If <span class="math notranslate nohighlight">\(x\)</span>, then'))
    If <span class="kept"><span class="math notranslate nohighlight">\(x\)</span>,</span> then
    """
    # A list may hold list items alone, and the entry's own role was withdrawn from ARIA.
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    # sphinx-proof and sphinx-exercise give every proof, and the inside of every theorem, exercise and solution, one and
    # the same id.
    body = body.replace('<div class="proof admonition" id="proof">', '<div class="proof argument admonition">')
    body = re.sub(r' id="(?:proof|exercise|solution)-content"', "", body)
    # A tick box without a name.
    body = re.sub(
        r'<input (class="task-list-item-checkbox"[^>]*)>',
        lambda box: f'<input aria-label="{"done" if "checked" in box[1] else "to do"}" {box[1]}>',
        body,
    )
    # A line may end between a formula and the comma behind it, unless the two are kept together.
    body = re.sub(
        r'([(“‘]?<span class="math notranslate nohighlight">\\\([^<]*\\\)</span>(?:[.,;:!?)\]’”%]+|-\w+|’s)|'
        r'[(“‘]<span class="math notranslate nohighlight">\\\([^<]*\\\)</span>)',
        r'<span class="kept">\1</span>',
        body,
    )
    return body


def mend_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Mend a page's body, and describe the pages that Sphinx makes by itself."""
    if "body" in context:
        context["body"] = mend(context["body"])
    if pagename in OF_A_GENERATED_PAGE:
        context["metatags"] = (
            context.get("metatags", "") + f'\n<meta name="description" content="{OF_A_GENERATED_PAGE[pagename]}" />'
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx; 900 comes after everything else has written into the page."""
    app.add_css_file("site.css")
    app.add_js_file("site.js", loading_method="defer")
    app.connect("html-page-context", mend_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
