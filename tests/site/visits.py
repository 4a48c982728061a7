"""What a browser sees on one page: requests, console, formulas, ids, what sticks out, what axe-core finds."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Page

WIDTHS = (1280, 820, 360)
SCHEMES = ("light", "dark")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]

OPEN_ALL = """() => {
  for (const box of document.querySelectorAll("details")) box.open = true;
  for (const box of document.querySelectorAll(".toggle-hidden")) box.classList.remove("toggle-hidden");
}"""

FORMULAS = """() => {
  const nodes = [...document.querySelectorAll(".math")].filter(node => !node.closest("pre, code"));
  const undrawn = nodes.filter(node => node.querySelectorAll("mjx-container").length !== 1);
  const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
  const raw = [];
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    if (text.parentElement.closest("pre, code, script, style, textarea, mjx-container")) continue;
    if (/\\\\\\(|\\\\\\[|\\$\\$|\\{(math|eq|cite|prf:ref|doc|ref|term|numref)\\}`/.test(text.data)) raw.push(text.data.trim().slice(0, 80));
  }
  return {
    nodes: nodes.length,
    drawn: document.querySelectorAll("mjx-container").length,
    undrawn: undrawn.map(node => node.textContent.slice(0, 80)),
    errors: [...document.querySelectorAll('mjx-merror, [data-mjx-error], mjx-mtext[style*="red"]')].map(node => node.textContent.slice(0, 80)),
    unspoken: [...document.querySelectorAll("mjx-container")].filter(node => !node.querySelector("mjx-assistive-mml, [aria-label]")
      && !node.hasAttribute("aria-label")).length,
    raw: raw,
  };
}"""

# What reaches beyond the window is fine only inside a box that scrolls; a box that cuts it off hides it from the reader.
STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth;
  const found = [];
  if (document.documentElement.scrollWidth > width)
    found.push(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${width} px`);
  for (const node of document.querySelectorAll("main *")) {
    const box = node.getBoundingClientRect();
    if (box.width < 2 || box.height < 2 || box.right <= width + 1) continue;
    if (node.closest("mjx-assistive-mml, dialog:not([open]), .bd-sidebar-secondary, .visually-hidden")) continue;
    let around = node.parentElement, kind = "visible";
    while (around && around !== document.body) {
      kind = getComputedStyle(around).overflowX;
      if (kind !== "visible") break;
      around = around.parentElement;
    }
    if (kind !== "auto" && kind !== "scroll")
      found.push(`${node.tagName.toLowerCase()}.${node.className && node.className.baseVal === undefined ? node.className : ""} reaches ${Math.round(box.right)} px: ${node.textContent.trim().slice(0, 40)}`);
    if (found.length > 5) break;
  }
  return found;
}"""

AXE = "(levels) => axe.run(document, {runOnly: {type: 'tag', values: levels}, resultTypes: ['violations'], preload: false})"
COLOURS = """() => axe.run(document, {runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block', 'target-size']},
  resultTypes: ['violations'], preload: false})"""


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
    """Write down every request elsewhere, every failure and every word on the console."""

    def request(request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != host:
            visit.outside.append(request.url)

    page.on("request", request)
    page.on("response", lambda answer: visit.failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    page.on("requestfailed", lambda request: visit.failed.append(f"{request.failure} {request.url}"))
    page.on("console", lambda said: visit.console.append(f"{said.type}: {said.text}") if said.type in ("error", "warning", "assert") else None)
    page.on("pageerror", lambda error: visit.console.append(f"thrown: {error}"))


def settle(page: Page) -> None:
    """Wait until the formulas are drawn and the fonts are there."""
    page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise; await document.fonts.ready; }")


def found_by_axe(page: Page, colours_only: bool = False) -> list[str]:
    """Run axe-core on the page as it stands; returns one line for each element at fault."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    result = page.evaluate(COLOURS) if colours_only else page.evaluate(AXE, LEVELS)
    lines = []
    for violation in result["violations"]:
        for node in violation["nodes"]:
            reasons = "; ".join(check["message"] for check in node["any"] + node["all"] + node["none"])
            lines.append(f"{violation['id']}: {node['html'][:160]} - {reasons[:240]}")
    return lines


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
        visit.formulas = page.evaluate(FORMULAS)
        visit.ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(node => node.id)")
        page.evaluate(OPEN_ALL)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                visit.sticking_out[f"{width} px, {scheme}"] = page.evaluate(STICKING_OUT)
        # Everything at the two ends; the colours, which alone depend on the mode, in the two other corners too.
        for width, scheme in ((360, "dark"), (360, "light"), (1280, "light"), (1280, "dark")):
            page.emulate_media(color_scheme=scheme)
            if page.viewport_size["width"] != width:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_timeout(400)  # the theme makes boxes that scroll reachable by key only after it has waited a little
            whole = (width, scheme) in ((360, "dark"), (1280, "light"))
            visit.violations[f"{width} px, {scheme}"] = found_by_axe(page, colours_only=not whole)
    finally:
        page.close()
    return visit
