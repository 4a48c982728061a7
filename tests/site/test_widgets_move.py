"""Each widget of each page moves by keyboard, by pointer and by touch, and says in words what it shows."""

import built
import pytest
from visits import settle

PAGES = built.pages_with("data-widget=")
CASES = [
    pytest.param(page, index, id=f"{page}:{node['data-widget']}-{index}")
    for page in PAGES
    for index, node in enumerate(built.soup(page).select("[data-widget]"))
]
EVERY_WIDGET = pytest.mark.parametrize(("name", "index"), CASES or [pytest.param("(no widget)", 0)])
CONTROLS = "input:not([type=hidden]), select, button, [role=slider], [role=button], summary, [tabindex='0']"
SMALLEST_TARGET = 24


def readout(widget) -> str:
    """Return what the widget says in words, for ears as for eyes."""
    said = widget.locator("output, [aria-live], [role=status]")
    assert said.count(), "a widget reads its state out in text"
    return " | ".join(said.all_inner_texts())


@pytest.fixture
def widget(open_page, at_root, name, index):
    """Open the page on a phone's width and bring the widget into view."""
    if name == "(no widget)":
        pytest.fail("no page holds a widget: there is no element with data-widget, or no built book", pytrace=False)
    page = open_page(at_root + name, width=360, has_touch=True)
    settle(page)
    found = page.locator("[data-widget]").nth(index)
    found.scroll_into_view_if_needed()
    return found


@EVERY_WIDGET
def test_widget_moves_by_keyboard(widget):
    """Every slider and every handle answers the arrow keys with another read-out."""
    movable = widget.locator("input[type=range], [role=slider], [data-handle]")
    assert movable.count(), "nothing to move"
    for control in movable.all():
        before = readout(widget)
        control.focus()
        for key in ("ArrowRight", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
            control.press(key)
            if readout(widget) != before:
                break
        assert readout(widget) != before, control.evaluate("node => node.outerHTML.slice(0, 200)")


@EVERY_WIDGET
def test_widget_moves_by_pointer(widget):
    movable = widget.locator("input[type=range], [role=slider], [data-handle]")
    for control in movable.all():
        control.scroll_into_view_if_needed()
        before, box, mouse = readout(widget), control.bounding_box(), widget.page.mouse
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse.move(*middle)
        mouse.down()
        mouse.move(middle[0] - 31, middle[1] + 17, steps=4)
        mouse.up()
        if readout(widget) == before:
            mouse.click(box["x"] + box["width"] * 0.8, middle[1])
        assert readout(widget) != before, control.evaluate("node => node.outerHTML.slice(0, 200)")


@EVERY_WIDGET
def test_widget_answers_each_choice(widget):
    """Every entry of every list, every radio button and every box to tick shows a state of its own."""
    for choice in widget.locator("select").all():
        seen = []
        for value in choice.locator("option").evaluate_all("nodes => nodes.map(node => node.value)"):
            choice.select_option(value)
            seen.append(readout(widget) + widget.locator("svg").first.inner_html())
        assert len(set(seen)) == len(seen)
    for box in widget.locator("input[type=checkbox]").all():
        before = widget.locator("svg").first.inner_html()
        box.click()
        assert widget.locator("svg").first.inner_html() != before, box.evaluate("node => node.outerHTML")
        box.click()
        assert widget.locator("svg").first.inner_html() == before
    for radio in widget.locator("input[type=radio]:not(:checked)").all():
        before = readout(widget) + widget.locator("svg").first.inner_html()
        radio.check(force=True)
        assert readout(widget) + widget.locator("svg").first.inner_html() != before


@EVERY_WIDGET
def test_widget_can_be_hit_by_a_finger(widget):
    small = []
    for control in widget.locator(CONTROLS).locator("visible=true").all():
        box = control.bounding_box()
        label = control.evaluate(
            "node => node.labels && node.labels[0] ? node.labels[0].getBoundingClientRect().height : 0"
        )
        if min(box["width"], max(box["height"], label)) < SMALLEST_TARGET:
            small.append(control.evaluate("node => node.outerHTML.slice(0, 120)"))
    assert small == []


@EVERY_WIDGET
def test_widget_has_names(widget):
    """A screen reader hears what each control is; the widget as a whole has a name too."""
    nameless = widget.locator("input:not([type=hidden]), select, [role=slider]").evaluate_all(
        """nodes => nodes.filter(node => !(node.labels && node.labels.length) && !node.getAttribute("aria-label")
             && !node.getAttribute("aria-labelledby")).map(node => node.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


@EVERY_WIDGET
def test_widget_shows_its_first_state_without_scripts(open_page, at_root, name, index):
    if name == "(no widget)":
        pytest.fail("no page holds a widget: there is no element with data-widget, or no built book", pytrace=False)
    page = open_page(at_root + name, java_script_enabled=False)
    widget = page.locator("[data-widget]").nth(index)
    assert len(readout(widget)) > 20
    assert widget.locator("svg, img, canvas").first.is_visible()
