"""Every link of the built book: those inside it lead somewhere, those out of it are safe, and none is fetched."""

from functools import cache
from urllib.parse import unquote, urljoin, urlsplit

import built
import pytest
from built import listed

PAGES = built.page_parameters()
EVERY_PAGE = pytest.mark.parametrize("page", PAGES)


@cache
def places(page: str) -> set[str]:
    """Return the names that a fragment may point at."""
    return {node["id"] for node in built.soup(page).select("[id]")} | {
        node["name"] for node in built.soup(page).select("a[name]")
    }


def references(page: str) -> list[str]:
    """Return every address that the page names, as it is written."""
    found = []
    for attribute in ("href", "src", "action", "poster", "data"):
        found += [
            node[attribute] for node in built.soup(page).select(f"[{attribute}]") if node.name not in ("i", "time")
        ]
    for node in built.soup(page).select("[srcset]"):
        found += [part.split()[0] for part in node["srcset"].split(",")]
    return [address.strip() for address in found]


@EVERY_PAGE
def test_links_inside_lead_somewhere(book, page):
    dead = []
    for address in references(page):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        if parts.path.startswith("/"):
            dead.append(f"{address}: starts at the host's root, so it breaks under a sub-path")
            continue
        target = unquote(urljoin("/" + page, parts.path)).lstrip("/") if parts.path else page
        file = book / (target + "index.html" if target.endswith("/") or not target else target)
        if not file.is_file():
            dead.append(f"{address}: no such file")
        elif (
            parts.fragment
            and file.suffix == ".html"
            and unquote(parts.fragment) not in places(str(file.relative_to(book)))
        ):
            dead.append(f"{address}: no such place on the page")
    assert not dead, listed(dead)


@EVERY_PAGE
def test_links_out_are_https(book, page):
    allowed = ("https", "mailto", "data", "")
    found = [address for address in references(page) if urlsplit(address).scheme not in allowed or address[:2] == "//"]
    assert not found, listed(found)


@EVERY_PAGE
def test_nothing_is_loaded_from_elsewhere(book, page):
    """The browser test sees requests that are made; this one also those that a click or another browser would make."""
    loaded = built.soup(page).select("script[src], img[src], source[src], iframe[src], video[src], object[data]")
    loaded += [
        node
        for node in built.soup(page).select("link[href]")
        if {"stylesheet", "preload", "icon"} & set(node.get("rel", []))
    ]
    addresses = [node.get("src") or node.get("href") or node.get("data") for node in loaded]
    found = [address for address in addresses if urlsplit(address).netloc]
    assert not found, listed(found)


def test_the_root_sends_the_reader_to_the_front_page(book):
    assert "book/index.html" in (book / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("book/")])
def test_every_page_is_in_the_sidebar(book, page):
    """A page that nothing leads to is not in the book."""
    if page == "book/404.html":
        pytest.skip("shown by the host, never linked")
    links = [
        urljoin("/" + "book/index.html", node["href"]).split("#")[0]
        for node in built.soup("book/index.html").select("nav.bd-links a[href]")
    ]
    assert page == "book/index.html" or "/" + page in links
