"""Fold what claims print, so that checks do not interrupt the reading: one small line says how many hold, and opens.

In every code cell the printed lines of claims are moved below the other output. A cell that holds nothing but checks
carries the tag `claims`; it is folded whole, code and all.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

LINE = re.compile(r"claim [a-z0-9-]+: value (<|<=|>|>=|==|!=) \S+ holds")


def parted(text: str) -> tuple[str, list[str]]:
    """Return what a cell printed without its claims, and the claims.

    >>> parted("a line\\nclaim two-is-small: value < 3 holds\\nclaims are lines")
    ('a line\\nclaims are lines', ['claim two-is-small: value < 3 holds'])
    """
    lines = text.splitlines()
    claims = [line for line in lines if LINE.fullmatch(line)]
    return "\n".join(line for line in lines if not LINE.fullmatch(line)), claims


def said(count: int) -> str:
    """Return the small line.

    >>> said(1), said(3)
    ('1 claim checked: it holds', '3 claims checked: all hold')
    """
    return "1 claim checked: it holds" if count == 1 else f"{count} claims checked: all hold"


class FoldClaims(SphinxPostTransform):
    """Put the claims of each cell into one element that opens."""

    default_priority = 198  # after myst-nb has chosen what each output shows, before it hides cells
    formats = ("html",)

    def run(self, **kwargs) -> None:
        """Go through the code cells of a page."""
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code":
                fold(cell)


def fold(cell: nodes.container) -> None:
    """Fold the claims of one cell, and the whole cell if it holds nothing else."""
    claims = []
    for block in list(cell.findall(nodes.literal_block)):
        if "stream" not in block["classes"]:
            continue
        rest, found = parted(block.astext())
        if not found:
            continue
        claims += found
        if rest.strip():
            block.children[:] = [nodes.Text(rest)]
            block.rawsource = rest  # what the highlighter compares
        else:
            block.parent.remove(block)
    if not claims:
        return
    for output in [one for one in cell if one.get("nb_element") == "cell_code_output"]:
        if not output.children:
            cell.remove(output)
    listed = nodes.literal_block("\n".join(claims), "\n".join(claims), language="none", classes=["output", "stream"])
    opened = f'<details class="claims"><summary>{said(len(claims))}</summary>'
    whole = cell.children[:] if "tag_claims" in cell["classes"] else []
    for child in whole:
        cell.remove(child)
    cell += [nodes.raw("", opened, format="html"), *whole, listed, nodes.raw("", "</details>", format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_post_transform(FoldClaims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
