"""What each built page says of itself: title, language, description, headings, pictures."""

import json
import re
from itertools import pairwise
from pathlib import Path

import built
import pytest
from built import listed

ROOT = Path(__file__).resolve().parents[2]
PAGES = built.page_parameters()
FOLDS = ("article pre", "details.claims pre")
CLAIM = re.compile(r"^claim \S+: value .* holds$", re.MULTILINE)
EVERY_PAGE = pytest.mark.parametrize("page", PAGES)
SHORTEST_DESCRIPTION, LONGEST_DESCRIPTION = 50, 220
SHORTEST_ALT, LONGEST_ALT = 20, 250


def description(page: str) -> str:
    """Return the page's description, or nothing."""
    tags = built.soup(page).select('meta[name="description"]')
    return tags[0].get("content", "").strip() if len(tags) == 1 else ""


@EVERY_PAGE
def test_language_and_title(book, page):
    soup = built.soup(page)
    assert soup.html.get("lang", "").startswith("en")
    assert soup.title and len(soup.title.get_text(strip=True)) > 3
    assert "<no title>" not in soup.title.get_text()


@EVERY_PAGE
def test_description_of_its_own(book, page):
    text = description(page)
    assert SHORTEST_DESCRIPTION <= len(text) <= LONGEST_DESCRIPTION, text
    assert [other for other in PAGES if other != page and description(other) == text] == []


def test_titles_differ(book):
    titles = [built.soup(page).title.get_text(strip=True) for page in PAGES]
    assert sorted({title for title in titles if titles.count(title) > 1}) == []


@EVERY_PAGE
def test_one_first_heading_and_no_level_left_out(book, page):
    within = built.soup(page).select_one("article") or built.soup(page).select_one("main") or built.soup(page)
    levels = [int(node.name[1]) for node in within.select("h1, h2, h3, h4, h5, h6")]
    assert levels.count(1) == 1
    found = [f"h{after} under h{before}" for before, after in pairwise(levels) if after > before + 1]
    assert not found, listed(found)


@EVERY_PAGE
def test_pictures_are_described(book, page):
    texts = [node.get("alt", "").strip() for node in built.soup(page).select("article img")]
    bad = [text for text in texts if not SHORTEST_ALT <= len(text) <= LONGEST_ALT]
    assert not bad, "an alt text says in 20 to 250 characters what is to be seen:" + listed(bad)
    shared = sorted({text for text in texts if texts.count(text) > 1})
    assert not shared, "two pictures with one description:" + listed(shared)
    captions = [node.get_text(" ", strip=True) for node in built.soup(page).select("figcaption, p.caption")]
    assert [text for text in texts if text in captions] == [], "the caption is heard already"


@EVERY_PAGE
def test_drawn_pictures_have_a_name(book, page):
    """An inline SVG is a picture with a name, or decoration that a screen reader is told to leave out."""
    nameless = [
        str(node)[:120]
        for node in built.soup(page).select("article svg")
        if node.get("aria-hidden") != "true"
        and not node.find_parent(attrs={"aria-hidden": "true"})
        and not (node.get("aria-label") or node.get("aria-labelledby") or node.find("title"))
    ]
    assert not nameless, listed(nameless)


def test_the_not_found_page_stands_alone(book):
    """A host shows it at any depth, so it can load nothing by a relative address."""
    soup = built.soup("404.html")
    assert [
        str(node)
        for node in soup.select("link[href], script[src], img[src]")
        if not str(node.get("href")).startswith("data:")
    ] == []
    assert soup.select("main a[href]"), "the reader is led back"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "book").glob("*.ipynb")))
def test_each_claim_of_a_chapter_is_folded_into_its_page(book, name):
    cells = json.loads((ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    stated = [line for output in outputs for line in CLAIM.findall("".join(output["text"]))]
    soup = built.soup(f"book/{name}.html")
    printed = {where: [line for pre in soup.select(where) for line in CLAIM.findall(pre.get_text())] for where in FOLDS}
    assert printed == dict.fromkeys(FOLDS, stated), "a claim is lost, or stands outside its fold"
    counts = [int(box.summary.get_text().split()[0]) for box in soup.select("details.claims")]
    assert sum(counts) == len(stated)
