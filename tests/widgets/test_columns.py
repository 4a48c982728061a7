"""The columns' lengths against the penalty: against lablib, by optimality, the twin in JavaScript, and how it moves."""

import json
import math
import random
import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from lablib.augmented import Design, group_weight_step
from lablib.teaching import columns

PATH = '[data-widget="columns"]'
NAMES = list(columns.RANGES)
HEARD = [math.hypot(*column) for column in columns.TRUTH]


def states():
    """100 states: anywhere, on the widget's own grid, at the ends."""
    draw = random.Random(3)
    found = []
    for i in range(100):
        state = {name: draw.uniform(low, high) for name, (low, high, _) in columns.RANGES.items()}
        if i % 2:
            state = {
                n: low + step * draw.randint(0, round((high - low) / step))
                for n, (low, high, step) in columns.RANGES.items()
            }
            state["link"] = min(state["link"], columns.RANGES["link"][1])
        if i % 20 == 0:
            state = {name: draw.choice(ends[:2]) for name, ends in columns.RANGES.items()}
        found.append(tuple(state.values()))
    return found


def covariance(link):
    G = np.eye(4)
    G[3, :2] = G[:2, 3] = link
    return G


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_lengths_are_those_of_lablibs_weight_step():
    """On samples whose covariance is exactly G."""
    noise = np.random.default_rng(0).standard_normal((50, 4))
    white = np.linalg.qr(noise - noise.mean(0))[0] * np.sqrt(50)
    for penalty, link in states()[:6]:
        C = torch.from_numpy(white @ np.linalg.cholesky(covariance(link)).T)
        T = C @ torch.tensor(columns.TRUTH, dtype=torch.float64)
        W, _ = group_weight_step(torch.zeros(2, 4, dtype=torch.float64), Design.of(C), T, 1.0, 50 * penalty, 3000)
        np.testing.assert_allclose(columns.look(penalty, link)["lengths"], W.norm(dim=0), atol=1e-6)


def test_every_point_of_a_path_is_optimal():
    """The pull is the penalty where a column lives, and at most that where it does not; lengths alone do not tell."""
    for penalty, link in states():
        state = columns.look(penalty, link)
        for length, pull in zip(state["lengths"], state["pulls"], strict=True):
            assert pull == pytest.approx(penalty, abs=1e-10) if length > 0 else pull <= penalty + 1e-12
        grid = columns.look(round(penalty * 40) / 40, link)
        at = grid["path"][round(penalty * 40)]
        np.testing.assert_allclose(at, grid["lengths"], atol=1e-9)
        assert state["zeros"] == sum(length == 0 for length in state["lengths"])


def test_alone_a_column_leaves_at_its_own_length():
    for penalty in np.linspace(0, 1.1, 23):
        expected = [max(length - penalty, 0) for length in HEARD]
        np.testing.assert_allclose(columns.look(penalty, 0.0)["lengths"], expected, atol=1e-12)


