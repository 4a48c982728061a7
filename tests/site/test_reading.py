"""The built book in use: under a sub-path, searched, on a phone, by keyboard, on paper, without scripts, and lost."""

from urllib.parse import urlsplit

import built
import pytest
from built import listed
from visits import Visit, found_by_axe, listen, settle

FRONT = "book/index.html"
DENSEST = "book/projection-layers.html"


def a_word_of_its_own() -> tuple[str, str]:
    """Return a word that stands in one page's title alone, and that page."""
    titles = {
        page: {word.strip(",.:").lower() for word in built.soup(page).h1.get_text(" ", strip=True).split()}
        for page in built.pages()
        if page.startswith("book/") and page != FRONT and built.soup(page).h1
    }
    for page, words in titles.items():
        others = set().union(*(other for name, other in titles.items() if name != page))
        for word in sorted(words - others, key=len, reverse=True):
            if len(word) > 5 and word.isalpha():
                return word, page
    raise AssertionError("no page has a title with a word of its own")


def size(page: str) -> int:
    """Return the length of a page's HTML; where any page will do, the shortest is the quickest."""
    return (built.BOOK / page).stat().st_size


@pytest.fixture(params=["at_root", "under_sub_path"])
def site(request) -> str:
    """Serve the book both ways."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("page", built.page_parameters())
def test_page_is_whole_under_a_sub_path(window, under_sub_path, page):
    visit, opened = Visit(), window.new_page()
    try:
        listen(opened, urlsplit(under_sub_path).netloc, visit)
        opened.goto(under_sub_path + page, wait_until="load")
        settle(opened)
        formulas = opened.evaluate("() => look.formulas()")
        found = [*visit.outside, *visit.failed, *visit.console]
    finally:
        opened.close()
    assert not found, listed(found)
    assert formulas["drawn"] == formulas["nodes"]


def test_search_finds_a_word(open_page, site):
    word, target = a_word_of_its_own()
    page = open_page(site + FRONT)
    visit = Visit()
    listen(page, urlsplit(site).netloc, visit)
    page.wait_for_load_state("networkidle")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input[type=search]").fill(word)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    found = page.locator(f'#search-results li a[href*="{target}"]').first
    found.wait_for()
    page.wait_for_load_state("networkidle")  # whoever leaves a page that still loads aborts its last requests
    assert word in page.locator("#search-results").inner_text().lower()
    found.click()
    page.wait_for_url(f"**/{target}*")
    settle(page)
    assert (visit.outside, visit.failed, visit.console) == ([], [], [])


def test_search_for_nothing_known_says_so(open_page, at_root):
    page = open_page(at_root + "search.html?q=qqxzvw")
    page.locator("#search-results .search-summary", has_text="did not match").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_search_results_can_be_read_by_everyone(open_page, at_root, scheme):
    word, _ = a_word_of_its_own()
    page = open_page(at_root + f"search.html?q={word}", width=360, scheme=scheme)
    page.locator("#search-results li .context").first.wait_for()
    settle(page)
    assert found_by_axe(page) == []
    assert page.evaluate("() => look.stickingOut()") == []


@pytest.mark.parametrize("missed", ["no-such.html", "book/no-such.html", "book/deep/er/no-such"])
def test_a_missed_address_leads_back(open_page, site, missed):
    page = open_page(site + missed)
    assert page.locator("h1").count() == 1
    settle(page)
    assert found_by_axe(page) == []
    assert page.evaluate("() => look.stickingOut()") == []
    page.locator("main a[href]").first.click()
    page.wait_for_url(site + "**", timeout=10_000)
    page.wait_for_load_state("load")
    assert (built.BOOK / page.url.split("#")[0].removeprefix(site)).is_file()
    assert page.locator("article h1").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("toggle", ["primary", "secondary"])
def test_sidebars_open_on_a_phone(open_page, at_root, toggle, scheme):
    name = "genindex.html" if toggle == "primary" else min(built.pages_with('id="pst-secondary-sidebar"'), key=size)
    page = open_page(at_root + name, width=360, scheme=scheme)
    settle(page)
    page.locator(f"button.{toggle}-toggle").locator("visible=true").first.click()
    opened = page.locator(f"#pst-{toggle}-sidebar-modal[open]")
    opened.wait_for()
    assert opened.locator("a[href]").count() >= 1
    page.wait_for_timeout(350)  # it slides in
    assert found_by_axe(page) == []
    page.keyboard.press("Escape")
    opened.wait_for(state="detached")


def test_mode_can_be_chosen_and_is_kept(open_page, at_root):
    page = open_page(at_root + FRONT)
    theme = "() => document.documentElement.dataset.theme"
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button").locator("visible=true").first.click()
        seen.add(page.evaluate(theme))
    assert seen == {"light", "dark"}
    while page.evaluate(theme) != "dark" or page.evaluate("() => document.documentElement.dataset.mode") != "dark":
        page.locator("button.theme-switch-button").locator("visible=true").first.click()
    page.reload()
    assert page.evaluate(theme) == "dark"


def test_the_first_tab_stop_skips_to_the_text(open_page, at_root):
    page = open_page(at_root + FRONT)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('href')") == "#main-content"


def test_closed_solutions_open_by_keyboard(window, at_root):
    """The theme's own button: Enter shows what is inside, and shows it in words to a screen reader."""
    for name in built.pages_with("dropdown admonition"):
        page = window.new_page()
        page.goto(at_root + name, wait_until="load")
        box = page.locator("article .admonition.dropdown").first
        inside, button = box.locator("> :not(.admonition-title, button)").first, box.locator("button").first
        assert not inside.is_visible()
        button.focus()
        page.keyboard.press("Enter")
        inside.wait_for(state="visible")
        page.close()


