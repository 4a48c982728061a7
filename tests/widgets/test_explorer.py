"""The feasible-set explorer: its numbers, its twin in JavaScript, and how it moves under mouse, finger and keyboard."""

import itertools
import json
import math
import random
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from lablib.teaching import explorer, widget
from lablib.teaching.figures import PALETTE

EXPLORER = '[data-widget="explorer"]'
START = {"set": "l1ball", "y": (1.375, 0.75)}
CORNER = {"set": "simplex", "y": (1.625, 0.25)}


def states():
    """500 states: anywhere in the plane, on the widget's own grid, and on every kink: edges of the normal cones."""
    draw = random.Random(7)
    found = []
    for _ in range(50):
        for key in explorer.SETS:
            found.append((key, (draw.uniform(-2, 2), draw.uniform(-2, 2)), draw.uniform(0.25, 1.5)))
    for _ in range(30):
        for key in explorer.SETS:
            found.append((key, (draw.randint(-112, 112) / 64, draw.randint(-112, 112) / 64), draw.randint(2, 10) / 8))
    kinks = []
    for key, size in itertools.product(("box", "simplex", "l1ball", "boxbudget"), (0.5, 1.0, 1.25)):
        shape = explorer._shape(key, size)
        normals = [a for a, _, _ in shape.rows + shape.equal]
        for corner, normal, t in itertools.product(shape.corners, normals, (-0.5, 0.0, 0.25, 0.5)):
            kinks.append((key, (corner[0] + t * normal[0], corner[1] + t * normal[1]), size))
    found += draw.sample(kinks, 100)
    return found


def rows(key, size):
    """The set's inequalities G x <= h and equalities A x = b, written down once more, by hand."""
    unit = np.eye(2)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], float)
    none = np.zeros((0, 2)), np.zeros(0)
    line = np.array([[1.0, 2.0]]), np.array([size])
    return {
        "box": (np.vstack([unit, -unit]), np.full(4, size), *none),
        "simplex": (-unit, np.zeros(2), np.ones((1, 2)), np.array([size])),
        "l1ball": (signs, np.full(4, size), *none),
        "boxbudget": (np.vstack([unit, -unit]), np.array([0.75 * size] * 2 + [0, 0]), *line),
        "affine": (*none, *line),
    }[key]


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [explorer.explore(key, y, size) for key, y, size in states()]


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_explore_is_the_projection_and_the_face_projector(found):
    """Feasible, y - x in the normal cone of the active rows, J the projector on the directions that they leave."""
    for state in found:
        G, h, A, b = rows(state["set"], state["size"])
        x, y = np.array(state["x"]), np.array(state["y"])
        assert (G @ x <= h + 1e-9).all() and np.allclose(A @ x, b, atol=1e-9)
        tight = np.abs(G @ x - h) < 1e-9
        M = np.vstack([A, G[tight]])
        assert np.allclose(np.array(state["jacobian"]), np.eye(2) - np.linalg.pinv(M) @ M, atol=1e-9), state
        assert state["face_dimension"] == 2 - (np.linalg.matrix_rank(M) if len(M) else 0)
        assert len(state["active"]) == len(M)
        corners = np.array(explorer._shape(state["set"], state["size"]).corners)
        assert ((corners - x) @ (y - x) <= 1e-9).all()
        largest = max([0.0, *(G @ y - h), *np.abs(A @ y - b)])
        assert state["violation_y"] == pytest.approx(largest, abs=1e-9)
        assert state["violation_x"] < 1e-9 and state["gap"] < 1e-9
        assert np.allclose(state["descent"], np.array(state["jacobian"])[:, 1], atol=1e-12)


