"""The multiplier in the hand: its numbers, its twin in JavaScript, how it moves under mouse, finger and keyboard."""

import json
import math
import random

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from scipy.optimize import minimize_scalar

from lablib.teaching import multiplier

WIDGET = '[data-widget="multiplier"]'
REACHABLE = {
    "identity": (-3, 3),
    "sigmoid": (0, 1.5),
    "tanh": (-1.5, 1.5),
    "softmax": (0.5, 1),
    "relu": (0, 3),
    "exp": (0, 3),
}


def states():
    """500 states: anywhere, on the widget's own grid with targets on every edge, and at the minimum itself."""
    draw = random.Random(11)
    found = []
    for link, (low, high) in REACHABLE.items():
        for _ in range(40):
            u = (draw.uniform(-2, 2), draw.uniform(-2, 2))
            found.append((link, u, draw.uniform(low + 0.01, high - 0.01), draw.uniform(-4, 4)))
        for _ in range(25):
            u = (draw.randint(-16, 16) / 8, draw.randint(-16, 16) / 8)
            found.append((link, u, draw.randint(-8, 32) / 16, draw.randint(-64, 64) / 16))
        for b in (low, high):
            found.append((link, (0.75, 0.5), float(b), draw.uniform(-4, 4)))
    while len(found) < 500:
        link = draw.choice(list(REACHABLE))
        low, high = REACHABLE[link]
        state = multiplier.look(
            link, (draw.uniform(-2, 2), draw.uniform(-2, 2)), draw.uniform(low + 0.1, high - 0.1), 0
        )
        found.append((link, state["u"], state["b"], state["best"]))
    return found


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [multiplier.look(*state) for state in states()]