def test_folded_cells_open_by_keyboard(window, at_root):
    for name in built.pages_with("<summary"):
        page = window.new_page()
        page.goto(at_root + name, wait_until="load")
        summary = page.locator("article details > summary").first
        before = summary.evaluate("node => node.parentElement.open")
        summary.focus()
        page.keyboard.press("Enter")
        assert summary.evaluate("node => node.parentElement.open") is not before, name
        page.close()


@pytest.mark.parametrize(("name", "scheme"), [(FRONT, "light"), (FRONT, "dark"), (DENSEST, "light")])
def test_page_prints_black_on_white(open_page, at_root, name, scheme):
    page = open_page(at_root + name, width=720, scheme=scheme)
    settle(page)
    page.emulate_media(media="print", color_scheme=scheme)
    look = "() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; }"
    paper, ink = (
        sum(map(float, value[value.index("(") + 1 : -1].split(",")[:3])) if value != "rgba(0, 0, 0, 0)" else 765
        for value in page.evaluate(look)
    )
    assert paper > 700 and ink < 200
    hidden = (
        "#pst-header",
        ".bd-header-article",
        "#pst-primary-sidebar",
        "#pst-secondary-sidebar",
        ".prev-next-footer",
    )
    assert [part for part in hidden if page.locator(part).locator("visible=true").count()] == []
    assert page.evaluate("() => look.stickingOut()") == []
    assert page.pdf(format="A4")[:4] == b"%PDF"


def test_the_hand_out_fits_on_two_sheets(open_page, at_root):
    page = open_page(at_root + "book/handout.html")
    settle(page)
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 2
    page.emulate_media(media="print")
    assert page.locator("div.room").locator("visible=true").count() == 5


def test_page_can_be_read_without_scripts(open_page, at_root):
    page = open_page(at_root + FRONT, java_script_enabled=False)
    assert page.locator("article").is_visible()
    assert len(page.locator("article").inner_text()) > 200
    assert page.locator("nav.bd-links a[href]").locator("visible=true").count() > 1
