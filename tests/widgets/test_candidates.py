"""The pair's five candidates in the hand: against lablib and brute force, its twin in JavaScript, and how it moves."""

import itertools
import json
import math
import random
import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from lablib.augmented import activation_candidates, activation_step
from lablib.teaching import candidates

PAIR = '[data-widget="candidates"]'
NAMES = list(candidates.RANGES)


def states():
    """500 states: anywhere, on the widget's own grid, at the jump between two candidates, everything at its ends."""
    draw = random.Random(7)
    found = []
    for i in range(500):
        state = {name: draw.uniform(low, high) for name, (low, high, _) in candidates.RANGES.items()}
        if i % 3 == 0:
            for name, (low, high, step) in candidates.RANGES.items():
                state[name] = low + step * draw.randint(0, round((high - low) / step))
        if i % 7 == 0:
            state["slope"] = 0.0
        if i % 11 == 0:
            state["q"] = -(1 + state["slope"]) * state["penalty"] / (2 * state["b"])
        if i % 25 == 0:
            state = {name: draw.choice(ends[:2]) for name, ends in candidates.RANGES.items()}
        found.append(tuple(state.values()))
    return found


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [candidates.look(*state) for state in states()]


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_candidates_and_winner_are_lablibs(found):
    winners = set()
    for state in found:
        p, q = (torch.tensor(state[name], dtype=torch.float64) for name in "pq")
        given = (p, q, state["a"], state["b"], state["slope"])
        expected = activation_candidates(*given, penalty=state["penalty"])
        for mine, other in zip((state["v"], state["u"], state["costs"]), expected, strict=True):
            np.testing.assert_allclose(mine, other.numpy(), atol=1e-12, rtol=1e-12)
        v, u = activation_step(*given, penalty=state["penalty"])
        np.testing.assert_allclose(state["cost"], float(expected[2].min()), atol=1e-12)
        if sorted(state["costs"])[1] - state["cost"] > 1e-9 or state["winner"] in (2, 5):
            np.testing.assert_allclose(state["point"], (float(v), float(u)), atol=1e-12)
        winners.add(state["winner"])
    assert winners == {1, 2, 4, 5}


def test_no_allowed_point_of_a_grid_is_cheaper_than_the_winner(found):
    """Knows nothing of candidates."""
    u, v = np.meshgrid(np.linspace(-5, 5, 301), np.linspace(-5, 5, 301))
    for state in found[::5]:
        slope, p, q, a, b, penalty = (state[name] for name in NAMES)
        s = np.maximum(u, slope * u)
        costs = a / 2 * (v - p) ** 2 + b / 2 * (u - q) ** 2 + penalty * (v - s)
        assert state["cost"] <= costs[v >= s].min() + 1e-12


def test_violations_are_those_of_the_centre_and_of_the_winner(found):
    for state in found:
        for (v, u), breaks, off in (
            ((state["p"], state["q"]), "start_breaks", "start_off"),
            (state["point"], "breaks", "off"),
        ):
            s = torch.nn.functional.leaky_relu(torch.tensor(u, dtype=torch.float64), state["slope"]).item()
            assert state[breaks] == pytest.approx(max(s - v, 0.0), abs=1e-12)
            assert state[off] == pytest.approx(abs(v - s), abs=1e-12)
        assert state["breaks"] == 0


def test_the_winner_jumps_and_a_high_price_closes_the_slack():
    """The two points of the widget."""
    left, right = (candidates.look(q=candidates.look()["tie"] + shift) for shift in (-1e-9, 1e-9))
    assert (left["winner"], right["winner"]) == (4, 1)
    assert right["point"][1] - left["point"][1] == pytest.approx(0.8, abs=1e-6)
    slack = [candidates.look(penalty=penalty)["off"] for penalty in np.linspace(0, 2, 17)]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(slack))
    assert slack[0] > 1.5 and slack[-1] == 0