def potential(link, s):
    """Phi, written down once more."""
    s = np.asarray(s)
    match link:
        case "identity":
            return (s**2).sum() / 2
        case "sigmoid":
            return np.logaddexp(0, s).sum()
        case "tanh":
            return (np.logaddexp(s, -s) - np.log(2)).sum()
        case "softmax":
            return np.logaddexp(*s)
        case "relu":
            return (s.clip(0) ** 2).sum() / 2
        case "exp":
            return np.exp(s).sum()


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_look_is_the_dual_function_its_slope_and_its_minimum(found):
    """Against potentials written again, differences of them, and a minimiser that knows no derivative."""
    row = np.array([1.0, 0.5])
    reached = 0
    for state in found:
        link, u, b, t = state["link"], np.array(state["u"]), state["b"], state["multiplier"]

        def dual(s, link=link, u=u, b=b):
            return potential(link, u + s * row) - b * s

        size = 1 + abs(dual(t))
        assert state["dual"] == pytest.approx(dual(t), abs=1e-12 * size)
        step = 1e-5
        assert state["slope"] == pytest.approx((dual(t + step) - dual(t - step)) / (2 * step), abs=3e-5 * size)
        assert state["violation"] == abs(np.dot(row, state["z"]) - b)
        at_best = multiplier.look(link, state["u"], b, state["best"]) if state["best"] is not None else None
        if state["status"] == "inside":
            least = minimize_scalar(dual, bracket=(state["best"] - 1, state["best"] + 1))
            assert dual(state["best"]) <= least.fun + 1e-9
            assert at_best["violation"] < 1e-12
            reached += 1
        elif at_best is None:
            way = 1 if b >= state["high"] else -1
            assert dual(way * 30) < dual(way * 15) + 1e-9, "no minimum: it falls for ever"
        else:
            assert at_best["violation"] == 0 and state["link"] == "relu"
    assert reached > 350


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("step", (0, 0), 0.5, 0), "link: expected one of identity, sigmoid"),
        (("tanh", (0, math.nan), 0.5, 0), r"u\[1\]: expected a finite number, got nan"),
        (("tanh", (0, 0), math.inf, 0), "b: expected a finite number, got inf"),
        (("tanh", (0, 0), 0.5, math.nan), "multiplier: expected a finite number, got nan"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        multiplier.look(*arguments)


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same picture, same words: its minimum comes from halving, Python's from DualHead."""
    assert len(found) == 500
    assert {(s["link"], s["status"]) for s in found} >= {
        *((link, "inside") for link in multiplier.LINKS),
        *((link, "edge") for link in ("sigmoid", "tanh", "softmax", "relu", "exp")),
        *((link, "outside") for link in ("sigmoid", "tanh", "softmax", "relu", "exp")),
    }
    page = show(multiplier.multiplier()._repr_html_())
    asked = [[s["link"], s["u"], s["b"], s["multiplier"]] for s in found]
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="multiplier"]');
        return states.map((state) => { const found = root.look(...state);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        asked,
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other = twin["found"]
        assert set(other) == set(state)
        for name, value in state.items():
            if isinstance(value, str) or value is None or np.isinf(value).any():
                assert other[name] == value, (name, state)
            else:
                gap = np.abs(np.array(value) - np.array(other[name])).max() / (1 + np.abs(value).max())
                worst = max(worst, float(gap))
        assert [tuple(entry) for entry in twin["scene"]] == multiplier._scene(state), state
        assert [tuple(entry) for entry in twin["words"]] == multiplier._words(state), state
    assert worst < 1e-9


# --- in the page -----------------------------------------------------------------------------------------------------


def state_of(page):
    return json.loads(page.get_attribute(WIDGET, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    state = state_of(page)
    expected = multiplier.look(state["link"], state["u"], state["b"], state["multiplier"])
    for part, text in multiplier._words(expected):
        assert page.text_content(f'{WIDGET} [data-part="{part}"]') == text
    for part, attribute, value in multiplier._scene(expected):
        node = page.locator(f'{WIDGET} [data-part="{part}"]')
        assert (node.text_content() if attribute == "text" else node.get_attribute(attribute)) == value
    return expected


def hand(page):
    """The middle of the handle on the screen."""
    box = page.locator(f"{WIDGET} .mu-hand").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_first_state_shows_without_script_and_repeats(show):
    html = multiplier.multiplier()._repr_html_()
    assert html == multiplier.multiplier()._repr_html_() and len(html) < 60_000
    still, moving = show(html, script=False), show(html)
    assert still.locator(f"{WIDGET} svg").first.is_visible()
    assert not still.locator(f"{WIDGET} .w-controls").is_visible()
    assert moving.locator(f"{WIDGET} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{WIDGET} {part}") == moving.inner_html(f"{WIDGET} {part}")


def test_keyboard_leads_to_the_minimum_and_the_violation_is_zero(show):
    """Step by step downhill on the handle: near the minimum it lies on it, and the number is 0.000."""
    page = show(multiplier.multiplier()._repr_html_())
    page.focus(f'{WIDGET} [data-part="hand"]')
    seen = []
    for _ in range(30):
        seen.append(agrees(page)["violation"])
        if page.text_content(f'{WIDGET} [data-part="violation"]') == "0.000":
            break
        page.keyboard.press("ArrowLeft")
    assert seen == sorted(seen, reverse=True) and len(seen) > 10 and seen[-1] < 1e-9
    assert page.get_attribute(WIDGET, "data-feasible") == "true"
    page.keyboard.press("ArrowLeft")
    assert agrees(page)["slope"] < -1e-3
    page.keyboard.press("Shift+ArrowRight")
    assert page.get_attribute(f'{WIDGET} [data-part="hand"]', "aria-valuetext").startswith("λ −0.7")


@pytest.mark.parametrize(("part", "state"), [("multiplier", "multiplier"), ("u1", "u"), ("u2", "u"), ("b", "b")])
def test_sliders_move_by_keyboard(show, part, state):
    page = show(multiplier.multiplier()._repr_html_())
    before = state_of(page)[state]
    page.focus(f'{WIDGET} [data-input="{part}"]')
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert state_of(page)[state] != before
    agrees(page)


def test_menu_and_newton_steps(show):
    """For every link but ReLU at its kinks: a few steps of the button reach the minimum."""
    page = show(multiplier.multiplier()._repr_html_())
    for link in multiplier.LINKS:
        page.locator(f'{WIDGET} [data-input="link"]').select_option(link)
        page.locator(f'{WIDGET} [data-input="multiplier"]').fill("-0.5")
        assert agrees(page)["link"] == link
        for _ in range(12):
            page.click(f'{WIDGET} [data-input="newton"]')
        assert agrees(page)["violation"] < 1e-9, link


def test_mouse_and_finger_drag_the_multiplier(show):
    page = show(multiplier.multiplier()._repr_html_())
    x, y = hand(page)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y - 30, steps=3)
    page.mouse.up()
    assert abs(hand(page)[0] - x - 40) < 4 and state_of(page)["multiplier"] > 0.5
    agrees(page)

    page = show(multiplier.multiplier()._repr_html_(), width=360, height=1000, touch=True)
    x, y = hand(page)
    finger = page.context.new_cdp_session(page)

    def touch(kind, *places):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    touch("touchStart", (x, y))
    for t in (10, 20, 30, 40):
        touch("touchMove", (x - t, y + t))
    touch("touchEnd")
    page.wait_for_function(f"JSON.parse(document.querySelector('{WIDGET}').dataset.state).multiplier < -0.8")
    agrees(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(multiplier.multiplier()._repr_html_(), scheme=scheme)
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = Axe().run(page, options=options)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_fits_the_screen_and_labels_stay_inside(show, width):
    page = show(multiplier.multiplier()._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{WIDGET} :is(select, button, input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    for output in page.locator(f"{WIDGET} output").all():
        assert output.evaluate("node => node.scrollWidth <= node.clientWidth")
    for link in ("exp", "sigmoid"):
        page.locator(f'{WIDGET} [data-input="link"]').select_option(link)
        for value in ("-4", "4"):
            page.locator(f'{WIDGET} [data-input="multiplier"]').fill(value)
            for part, frame in (("label-z", ".mu-plane"), ("label-hand", ".mu-hill")):
                inner, outer = (
                    page.locator(f"{WIDGET} {name}").bounding_box() for name in (f'[data-part="{part}"]', frame)
                )
                assert outer["x"] - 1 <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1
                assert outer["y"] - 1 <= inner["y"] and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_sliders_and_hits_the_minimum():
    box = multiplier.live()
    *controls, picture = box.children
    assert "<svg" in picture.value and "<script" not in picture.value
    menu, hand_, first, second, target = controls
    seen = {picture.value}
    for control, value in ((hand_, -1.1875), (first, -1.0), (second, 1.0), (target, 0.75), (menu, "softmax")):
        control.value = value
        assert picture.value not in seen
        seen.add(picture.value)
        if control is hand_:
            assert '<b data-part="violation">0.000</b>' in picture.value