def test_jacobian_is_the_derivative_away_from_kinks(found):
    """Central differences of the projection."""
    step, tried = 1e-6, 0
    for state in found[:100]:
        key, y, size = state["set"], state["y"], state["size"]
        sides = [
            (explorer.explore(key, (y[0] + t, y[1]), size), explorer.explore(key, (y[0], y[1] + t), size))
            for t in (-step, step)
        ]
        if len({s["face_dimension"] for pair in sides for s in pair} | {state["face_dimension"]}) > 1:
            continue
        low, high = (np.array([s["x"] for s in pair]).T for pair in sides)
        assert np.allclose((high - low) / (2 * step), state["jacobian"], atol=1e-7), state
        tried += 1
    assert tried > 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ball", (0, 0), 1.0), "set: expected one of box, simplex"),
        (("box", (0, 0), 0.0), "size: expected a positive number, got 0.0"),
        (("box", (0, 0), math.nan), "size: expected a positive number, got nan"),
        (("box", (0, 0, 0), 1.0), "y: expected two numbers, got 3"),
        (("box", (0, math.nan), 1.0), "y"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        explorer.explore(*arguments)


def test_names_of_sets_are_those_of_lablib():
    for name in ("Box", "Simplex", "L1Ball", "BoxBudget", "Affine", "l1-ball", "box_budget"):
        assert explorer.explore(name, (1.0, 1.0))["violation_x"] < 1e-12


def test_a_kink_is_where_two_pieces_meet():
    """On the border between the strip of an edge and the cone of a corner, and at no point beside it."""
    for y, kink in (((1.5, 0.5), True), ((1.5, 0.484375), False), ((1.5, 0.515625), False), ((0.5, 0.5), True)):
        assert explorer.explore("l1ball", y)["kink"] is kink, y
    assert "larger image" in dict(explorer._words(explorer.explore("l1ball", (1.5, 0.5))))["jacobian"]


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same names, same picture, same words."""
    assert len(found) == 500
    assert {s["set"] for s in found} == set(explorer.SETS)
    assert {s["face_dimension"] for s in found} == {0, 1, 2}
    assert sum(s["kink"] for s in found) > 40
    page = show(explorer.explorer()._repr_html_())
    asked = [[s["set"], s["y"], s["size"]] for s in found]
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="explorer"]');
        return states.map(([set, y, size]) => { const found = root.explore(set, y, size);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        asked,
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other = twin["found"]
        assert set(other) == set(state)
        for name in ("active", "face_dimension", "kink", "set"):
            assert other[name] == state[name], state
        for name in ("x", "y", "jacobian", "violation_y", "violation_x", "gap", "descent", "size"):
            worst = max(worst, float(np.abs(np.array(state[name]) - np.array(other[name])).max()))
        assert [tuple(entry) for entry in twin["scene"]] == explorer._scene(state), state
        assert [tuple(entry) for entry in twin["words"]] == explorer._words(state), state
    assert worst < 1e-9


# --- in the page -----------------------------------------------------------------------------------------------------


def readout(page):
    return page.inner_text(f"{EXPLORER} [data-readout]")


def state_of(page):
    return json.loads(page.get_attribute(EXPLORER, "data-state"))


def point(page):
    """The middle of the raw point on the screen."""
    box = page.locator(f'{EXPLORER} [data-part="y"]').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def lies_at(page, x, y):
    """The raw point comes to lie here, to three pixels; a finger's last moves arrive a frame late."""
    page.wait_for_function(
        """([x, y]) => { const box = document.querySelector('[data-part="y"] .ex-y').getBoundingClientRect();
        return Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y) < 3; }""",
        arg=[x, y],
    )


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    state = state_of(page)
    expected = explorer.explore(state["set"], state["y"], state["size"])
    for part, text in explorer._words(expected):
        assert page.text_content(f'{EXPLORER} [data-part="{part}"]') == text
    for part, attribute, value in explorer._scene(expected):
        node = page.locator(f'{EXPLORER} [data-part="{part}"]')
        assert (node.text_content() if attribute == "text" else node.get_attribute(attribute)) == value


@pytest.mark.parametrize("start", [START, CORNER], ids=["edge", "corner"])
def test_first_state_shows_without_script(show, start):
    html = explorer.explorer(**start)._repr_html_()
    still = show(html, script=False)
    assert still.locator(f"{EXPLORER} svg").first.is_visible()
    assert still.locator(f'{EXPLORER} [data-part="y"]').bounding_box()["width"] > 10
    said = dict(explorer._words(explorer.explore(**start)))
    assert said["violation"].split()[1] in readout(still)
    assert not still.locator(f"{EXPLORER} .w-controls").is_visible()
    moving = show(html)
    assert moving.locator(f"{EXPLORER} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{EXPLORER} {part}") == moving.inner_html(f"{EXPLORER} {part}")


def test_keyboard_moves_the_point(show):
    page = show(explorer.explorer(**START)._repr_html_())
    before = readout(page)
    page.focus(f'{EXPLORER} [data-part="y"]')
    page.keyboard.press("ArrowLeft")
    assert state_of(page)["y"] == [1.3125, 0.75]
    page.keyboard.press("Shift+ArrowDown")
    assert state_of(page)["y"] == [1.3125, 0.5]
    assert readout(page) != before
    assert page.get_attribute(f'{EXPLORER} [data-part="y"]', "aria-valuetext") == "y₁ 1.31, y₂ 0.50"
    agrees(page)
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    assert state_of(page)["y"] == [1.75, 0.5]


@pytest.mark.parametrize(
    ("part", "key", "state"), [("y1", "ArrowLeft", "y"), ("y2", "ArrowUp", "y"), ("size", "ArrowLeft", "size")]
)
def test_sliders_move_by_keyboard(show, part, key, state):
    page = show(explorer.explorer(**START)._repr_html_())
    before, words = state_of(page)[state], readout(page)
    page.focus(f'{EXPLORER} [data-input="{part}"]')
    for _ in range(4):
        page.keyboard.press(key)
    assert state_of(page)[state] != before
    assert readout(page) != words
    agrees(page)


def test_pointer_drags_the_point(show):
    page = show(explorer.explorer(**START)._repr_html_())
    before = readout(page)
    x, y = point(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y + 40, steps=4)
    lies_at(page, x - 60, y + 40)
    page.mouse.up()
    after = point(page)
    assert readout(page) != before
    agrees(page)
    page.mouse.move(x, y)
    assert point(page) == after


def test_finger_drags_the_point_and_taps_the_plane(show):
    page = show(explorer.explorer(**START)._repr_html_(), width=360, touch=True)
    before = readout(page)
    x, y = point(page)
    finger = page.context.new_cdp_session(page)

    def touch(kind, *places):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    touch("touchStart", (x, y))
    for t in (10, 20, 30, 40):
        touch("touchMove", (x - t, y + t))
    touch("touchEnd")
    lies_at(page, x - 40, y + 40)
    assert readout(page) != before
    agrees(page)
    page.touchscreen.tap(x - 150, y + 60)
    lies_at(page, x - 150, y + 60)


def test_finger_beside_the_point_scrolls_the_page(show):
    page = show(
        explorer.explorer(**START)._repr_html_() + '<div style="height: 2000px"></div>',
        width=360,
        height=640,
        touch=True,
    )
    before = state_of(page)
    box = page.locator(f"{EXPLORER} svg").first.bounding_box()
    x, y = box["x"] + 40, box["y"] + box["height"] - 20
    finger = page.context.new_cdp_session(page)
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for t in (30, 60, 90, 120):
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - t}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("scrollY > 20")
    assert state_of(page) == before


