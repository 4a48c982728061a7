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


def words(file: str) -> str:
    """Return the English of a file: its prose, and the comments of its code."""
    found = []
    for kind, text in cells(file):
        found.append(prose(text) if kind == "markdown" else "\n".join(re.findall(r"(?m)(?:^|\s)#\s(.*)$", text)))
    return "\n".join(found)


@pytest.mark.parametrize("file", sources())
def test_text_holds_no_typing_error(file, tmp_path):
    (tmp_path / "text.txt").write_text(words(file), encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "--config", "/dev/null", "-I", HERE / "words.txt", "text.txt"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not said.stderr, said.stderr
    assert not said.stdout, said.stdout


@pytest.mark.parametrize("file", sources())
def test_prose_is_british(file):
    found = {word for word in re.findall(r"[A-Za-z]+", words(file)) if word.lower() in BRITISH}
    assert not found, [f"{word}: {BRITISH[word.lower()]}" for word in sorted(found)]


def test_the_list_of_words_is_in_order():
    listed = (HERE / "words.txt").read_text().split()
    assert listed == sorted(set(listed))
