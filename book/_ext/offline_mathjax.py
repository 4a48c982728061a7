"""Copy MathJax out of the package `sphinx-mathjax-offline`, so that formulas need no other host."""

import importlib.metadata
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions", "a11y", "sre")
"""What a page may ask for: the script, its fonts, rarer TeX macros, and speech for screen readers."""


def source_folder() -> Path:
    """Return the folder that holds `tex-chtml.js` in the installed package."""
    for file in importlib.metadata.files("sphinx-mathjax-offline") or []:
        if file.name == "tex-chtml.js":
            return Path(file.locate()).parent
    raise ExtensionError("sphinx-mathjax-offline holds no tex-chtml.js; run `make env` again")


def set_path(app: Sphinx, config: Config) -> None:
    """Point Sphinx's own MathJax extension at the copy."""
    config.mathjax_path = "mathjax/tex-chtml.js"


def copy(app: Sphinx) -> None:
    """Copy the parts into the build before pages are written, so that Sphinx finds the script."""
    if app.builder.format != "html":
        return
    source, target = source_folder(), Path(app.outdir) / "_static" / "mathjax"
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / part, target / part)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", set_path)
    app.connect("builder-inited", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
