"""A small book with this book's configuration and extensions: what the build refuses, and what it puts into a page."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://github.com/a-reader/constraints"
INDEX = "A sentence of the front page that says in plain words what the reader will find in here."
CHAPTER = """# Chapter

```{prf:theorem} Of one
:label: thm-one
One is one.
```

```{math}
:label: eq-one
x = 1
```

See {prf:ref}`thm-one`, {eq}`eq-one` and {cite:t}`someone2020`.
See also {class}`torch.Tensor` and [the lab](../labs/lab.ipynb).
"""
WRONG = {
    "dead reference": "{ref}`no-such-label`",
    "dead equation": "{eq}`eq-none`",
    "dead theorem": "{prf:ref}`thm-none`",
    "dead citation": "{cite}`nobody1900`",
    "dead link": "[there](nowhere.md)",
    "unknown name": "{class}`lablib.NoSuchSet`",
    "missing picture": "![a picture of nothing at all](nothing.png)",
}


def notebook(path: Path, text: str, description: str | None = None) -> None:
    """Write an executed notebook with one sentence and one cell."""
    cells = [
        nbformat.v4.new_markdown_cell(text, id="text"),
        nbformat.v4.new_code_cell("print('one')", id="code", execution_count=1),
    ]
    cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="one\n")]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    if description:
        metadata["myst"] = {"html_meta": {"description": description}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def build(root: Path, address: str = "", extra: str = "") -> tuple[int, str]:
    """Write the small book and build it; return the exit code and what was printed."""
    shutil.copytree(ROOT / "book" / "_ext", root / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copytree(ROOT / "make", root / "make", ignore=shutil.ignore_patterns("__pycache__"))
    config = (ROOT / "_config.yml").read_text()
    (root / "_config.yml").write_text(
        re.sub(r"(?m)^repository:\n  url: .*$", f'repository:\n  url: "{address}"', config)
    )
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - caption: P\n    chapters:\n"
        "      - file: book/chapter\n      - file: labs/lab\n"
    )
    (root / "book" / "references.bib").write_text("@misc{someone2020, author={Some One}, title={One}, year={2020}}\n")
    (root / "book" / "index.md").write_text(f"# Front\n\n{INDEX}\n\n```{{bibliography}}\n```\n")
    (root / "book" / "404.md").write_text("# Not here\n\nThe page is gone.\n\n[Front page](index.html)\n")
    (root / "labs").mkdir()
    notebook(root / "book" / "chapter.ipynb", CHAPTER + extra, "What the chapter says of itself, in one sentence.")
    notebook(
        root / "labs" / "lab.ipynb", "# Lab\n\nIn this lab the reader does by hand what the chapter says in words."
    )
    command = [sys.executable, "make/book.py", "--into", "out"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module", params=["", ADDRESS], ids=["unset", "set"])
def book(request, tmp_path_factory):
    """The pages, with and without an address."""
    root = tmp_path_factory.mktemp("book")
    code, output = build(root, request.param)
    assert code == 0, output[-3000:]
    html = root / "out" / "_build" / "html"
    pages = {str(page.relative_to(html)): page.read_text() for page in html.rglob("*.html")}
    return request.param, {name: text for name, text in pages.items() if not name.startswith("_static/")}, html


def test_buttons_lead_somewhere_or_are_hidden(book):
    address, pages, _ = book
    lab, chapter = pages["labs/lab.html"], pages["book/chapter.html"]
    colab = "https://colab.research.google.com/github/a-reader/constraints/blob/main/labs/lab.ipynb"
    assert (colab in lab) is bool(address)
    assert "colab.research" not in chapter, "a chapter's directives would show raw in Colab"
    assert (f'href="{address}"' in chapter) is bool(address)
    if not address:
        assert "github" not in lab and "launch" not in lab.lower()


def test_nothing_is_loaded_from_another_host(book):
    _, pages, html = book
    for page in pages.values():
        assert not re.search(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//', page)
        assert not re.search(r'<link[^>]+href="(?:https?:)?//', page)
    assert 'src="../_static/mathjax/tex-chtml.js' in pages["book/chapter.html"]
    assert (html / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert list((html / "_static" / "mathjax" / "output").rglob("*.woff"))


def test_every_page_says_what_it_is(book):
    _, pages, _ = book
    found = {name: re.findall(r'<meta [^>]*name="description"[^>]*>', text) for name, text in pages.items()}
    assert INDEX in found["book/index.html"][0]
    assert "What the chapter says of itself" in found["book/chapter.html"][0]
    assert "In this lab the reader does by hand" in found["labs/lab.html"][0]
    assert {name: tags for name, tags in found.items() if len(tags) != 1} == {"index.html": []}, (
        "a redirect alone has none"
    )


def test_sources_are_not_published(book):
    _, _, html = book
    assert not list(html.rglob("*.ipynb")) and not (html / "_sources").exists()


def test_the_missing_page_leads_back(book):
    address, pages, _ = book
    assert "The page is gone." in pages["404.html"]
    assert ("lead('/constraints/')" if address else "lead('/')") in pages["404.html"]
    assert not re.search(r'(?:src|href)="[^"]*\.(?:js|css)', pages["404.html"])


def test_the_build_refuses_whatever_leads_nowhere(tmp_path):
    extra = "\n".join(f"\n## {name}\n\n{text}\n" for name, text in WRONG.items())
    code, output = build(tmp_path, extra=extra)
    assert code != 0
    for sign in ("no-such-label", "eq-none", "thm-none", "nobody1900", "nowhere.md", "NoSuchSet", "nothing.png"):
        assert re.search(rf"(?m)WARNING.*{re.escape(sign)}", output), f"{sign} was let through:\n{output[-3000:]}"
