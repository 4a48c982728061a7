"""Spelling: no typing errors anywhere, and British throughout the prose."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROSE = ("book", "labs", "README.md", "CONTRIBUTING.md")
CODE = re.compile(
    r"^(`{3,}|~{3,})[ ]*(?:python|\{code-block\}|\{literalinclude\}|bash|console|text|toml|\{raw\}).*?^\1", re.M | re.S
)
BRITISH = dict(
    line.split() for line in (HERE / "american.txt").read_text().splitlines() if line and not line.startswith("#")
)


def sources() -> list[str]:
    """Return every page and notebook that a reader reads."""
    found = []
    for name in PROSE:
        place = ROOT / name
        found += [place] if place.is_file() else [*place.rglob("*.md"), *place.rglob("*.ipynb")]
    return sorted(
        str(file.relative_to(ROOT)) for file in found if not {"_build", ".ipynb_checkpoints"} & set(file.parts)
    )


def cells(file: str) -> list[tuple[str, str]]:
    """Return kind and text of each cell; a page without code is one cell."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if not file.endswith(".ipynb"):
        return [("markdown", text)]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def prose(text: str) -> str:
    """Take out what is not English: code, formulas, addresses, directives' options."""
    text = CODE.sub(" ", text)
    for pattern in (
        r"`[^`\n]*`",
        r"\$\$.*?\$\$",
        r"\$[^$\n]*\$",
        r"\]\([^)]*\)",
        r"https?://\S+",
        r"^:[\w-]+:.*$",
        r"<[^>]+>",
    ):
        text = re.sub(pattern, " ", text, flags=re.M | re.S)
    return text


def misspelt(text: str, folder: Path) -> list[str]:
    """Return what codespell says of a text."""
    (folder / "text.txt").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "codespell_lib",
        "--config",
        "/dev/null",
        "-I",
        str(HERE / "words.txt"),
        "text.txt",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("file", [file for file in sources() if file.endswith(".ipynb")])
def test_cells_hold_no_typing_error(file, tmp_path):
    assert misspelt("\n".join(text for _, text in cells(file)), tmp_path) == []


@pytest.mark.parametrize("file", sources())
def test_prose_is_british(file):
    words = re.findall(r"[A-Za-z]+", " ".join(prose(text) for kind, text in cells(file) if kind == "markdown"))
    assert sorted({f"{word}: {BRITISH[word.lower()]}" for word in words if word.lower() in BRITISH}) == []


def test_the_list_of_words_is_in_order():
    words = (HERE / "words.txt").read_text().split()
    assert words == sorted(set(words))