def test_the_stranger_comes_in_where_theory_says():
    """With columns 1 and 2 alive its pull is penalty link |d1 + d2|, for their directions d1 and d2."""
    d = [np.array(columns.TRUTH[j]) / HEARD[j] for j in (0, 1)]
    edge = 1 / np.linalg.norm(d[0] + d[1])
    assert 0.53 < edge < 0.54
    assert columns.look(0.3, edge - 1e-3)["lengths"][3] == 0
    assert columns.look(0.3, edge + 1e-3)["lengths"][3] > 0
    path = np.array(columns.look(0.3, 0.65)["path"])
    assert path[:, 3].nonzero()[0].max() > path[:, 0].nonzero()[0].max()  # the last to leave
    assert not np.array(columns.look(0.3, 0.5)["path"])[:, 3].any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"penalty": -0.1}, "penalty: expected a number that is not negative, got -0.1"),
        ({"penalty": math.nan}, "penalty: expected a finite number, got nan"),
        ({"link": math.inf}, "link: expected a finite number, got inf"),
        ({"link": 0.7}, r"link: expected a correlation in \[0, 0.65\], got 0.7"),
        ({"link": -0.1}, r"link: expected a correlation in \[0, 0.65\]"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        columns.look(**given)


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees(show):
    """Same numbers to 1e-9, same picture, same words."""
    page = show(columns.columns()._repr_html_())
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="columns"]');
        return states.map((state) => { const found = root.look(...state);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        [list(state) for state in states()],
    )
    for given, twin in zip(states(), twins, strict=True):
        state = columns.look(*given)
        assert set(twin["found"]) == set(state)
        for name, value in state.items():
            np.testing.assert_allclose(np.array(twin["found"][name], dtype=float), np.array(value, float), atol=1e-9)
        assert [tuple(entry) for entry in twin["scene"]] == columns._scene(state), given
        assert [tuple(entry) for entry in twin["words"]] == columns._words(state), given


# --- in the page -----------------------------------------------------------------------------------------------------


def state_of(page):
    return json.loads(page.get_attribute(PATH, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    expected = columns.look(**state_of(page))
    wanted = [list(entry) for entry in columns._scene(expected)]
    wanted += [[part, "text", text] for part, text in columns._words(expected)]
    seen = page.evaluate(
        """wanted => wanted.map(([part, attribute]) => {
        const node = document.querySelector(`[data-widget="columns"] [data-part="${part}"]`);
        return [part, attribute, attribute === "text" ? node.textContent : node.getAttribute(attribute)]; })""",
        wanted,
    )
    assert seen == wanted
    assert page.get_attribute(PATH, "data-feasible") == str(expected["right"]).lower()
    return expected


def hand(page):
    """The middle of the handle on the screen."""
    box = page.locator(f"{PATH} .co-hand").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_first_state_shows_without_script(show):
    html = columns.columns()._repr_html_()
    still, moving = show(html, script=False), show(html)
    assert still.locator(f"{PATH} svg").first.is_visible()
    assert not still.locator(f"{PATH} .w-controls").is_visible()
    assert moving.locator(f"{PATH} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{PATH} {part}") == moving.inner_html(f"{PATH} {part}")


def test_keyboard_moves_the_penalty_and_columns_leave(show):
    page = show(columns.columns()._repr_html_())
    page.focus(f'{PATH} [data-part="hand"]')
    assert agrees(page)["right"]
    page.keyboard.press("ArrowRight")
    assert agrees(page)["penalty"] == 0.225
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    state = agrees(page)
    assert state["penalty"] == pytest.approx(0.625) and state["zeros"] == 2
    assert page.text_content(f'{PATH} [data-part="zeros"]') == "2 of 4"
    assert page.text_content(f'{PATH} [data-part="said-support"]') == "wrong about column 3"
    assert page.get_attribute(f'{PATH} [data-part="hand"]', "aria-valuenow") == "0.625"
    for name in NAMES:
        before = state_of(page)
        page.focus(f'{PATH} [data-input="{name}"]')
        page.keyboard.press("ArrowRight")
        after = agrees(page)
        assert after[name] == pytest.approx(before[name] + columns.RANGES[name][2])
        assert {other for other in NAMES if after[other] != before[other]} == {name}


def test_mouse_and_finger_drag_the_penalty_and_the_page_scrolls_beside_it(show):
    page = show(columns.columns()._repr_html_())
    x, y = hand(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y - 60, steps=3)
    page.mouse.up()
    assert abs(hand(page)[0] - x - 80) < 12 and abs(hand(page)[1] - y) < 1
    assert agrees(page)["penalty"] > 0.3

    page = show(columns.columns()._repr_html_(), width=390, height=560, touch=True)
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    x, y = hand(page)
    touch("touchStart", (x, y))
    for d in (10, 20, 30, 40):
        touch("touchMove", (x + d, y + d))
    touch("touchEnd")
    page.wait_for_function(f"JSON.parse(document.querySelector('{PATH}').dataset.state).penalty > 0.25")
    assert agrees(page)["penalty"] < 0.5 and page.evaluate("scrollY") == 0
    kept, box = state_of(page), page.locator(f"{PATH} .co-plane").bounding_box()
    x, y = box["x"] + box["width"] - 40, box["y"] + 160
    touch("touchStart", (x, y))
    for d in range(20, 140, 20):
        touch("touchMove", (x, y - d))
    touch("touchEnd")
    page.wait_for_function("scrollY > 60")
    assert state_of(page) == kept


def test_a_box_of_the_legend_hides_its_layer(show):
    page = show(columns.columns()._repr_html_())
    for layer in columns.LAYERS:
        group = page.locator(f'{PATH} [data-group="{layer}"]')
        assert group.get_attribute("hidden") is None
        page.click(f'{PATH} [data-layer="{layer}"]')
        assert group.get_attribute("hidden") is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(columns.columns()._repr_html_(), scheme=scheme)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_the_screen_and_the_numbers_stay_inside(show, width):
    page = show(columns.columns()._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{PATH} :is(input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    for output in page.locator(f"{PATH} output").all():
        assert output.evaluate("node => node.scrollWidth <= node.clientWidth")
    outer = page.locator(f"{PATH} .co-plane").bounding_box()
    for link in (0, 0.55, 0.65):
        page.locator(f'{PATH} [data-input="link"]').fill(str(link))
        for number in page.locator(f"{PATH} svg.co-plane text").all():
            inner = number.bounding_box()
            assert outer["x"] - 1 <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1
            assert outer["y"] - 1 <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1


def test_output_repeats_is_small_and_asks_for_nothing():
    html = columns.columns(penalty=0.21)._repr_html_()
    assert html == columns.columns()._repr_html_() == columns.columns(0.2, 0.4)._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_controls():
    box = columns.live()
    *controls, picture = box.children
    assert "<svg" in picture.value and "<script" not in picture.value
    seen = {picture.value}
    for control, value in zip(controls, (0.4, 0.65), strict=True):
        control.value = value
        assert picture.value not in seen, control.description
        seen.add(picture.value)
    words = dict(columns._words(columns.look(0.4, 0.65)))
    assert f'<b data-part="stranger">{words["stranger"]}</b>' in picture.value