def test_menu_changes_the_set(show):
    page = show(explorer.explorer(**START)._repr_html_())
    seen = set()
    for key in explorer.SETS:
        page.select_option(f'{EXPLORER} [data-input="set"]', key)
        assert state_of(page)["set"] == key
        agrees(page)
        seen.add(readout(page))
    assert len(seen) == len(explorer.SETS)


def test_parts_have_names_of_their_own():
    names = re.findall(r'data-part="([^"]*)"', explorer.explorer(**START)._repr_html_())
    assert len(names) == len(set(names)) > 25


def test_layers_can_be_hidden(show):
    page = show(explorer.explorer(**START)._repr_html_())
    for layer in ("cone", "jacobian", "gradient"):
        group = page.locator(f'{EXPLORER} [data-group="{layer}"]')
        assert group.is_visible()
        page.uncheck(f'{EXPLORER} [data-layer="{layer}"]')
        assert not group.is_visible()


def test_two_explorers_on_a_page_move_apart(show):
    page = show(explorer.explorer(**START)._repr_html_() + explorer.explorer(**CORNER)._repr_html_())
    roots = page.locator(EXPLORER)
    first, second = (roots.nth(i).get_attribute("data-state") for i in (0, 1))
    roots.nth(1).locator('[data-part="y"]').focus()
    page.keyboard.press("ArrowUp")
    assert roots.nth(0).get_attribute("data-state") == first
    assert roots.nth(1).get_attribute("data-state") != second


def test_output_repeats_is_small_and_asks_for_nothing():
    first, second = explorer.explorer(**START), explorer.explorer(**START)
    assert first._repr_html_() == second._repr_html_()
    assert repr(first) == "Explorer(set='l1ball', y=(1.375, 0.75), size=1.0)"
    assert explorer.explorer(**CORNER)._repr_html_() != first._repr_html_()
    html = first._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)


def test_start_is_set_on_the_grid():
    assert explorer.explorer(set="Simplex", y=(1.4, 9.0), size=1.02)._repr_html_() == (
        explorer.explorer(set="simplex", y=(90 / 64, 1.75), size=1.0)._repr_html_()
    )


