"""The pages beside the chapters: each described, each named in the contents, true of the package and of one another."""

import json
import re
from pathlib import Path

import pytest

import lablib

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for kind in ("*.md", "*.ipynb") for path in (ROOT / "book").glob(kind))
NAMES = [path.name for path in PAGES]


def text(path):
    """Return a page's Markdown and code as one text."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])


def description(path):
    """Return what a page says of itself to search engines."""
    if path.suffix == ".md":
        front = re.match(r"---\n(.*?)\n---\n", text(path), re.DOTALL)
        found = re.search(r'description: "(.*)"', front[1]) if front else None
        return found[1] if found else ""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("myst", {}).get("html_meta", {}).get("description", "")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "404.md"])
def test_a_page_is_described_in_one_sentence(name):
    said = description(ROOT / "book" / name)
    assert 50 <= len(said) <= 200, f"{len(said)} characters: {said!r}"
    assert [other for other in NAMES if other != name and description(ROOT / "book" / other) == said] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_one_title(name):
    if name == "contributing.md":
        pytest.skip("its title comes with CONTRIBUTING.md")
    page = re.sub(r"^(`{3,}).*?^\1", "", text(ROOT / "book" / name), flags=re.MULTILINE | re.DOTALL)
    if name.endswith(".ipynb"):
        cells = json.loads((ROOT / "book" / name).read_text(encoding="utf-8"))["cells"]
        page = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert len(re.findall(r"^# ", page, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "404.md"])
def test_a_page_stands_in_the_contents(name):
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert re.search(rf"book/{Path(name).stem}$", contents, re.MULTILINE)


@pytest.mark.parametrize("name", lablib.__all__)
def test_the_reference_names_what_the_package_exports(name):
    path = f"{getattr(lablib, name).__module__}.{name}"
    assert f"`~{path}`" in (ROOT / "book" / "api.md").read_text(encoding="utf-8")


def test_the_glossary_is_in_order_and_says_nothing_twice():
    listed = re.search(r":::\{glossary\}\n(.*?)^:::", text(ROOT / "book" / "glossary.md"), re.MULTILINE | re.DOTALL)[1]
    terms = [line for line in listed.splitlines() if line and not line.startswith(" ")]
    assert len(terms) > 20
    assert terms == sorted(set(terms), key=str.lower)


def test_the_contract_is_the_one_in_the_code():
    """Each member that the page asks for is one that `ConvexSet` knows, with these arguments."""
    import inspect

    page = text(ROOT / "book" / "own-set.ipynb")
    rows = re.findall(r"^`(\w+)(?:\(([^)]*)\))?`\n: ", page, re.MULTILINE)
    assert {name for name, _ in rows} >= {"dim", "solve", "face_project", "violation", "lmo", "ranks", "face_map"}
    for name, arguments in rows:
        member = getattr(lablib.ConvexSet, name)
        if arguments:
            written = [one.strip().split("=")[0] for one in arguments.split(",") if one.strip() != "*"]
            assert list(inspect.signature(member).parameters)[1:] == written, name


def test_the_lost_reader_is_led_to_pages_that_are_there():
    links = re.findall(r"\]\(([^)]+)\)", text(ROOT / "book" / "404.md"))
    generated = {"search.html", "genindex.html"}
    assert len(links) >= 3
    for link in links:
        source = ROOT / link.removesuffix(".html")
        assert link in generated or any(source.with_suffix(kind).is_file() for kind in (".md", ".ipynb")), link


def test_the_front_page_promises_no_page_that_is_not_there():
    links = re.findall(r"\]\(([^)#]+?)\)", text(ROOT / "book" / "index.ipynb"))
    inside = [link for link in links if not link.startswith("http")]
    assert len(inside) > 5
    for link in inside:
        place = ROOT / link.lstrip("/") if link.startswith("/") else ROOT / "book" / link
        assert place.is_file(), link


def test_the_plan_is_told_in_one_order():
    """The front page says of no part that it is there, when the status page calls it planned."""
    status = text(ROOT / "book" / "status.md")
    planned = re.findall(r"^\| \*\*(.+?)\*\*.*planned \|", status, re.MULTILINE)
    assert planned
    front = text(ROOT / "book" / "index.ipynb")
    there = re.search(r"There: (.*?)\nPlanned:", front, re.DOTALL)[1]
    assert [part for part in planned if part.lower() in there.lower()] == []
