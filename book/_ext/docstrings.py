"""Let lablib's docstrings read as mathematics in an editor and still build as pages.

In them a bar means an absolute value, never one of reStructuredText's substitutions. And a name of Python's standard
library, in a signature or a docstring, leads to Python's own documentation: as a link, for nothing is fetched.
"""

import importlib
import re
import sys

from docutils import nodes
from sphinx.application import Sphinx

LITERAL = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`)")


def escape_bars(lines: list[str]) -> list[str]:
    r"""Return the lines with each bar escaped, except in code.

    >>> escape_bars(["sum of |x_i|, as `|x|`", ">>> abs(-1) | 2", "3", "", "text::", "", "    a | b", "", "c | d"])
    ['sum of \\|x_i\\|, as `|x|`', '>>> abs(-1) | 2', '3', '', 'text::', '', '    a | b', '', 'c \\| d']
    """
    escaped, in_doctest, block_indent = [], False, None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block_indent is not None and line.strip() and indent <= block_indent:
            block_indent = None
        in_doctest = line.strip() != "" and (in_doctest or line.lstrip().startswith(">>>"))
        if not in_doctest and block_indent is None:
            parts = LITERAL.split(line)
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            escaped.append("".join(parts))
            if line.rstrip().endswith("::"):
                block_indent = indent
        else:
            escaped.append(line)
    return escaped


def process(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Escape the bars of one docstring, in place, as autodoc asks."""
    lines[:] = escape_bars(lines)


def standard_library(target: str) -> str | None:
    """Return the page of Python's documentation that describes a name, if there is such a name.

    >>> standard_library("collections.abc.Callable")
    'https://docs.python.org/3/library/collections.abc.html#collections.abc.Callable'
    >>> standard_library("collections.abc.NoSuchThing"), standard_library("torch.Tensor")
    (None, None)
    """
    module, _, name = target.rpartition(".")
    if module.split(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        known = hasattr(importlib.import_module(module), name)
    except ImportError:
        return None
    return f"https://docs.python.org/3/library/{module}.html#{target}" if known else None


def resolve(app: Sphinx, env, node, contnode):
    """Lead a reference to a name of the standard library to its page."""
    if node.get("refdomain") != "py":
        return None
    address = standard_library(node.get("reftarget", ""))
    return nodes.reference("", "", contnode, internal=False, refuri=address) if address else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