# --- for everyone's eyes and fingers ---------------------------------------------------------------------------------


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_and_come_from_the_palette():
    blocks = re.findall(r"\{([^{}]*--w-paper:[^{}]*)\}", widget.shipped("widget.css"))
    modes = [dict(re.findall(r"--w-(\w+):\s*(#\w{6})", block)) for block in blocks]
    assert len(modes) == 3 and modes[1] == modes[2] and luminance(modes[1]["paper"]) < luminance(modes[0]["paper"])
    for colours in modes:
        for name in ("ink", "muted"):
            assert contrast(colours[name], colours["paper"]) >= 4.5
        for name in ("set", "raw", "face", "jacobian"):
            assert contrast(colours[name], colours["paper"]) >= 3, name
        marks = {colours[name].upper() for name in ("set", "raw", "face", "cone", "jacobian")}
        assert marks <= {value.upper() for value in PALETTE.values()} and len(marks) == 5


@pytest.mark.parametrize(
    ("page_is", "dark"),
    [
        ({"scheme": "dark"}, True),
        ({"scheme": "light"}, False),
        ({"scheme": "dark", "theme": ' data-theme="light"'}, False),
        ({"scheme": "light", "theme": ' data-theme="dark"'}, True),
        ({"scheme": "dark", "body": ' data-jp-theme-light="true"'}, False),
        ({"scheme": "light", "body": ' data-jp-theme-light="false"'}, True),
    ],
    ids=["dark-system", "light-system", "light-book", "dark-book", "light-lab", "dark-lab"],
)
def test_follows_the_page_into_the_dark(show, page_is, dark):
    page = show(explorer.explorer(**START)._repr_html_() + str(explorer.still()), **page_is)
    assert page.evaluate(f"getComputedStyle(document.querySelector('{EXPLORER}')).backgroundColor") == (
        "rgb(20, 24, 30)" if dark else "rgb(255, 255, 255)"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('.ex-still .paper')).fill") == (
        "rgb(20, 24, 30)" if dark else "rgb(255, 255, 255)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(explorer.explorer(**START)._repr_html_() + str(explorer.still()), scheme=scheme)
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 360, 820, 1280])
def test_fits_the_screen_and_the_finger(show, width):
    page = show(explorer.explorer(**START)._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    targets = page.locator(f'{EXPLORER} :is(select, input[type="range"], label, .w-ring)')
    for target in targets.all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    for text in page.locator(f"{EXPLORER} svg text").all():
        assert text.bounding_box()["height"] >= 9


def test_labels_stay_inside_the_picture(show):
    page = show(explorer.explorer(**START)._repr_html_(), width=360)
    frame = page.locator(f"{EXPLORER} svg").first.bounding_box()
    for y1, y2 in itertools.product((-1.75, 0, 1.75), repeat=2):
        for part, value in (("y1", y1), ("y2", y2)):
            page.locator(f'{EXPLORER} [data-input="{part}"]').fill(str(value))
        for part in ("label-x", "label-y"):
            box = page.locator(f'{EXPLORER} [data-part="{part}"]').bounding_box()
            assert frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
            assert frame["y"] - 1 <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 1


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_sliders():
    ipywidgets = pytest.importorskip("ipywidgets")
    box = explorer.live(**START)
    menu, first, second, size, picture = box.children
    assert isinstance(picture, ipywidgets.HTML) and "<svg" in picture.value and "<script" not in picture.value
    assert [w.description for w in (menu, first, second, size)] == ["set", "y₁", "y₂", "size s"]
    seen = {picture.value}
    for control, value in ((first, -1.25), (second, 0.5), (size, 0.5), (menu, "boxbudget")):
        control.value = value
        assert picture.value not in seen
        seen.add(picture.value)
    said = dict(explorer._words(explorer.explore("boxbudget", (-1.25, 0.5), 0.5)))
    assert f">{said['violation']}<" in picture.value
    assert said["active"].replace(">", "&gt;") in picture.value


def test_live_without_ipywidgets_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        explorer.live()


# --- the front page's picture ----------------------------------------------------------------------------------------


def test_still_is_one_svg_that_needs_nothing():
    picture = explorer.still()
    assert str(picture) == str(explorer.still()) == picture._repr_html_()
    assert len(str(picture)) < 20_000
    root = ET.fromstring(str(picture))
    assert root.get("role") == "img" and 20 <= len(root.get("aria-label")) <= 250
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|href", str(picture))
    words = " ".join(root.itertext())
    assert "breaks the constraint by 0.84" in words and "breaks it by 0.00" in words
