"""What a browser sees on one page: requests, console, formulas, ids, what sticks out, what axe-core finds."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Page

LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
WIDTHS = (1280, 820, 360)
SCHEMES = ("light", "dark")
LOADING_NOISE = ("error", "warning", "assert")
WCAG_A_AND_AA = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]}
COLOURS_AND_SIZES = {"type": "rule", "values": ["color-contrast", "link-in-text-block", "target-size"]}
SETTLED = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
}"""


@dataclass
class Visit:
    """All that one visit found; the tests look at one part each."""

    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    formulas: dict = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    sticking_out: dict[str, list[str]] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)


def listen(page: Page, host: str, visit: Visit) -> None:
    """Write down every request elsewhere, every failure and every complaint on the console."""

    def requested(request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != host:
            visit.outside.append(request.url)

    def answered(answer) -> None:
        if answer.status >= 400:
            visit.failed.append(f"{answer.status} {answer.url}")

    def said(message) -> None:
        if message.type in LOADING_NOISE:
            visit.console.append(f"{message.type}: {message.text}")

    page.on("request", requested)
    page.on("response", answered)
    page.on("requestfailed", lambda request: visit.failed.append(f"{request.failure} {request.url}"))
    page.on("console", said)
    page.on("pageerror", lambda error: visit.console.append(f"thrown: {error}"))


def settle(page: Page) -> None:
    """Wait until the formulas are drawn and the fonts are there, then put our questions into the page."""
    page.evaluate(SETTLED)
    page.evaluate(LOOK)


def found_by_axe(page: Page, what: dict = WCAG_A_AND_AA) -> list[str]:
    """Run axe-core on the page as it stands; returns one line for each element at fault."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    return page.evaluate("(what) => look.axe(what)", what)


def visit_page(window: BrowserContext, site: str, address: str) -> Visit:
    """Load a page once and look at it in every width and in both modes."""
    visit = Visit()
    page = window.new_page()
    try:
        listen(page, urlsplit(site).netloc, visit)
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.emulate_media(color_scheme="light")
        page.goto(site + address, wait_until="load")
        settle(page)
        visit.formulas = page.evaluate("() => look.formulas()")
        visit.ids = page.evaluate("() => look.ids()")
        page.evaluate("() => look.openAll()")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                visit.sticking_out[f"{width} px, {scheme}"] = page.evaluate("() => look.stickingOut()")
        page.evaluate("() => look.lighten()")
        # The whole of axe at two corners; what can depend on the mode at the other two as well.
        for width, scheme, what in (
            (360, "dark", WCAG_A_AND_AA),
            (360, "light", COLOURS_AND_SIZES),
            (1280, "light", WCAG_A_AND_AA),
            (1280, "dark", COLOURS_AND_SIZES),
        ):
            page.emulate_media(color_scheme=scheme)
            if what is WCAG_A_AND_AA:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_timeout(400)  # the theme waits a little before it makes boxes that scroll reachable
            visit.violations[f"{width} px, {scheme}"] = found_by_axe(page, what)
        # To close the window may break off what is still on its way: that is no failure.
        visit.outside, visit.failed, visit.console = list(visit.outside), list(visit.failed), list(visit.console)
    finally:
        page.close()
    return visit