def test_level_sets_are_where_the_cost_is_the_level(found):
    drawn = 0
    for state in found[::9]:
        slope, p, q, a, b, penalty = (state[name] for name in NAMES)
        for level in candidates.LEVELS:
            for half in (0, 3):
                for v, u in candidates._valley(state, half, state["cost"] + level):
                    cost = candidates._cost(v, u, slope, p, q, a, b, penalty)
                    on_the_border = min(abs(v - max(u, slope * u)), abs(u)) < 1e-6
                    assert v >= max(u, slope * u) - 1e-6
                    assert cost <= state["cost"] + level + 1e-6
                    assert on_the_border or cost == pytest.approx(state["cost"] + level, abs=1e-6)
                    drawn += 1
    assert drawn > 10_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slope": 1.0}, r"slope: expected a number in \[0, 1\), got 1.0"),
        ({"slope": -0.1}, r"slope: expected a number in \[0, 1\)"),
        ({"p": math.nan}, "p: expected a finite number, got nan"),
        ({"q": math.inf}, "q: expected a finite number, got inf"),
        ({"a": 0.0}, "a: expected a positive number, got 0.0"),
        ({"b": -1.0}, "b: expected a positive number, got -1.0"),
        ({"penalty": -1.0}, "penalty: expected a number that is not negative, got -1.0"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        candidates.look(**given)


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same picture, same words."""
    assert len(found) == 500
    page = show(candidates.candidates()._repr_html_())
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="candidates"]');
        return states.map((state) => { const found = root.look(...state);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        [list(state) for state in states()],
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other = twin["found"]
        assert set(other) == set(state)
        for name, value in state.items():
            mine, its = np.array(value, dtype=float), np.array(other[name], dtype=float)
            assert np.array_equal(np.isinf(mine), np.isinf(its)), (name, state)
            mine, its = (np.where(np.isinf(t), 0.0, t) for t in (mine, its))
            worst = max(worst, float((np.abs(mine - its) / (1 + np.abs(mine))).max()))
        assert [tuple(entry) for entry in twin["scene"]] == candidates._scene(state), state
        assert [tuple(entry) for entry in twin["words"]] == candidates._words(state), state
    assert worst < 1e-9


# --- in the page -----------------------------------------------------------------------------------------------------


def state_of(page):
    return json.loads(page.get_attribute(PAIR, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    expected = candidates.look(**state_of(page))
    wanted = [list(entry) for entry in candidates._scene(expected)]
    wanted += [[part, "text", text] for part, text in candidates._words(expected)]
    seen = page.evaluate(
        """wanted => wanted.map(([part, attribute]) => {
        const node = document.querySelector(`[data-widget="candidates"] [data-part="${part}"]`);
        return [part, attribute, attribute === "text" ? node.textContent : node.getAttribute(attribute)]; })""",
        wanted,
    )
    assert seen == wanted
    return expected


def hand(page):
    """The middle of the handle on the screen."""
    box = page.locator(f"{PAIR} .ca-hand").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def finger(page):
    """A function that touches the screen: kind of event, then places."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    return touch


def test_first_state_shows_without_script(show):
    html = candidates.candidates()._repr_html_()
    still, moving = show(html, script=False), show(html)
    assert still.locator(f"{PAIR} svg").first.is_visible()
    assert not still.locator(f"{PAIR} .w-controls").is_visible()
    assert moving.locator(f"{PAIR} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{PAIR} {part}") == moving.inner_html(f"{PAIR} {part}")


def test_keyboard_moves_the_centre_and_the_winner_jumps(show):
    page = show(candidates.candidates()._repr_html_())
    page.focus(f'{PAIR} [data-part="hand"]')
    assert agrees(page)["winner"] == 4
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    state = agrees(page)
    assert state["winner"] == 1 and state["q"] == -0.55
    assert page.text_content(f'{PAIR} [data-part="said-1"]').endswith("wins")
    assert page.get_attribute(f'{PAIR} [data-part="candidate-1"]', "data-kind") == "won"
    for _ in range(6):
        page.keyboard.press("Shift+ArrowDown")
    state = agrees(page)
    assert state["p"] == pytest.approx(0.4) and state["winner"] == 5 and state["off"] == 0
    assert page.get_attribute(PAIR, "data-feasible") == "true"
    assert page.text_content(f'{PAIR} [data-part="off"]') == "0.0000"
    assert page.get_attribute(f'{PAIR} [data-part="hand"]', "aria-valuetext") == "p 0.40, q −0.55"


def test_every_slider_moves_by_keyboard(show):
    page = show(candidates.candidates()._repr_html_())
    agrees(page)
    for name in NAMES:
        before = state_of(page)
        page.focus(f'{PAIR} [data-input="{name}"]')
        page.keyboard.press("ArrowRight")
        after = state_of(page)
        assert {other for other in NAMES if after[other] != before[other]} == {name}
        assert after[name] == pytest.approx(before[name] + candidates.RANGES[name][2])
        agrees(page)


def test_mouse_and_finger_drag_the_centre_and_the_page_scrolls_beside_it(show):
    page = show(candidates.candidates()._repr_html_())
    x, y = hand(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=3)
    page.mouse.up()
    assert math.dist(hand(page), (x + 60, y + 40)) < 4
    state = agrees(page)
    assert state["q"] > 0 and state["p"] < 1.5

    page = show(candidates.candidates()._repr_html_(), width=390, height=700, touch=True)
    (x, y), touch = hand(page), finger(page)
    touch("touchStart", (x, y))
    for d in (10, 20, 30, 40):
        touch("touchMove", (x + d, y + d))
    touch("touchEnd")
    page.wait_for_function(f"JSON.parse(document.querySelector('{PAIR}').dataset.state).q > -0.3")
    assert agrees(page)["p"] < 1.7 and page.evaluate("scrollY") == 0

    kept = state_of(page)
    box = page.locator(f"{PAIR} .ca-plane").bounding_box()
    x, y = box["x"] + box["width"] - 40, box["y"] + box["height"] - 40
    touch("touchStart", (x, y))
    for d in range(20, 140, 20):
        touch("touchMove", (x, y - d))
    touch("touchEnd")
    page.wait_for_function("scrollY > 60")
    assert state_of(page) == kept


def test_a_box_of_the_legend_hides_its_layer(show):
    page = show(candidates.candidates()._repr_html_())
    for layer in candidates.LAYERS:
        group = page.locator(f'{PAIR} [data-group="{layer}"]')
        assert group.get_attribute("hidden") is None
        page.click(f'{PAIR} [data-layer="{layer}"]')
        assert group.get_attribute("hidden") is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(candidates.candidates()._repr_html_(), scheme=scheme)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_fits_the_screen_and_the_numbers_stay_inside(show, width):
    page = show(candidates.candidates()._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{PAIR} :is(input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    for output in page.locator(f"{PAIR} output").all():
        assert output.evaluate("node => node.scrollWidth <= node.clientWidth")
    outer = page.locator(f"{PAIR} .ca-plane").bounding_box()
    for p, q, penalty in ((-1.5, -3, 0), (3, 3, 0), (3, -3, 0.5), (-1.2, 2.9, 0), (0, 0, 0)):
        for name, value in (("p", p), ("q", q), ("penalty", penalty)):
            page.locator(f'{PAIR} [data-input="{name}"]').fill(str(value))
        shown = 0
        for number in page.locator(f'{PAIR} [data-part^="number-"]').all():
            if not number.text_content():
                continue
            shown += 1
            inner = number.bounding_box()
            assert outer["x"] - 1 <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1
            assert outer["y"] - 1 <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1
        assert shown


def test_output_repeats_is_small_and_asks_for_nothing():
    html = candidates.candidates(q=-0.66)._repr_html_()
    assert html == candidates.candidates()._repr_html_() == candidates.candidates(q=-0.65)._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_controls():
    box = candidates.live()
    *controls, picture = box.children
    assert "<svg" in picture.value and "<script" not in picture.value
    seen = {picture.value}
    for control, value in zip(controls, (0.4, 1.0, 0.5, 2.0, 3.0, 0.5), strict=True):
        control.value = value
        assert picture.value not in seen, control.description
        seen.add(picture.value)
    words = dict(candidates._words(candidates.look(0.4, 1.0, 0.5, 2.0, 3.0, 0.5)))
    assert f'<b data-part="off">{words["off"]}</b>' in picture.value
