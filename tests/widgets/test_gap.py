"""The Fenchel gap in the hand: its numbers against lablib and a minimiser, its twin in JavaScript, and how it moves."""

import itertools
import json
import math
import random
import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from scipy.optimize import minimize_scalar

from lablib.fenchel import ACTIVATIONS, _leaky, fenchel_gap
from lablib.teaching import gap

GAP = '[data-widget="gap"]'
START = {"activation": "relu", "v": 3.0, "u": -2.0, "steps": 3}
NAMES = ("activation", "v", "u", "steps", "power", "order")


def states():
    """500 states: anywhere, on the widget's own grid, on the curve, beyond what phi reaches, everything at its ends."""
    draw = random.Random(12)
    activations, orders = list(gap.ACTIVATIONS), list(gap.ORDERS)
    found = []
    for i in range(500):
        activation, order = activations[i % 4], orders[(i // 4) % 2]
        low, high = gap.WINDOW[activation]
        v, u = draw.uniform(low, high), draw.uniform(-4, 4)
        if i % 3 == 0:
            v, u = draw.randint(int(32 * low), int(32 * high)) / 32, draw.randint(-64, 64) / 16
        if i % 7 == 0:
            v = gap._phi(activation, u)
        if i % 25 == 0:
            v, u = draw.choice((low, high)), draw.choice((-4.0, 4.0))
        found.append((activation, v, u, draw.choice((0, 1, 2, 3, 5, 10, 20)), draw.randint(*gap.POWER), order))
    return found


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [gap.look(*state) for state in states()]


def lablib_gap(activation, path):
    v, u = torch.tensor(path, dtype=torch.float64).unbind(-1)
    return fenchel_gap(v, u, activation, slope=gap.SLOPE)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_gaps_are_lablibs_and_bound_the_violation(found):
    infinite = 0
    for state in found:
        expected = lablib_gap(state["activation"], state["path"]).numpy()
        np.testing.assert_allclose(state["gaps"], expected, atol=1e-12, rtol=1e-12)
        assert state["gap"] == state["gaps"][state["steps"]] >= state["bound"] - 1e-12
        first, second, product = state["terms"]
        if state["gap"] == math.inf:
            infinite += 1
        else:
            assert first + second - product == pytest.approx(state["gap"], abs=1e-12)
    assert infinite > 10


def test_steps_are_lablibs_proximal_steps(found):
    """For v lablib's prox itself; for u the same prox through Moreau's identity."""
    for state in found[::3]:
        phi = _leaky(gap.SLOPE) if state["activation"] == "leaky_relu" else ACTIVATIONS[state["activation"]]
        path, t = torch.tensor(state["path"], dtype=torch.float64), state["length"]
        v, u = path[:-1].unbind(-1)
        new_v = phi.prox(v + t * u, t)
        new_u = (u + t * v) - t * phi.prox((u + t * v) / t, 1 / t)
        if state["order"] == "turn":
            even = torch.arange(len(v)) % 2 == 0
            new_v, new_u = torch.where(even, new_v, v), torch.where(even, u, new_u)
        torch.testing.assert_close(torch.stack([new_v, new_u], -1), path[1:], atol=1e-9, rtol=1e-9)


def test_a_step_is_the_least_of_gap_and_distance(found):
    """Against a minimiser that knows no derivative."""
    for state in [one for one in found if one["order"] == "turn"][::12]:
        activation, t = state["activation"], state["length"]
        (v, u), (new_v, _), (_, new_u) = state["path"][:3]
        low, high = (max(-9.0, gap.REACHED[activation][0]), min(9.0, gap.REACHED[activation][1]))

        def first(x, v=v, u=u, t=t, activation=activation):
            return gap._gap(activation, x, u) + (x - v) ** 2 / (2 * t)

        def second(x, v=new_v, u=u, t=t, activation=activation):
            return gap._gap(activation, v, x) + (x - u) ** 2 / (2 * t)

        for value, at, ends in ((first, new_v, (low, high)), (second, new_u, (-90, 90))):
            least = minimize_scalar(value, bounds=ends, method="bounded", options={"xatol": 1e-9})
            assert value(at) <= least.fun + 1e-9
            assert at == pytest.approx(least.x, abs=2e-3)


def test_in_turn_never_rises_and_at_once_can(found):
    """The point of the widget: blocks in turn walk down; both at once, with long steps, climb."""
    for state in found:
        if state["order"] == "turn":
            assert all(b <= a + 1e-12 * (1 + a) for a, b in itertools.pairwise(state["gaps"]))
            assert state["rises"] == 0
    for activation, v, u in (("leaky_relu", 3.5, -2.5), ("sigmoid", 0.98, 0.0), ("tanh", -0.5, -1.5)):
        assert gap.look(activation, v, u, 0, 6, "once")["rises"] >= 3
        assert gap.look(activation, v, u, 20, 6, "turn")["gap"] < 1e-12


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation": "gelu"}, "activation: expected one of relu, leaky_relu"),
        ({"v": math.nan}, "v: expected a finite number, got nan"),
        ({"u": math.inf}, "u: expected a finite number, got inf"),
        ({"steps": 21}, "steps: expected a whole number from 0 to 20, got 21"),
        ({"steps": 0.5}, "steps: expected a whole number"),
        ({"power": 7}, "power: expected a number from -3 to 6, got 7"),
        ({"order": "random"}, "order: expected one of turn, once"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        gap.look(**{**START, **given})


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same picture, same words: its steps come from halving an interval, Python's from Newton."""
    assert len(found) == 500
    assert {(s["activation"], s["order"]) for s in found} == set(itertools.product(gap.ACTIVATIONS, gap.ORDERS))
    page = show(gap.gap()._repr_html_())
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="gap"]');
        return states.map((state) => { const found = root.look(...state);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        [list(state) for state in states()],
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other = twin["found"]
        assert set(other) == set(state)
        for name, value in state.items():
            if isinstance(value, str):
                assert other[name] == value, (name, state)
                continue
            mine, its = np.array(value, dtype=float), np.array(other[name], dtype=float)
            assert np.array_equal(np.isinf(mine), np.isinf(its))
            mine, its = (np.where(np.isinf(t), 0.0, t) for t in (mine, its))
            worst = max(worst, float((np.abs(mine - its) / (1 + np.abs(mine))).max()))
        assert [tuple(entry) for entry in twin["scene"]] == gap._scene(state), state
        assert [tuple(entry) for entry in twin["words"]] == gap._words(state), state
    assert worst < 1e-9


# --- in the page -----------------------------------------------------------------------------------------------------


def state_of(page):
    return json.loads(page.get_attribute(GAP, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    expected = gap.look(**state_of(page))
    wanted = [list(entry) for entry in gap._scene(expected)]
    wanted += [[part, "text", text] for part, text in gap._words(expected)]
    seen = page.evaluate(
        """wanted => wanted.map(([part, attribute]) => {
        const node = document.querySelector(`[data-widget="gap"] [data-part="${part}"]`);
        return [part, attribute, attribute === "text" ? node.textContent : node.getAttribute(attribute)]; })""",
        wanted,
    )
    assert seen == wanted
    return expected


def hand(page):
    """The middle of the handle on the screen."""
    box = page.locator(f"{GAP} .ga-hand").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_first_state_shows_without_script(show):
    html = gap.gap(**START)._repr_html_()
    still, moving = show(html, script=False), show(html)
    assert still.locator(f"{GAP} svg").first.is_visible()
    assert not still.locator(f"{GAP} .w-controls").is_visible()
    assert moving.locator(f"{GAP} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{GAP} {part}") == moving.inner_html(f"{GAP} {part}")


def test_keyboard_leads_v_onto_the_curve_and_the_numbers_are_zero(show):
    """Down to v = phi(u) by arrow keys: near the curve the hand lies on it, although the curve is off the grid."""
    page = show(gap.gap("sigmoid", v=1.0, u=0.3)._repr_html_())
    page.focus(f'{GAP} [data-part="hand"]')
    page.keyboard.press("ArrowLeft")
    assert state_of(page)["u"] == 0.25 and page.get_attribute(GAP, "data-feasible") == "false"
    seen = [agrees(page)["gap"]]
    while seen[-1] > 1e-12 and len(seen) < 20:
        page.keyboard.press("ArrowDown")
        seen.append(agrees(page)["gap"])
    assert seen == sorted(seen, reverse=True) and 10 < len(seen) < 20
    for part in ("violation", "gap"):
        assert page.text_content(f'{GAP} [data-part="{part}"]') == "0.0000"
    assert page.get_attribute(GAP, "data-feasible") == "true"
    page.keyboard.press("Shift+ArrowRight")
    assert state_of(page)["u"] == 0.75 and agrees(page)["gap"] > 0
    assert page.get_attribute(f'{GAP} [data-part="hand"]', "aria-valuetext").endswith("u 0.750")


def test_every_control_moves_by_keyboard_and_menu(show):
    page = show(gap.gap(**START)._repr_html_())
    agrees(page)
    for part, key in (("v", "ArrowLeft"), ("u", "ArrowRight"), ("steps", "ArrowRight"), ("power", "ArrowLeft")):
        before = state_of(page)
        page.focus(f'{GAP} [data-input="{part}"]')
        page.keyboard.press(key)
        after = state_of(page)
        assert {name for name in NAMES if after[name] != before[name]} == {part}
        agrees(page)
    for part, options in (("order", gap.ORDERS), ("activation", gap.ACTIVATIONS)):
        for option in options:
            page.select_option(f'{GAP} [data-input="{part}"]', option)
            assert state_of(page)[part] == option
            agrees(page)
    assert state_of(page)["v"] == gap.WINDOW["sigmoid"][1], "v was brought into the sigmoid's picture"


def test_the_steps_walk_down_to_the_curve(show):
    page = show(gap.gap("tanh", v=-1.25, u=1.5)._repr_html_())
    assert agrees(page)["gap"] == math.inf and page.text_content(f'{GAP} [data-part="gap"]') == "∞"
    page.focus(f'{GAP} [data-input="steps"]')
    seen = []
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        seen.append(agrees(page)["gap"])
    assert seen == sorted(seen, reverse=True) and seen[-1] < 1e-9
    assert page.text_content(f'{GAP} [data-part="violation"]') == "0.0000"


def test_mouse_and_finger_drag_the_point(show):
    page = show(gap.gap(**START)._repr_html_())
    x, y = hand(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=3)
    page.mouse.up()
    assert math.dist(hand(page), (x + 60, y + 40)) < 4
    state = agrees(page)
    assert state["u"] > -1.5 and state["v"] < 2.7

    page = show(gap.gap(**START)._repr_html_(), width=360, height=1000, touch=True)
    x, y = hand(page)
    finger = page.context.new_cdp_session(page)

    def touch(kind, *places):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    touch("touchStart", (x, y))
    for d in (10, 20, 30, 40):
        touch("touchMove", (x + d, y + d))
    touch("touchEnd")
    page.wait_for_function(f"JSON.parse(document.querySelector('{GAP}').dataset.state).u > -1.2")
    assert agrees(page)["v"] < 2.6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(gap.gap(**START)._repr_html_(), scheme=scheme)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_fits_the_screen_and_the_label_stays_inside(show, width):
    page = show(gap.gap(**START)._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{GAP} :is(select, input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    for output in page.locator(f"{GAP} output").all():
        assert output.evaluate("node => node.scrollWidth <= node.clientWidth")
    outer = page.locator(f"{GAP} .ga-plane").bounding_box()
    for steps, v, u in itertools.product(("0", "5"), ("-0.75", "4"), ("-4", "4")):
        for part, value in (("steps", steps), ("v", v), ("u", u)):
            page.locator(f'{GAP} [data-input="{part}"]').fill(value)
        inner = page.locator(f'{GAP} [data-part="label"]').bounding_box()
        assert outer["x"] - 1 <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1
        assert outer["y"] - 1 <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1


def test_output_repeats_is_small_and_asks_for_nothing():
    html = gap.gap(**START)._repr_html_()
    assert html == gap.gap(**START, power=0.2)._repr_html_() == gap.gap(**START)._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_controls_and_lies_on_the_curve():
    box = gap.live(**START)
    *controls, picture = box.children
    assert "<svg" in picture.value and "<script" not in picture.value
    menu, u, v, steps, power, order = controls
    seen = {picture.value}
    for control, value in ((steps, 5), (power, 6), (order, "once"), (menu, "tanh"), (u, 0.5), (v, 0.25)):
        control.value = value
        assert picture.value not in seen, control.description
        seen.add(picture.value)
    steps.value, v.value = 0, 0.46875  # tanh(0.5) = 0.4621
    assert '<b data-part="violation">0.0000</b>' in picture.value
