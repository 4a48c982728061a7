"""One Chromium and two servers for all browser tests of a worker: the book at the root, and under a sub-path."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import built
import pytest
from browser import chromium
from playwright.sync_api import Browser, BrowserContext, Page
from visits import Visit, visit_page

LOADING = 30_000
PATIENCE = 8_000 if os.environ.get("LABLIB_FAULT") else 20_000
"""Milliseconds until a page that does not load, or does not answer, counts as failed; a planted fault is waited for."""


@pytest.fixture(scope="session")
def book() -> Path:
    """Return the folder of the built book; fail where there is none."""
    if not (built.BOOK / "searchindex.js").is_file():
        pytest.fail(built.ABSENT, pytrace=False)
    return built.BOOK


@pytest.fixture(scope="session")
def at_root(book: Path) -> Iterator[str]:
    """Serve the book at the root of a host."""
    with built.serving("/") as address:
        yield address


@pytest.fixture(scope="session")
def under_sub_path(book: Path) -> Iterator[str]:
    """Serve the book where a course's site would put it."""
    with built.serving(built.SUB_PATH) as address:
        yield address


@pytest.fixture(scope="session")
def browser(book: Path) -> Iterator[Browser]:
    """Start Chromium once."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def window(browser: Browser) -> Iterator[BrowserContext]:
    """Open one window that keeps what it has loaded, so that the scripts are fetched once."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(LOADING)
    yield context
    context.close()


@pytest.fixture(scope="session")
def visit(window: BrowserContext, at_root: str) -> Callable[[str], Visit]:
    """Return the function that looks a page over from all sides; each page is loaded once."""
    seen: dict[str, Visit] = {}

    def look(page: str) -> Visit:
        if page not in seen:
            seen[page] = visit_page(window, at_root, page)
        return seen[page]

    return look


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return the function that opens an address in a fresh window of a given size and mode."""
    contexts = []

    def open_address(address: str, *, width: int = 1280, scheme: str = "light", **options) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", **options
        )
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(LOADING)
        contexts.append(context)
        page = context.new_page()
        page.goto(address, wait_until="load")
        return page

    yield open_address
    for context in contexts:
        context.close()
