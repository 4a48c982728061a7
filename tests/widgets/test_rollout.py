"""The rollout: its numbers against an interior-point method, its twin in JavaScript, and how it moves."""

import itertools
import json
import math
import random
import re

import clarabel
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from scipy import sparse

import lablib
from lablib.teaching import rollout

ROLLOUT = '[data-widget="rollout"]'
START = {"variant": "pairwise", "y": (1.25, -0.5), "step": 3}


def states():
    """500 states: anywhere, on the widget's own grid, at corners, and everything at its ends."""
    draw = random.Random(11)
    shapes, variants = list(rollout.SHAPES), list(rollout.VARIANTS)
    found = []
    for i in range(500):
        shape, variant = shapes[i % 4], variants[(i // 4) % 4]
        y = (draw.uniform(-1.75, 1.75), draw.uniform(-1.75, 1.75))
        if i % 3 == 0:
            y = (draw.randint(-112, 112) / 64, draw.randint(-112, 112) / 64)
        if i % 25 == 0:
            y = draw.choice(rollout.CORNERS[shape])
        step = draw.choice((0, 1, 2, 3, 5, 10, 30, 60))
        found.append((shape, variant, y, step, draw.randint(*rollout.COLD), draw.randint(*rollout.STRETCH)))
    return found


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [rollout.roll(*state) for state in states()]


def hessian(stretch):
    u, v = np.array(rollout.LONG), np.array(rollout.SHORT)
    return stretch * np.outer(u, u) + np.outer(v, v)


def best(corners, y, stretch):
    """The solution by an interior-point method over the weights of the corners."""
    V, m = np.array(corners).T, len(corners)
    P = V.T @ hessian(stretch) @ V
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    rows = sparse.csc_matrix(np.vstack([np.ones(m), -np.eye(m)]))
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(m)]
    upper = sparse.csc_matrix(np.triu(P))
    q = -V.T @ hessian(stretch) @ np.array(y)
    solver = clarabel.DefaultSolver(upper, q, rows, np.concatenate([[1], np.zeros(m)]), cones, settings)
    return V @ np.array(solver.solve().x)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_solution_and_certificate(found):
    """The solution is the interior-point method's; the gap is by brute force over corners, and bounds the error."""
    for state in found:
        corners, P = np.array(rollout.CORNERS[state["shape"]]), hessian(state["stretch"])
        x, y = np.array(state["x"]), np.array(state["y"])
        gap = max((x - c) @ P @ (x - y) for c in corners)
        assert state["gap"] == pytest.approx(gap, abs=1e-12)
        assert state["gap"] >= state["error"] - 1e-12
        assert state["violation_x"] == 0
        assert state["error"] == pytest.approx(0.5 * (x - y) @ P @ (x - y) - state["least"], abs=1e-12)
    for state in found[::10]:
        reference = best(rollout.CORNERS[state["shape"]], state["y"], state["stretch"])
        assert state["solution"] == pytest.approx(reference, abs=1e-6)


def test_exact_line_search_never_rises_and_the_path_stays_inside(found):
    for state in found[:80]:
        corners, y, stretch = rollout.CORNERS[state["shape"]], state["y"], state["stretch"]
        values = [rollout._value(p, y, stretch) for p in state["path"]]
        assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values)), state["variant"]
        assert max(rollout._violation(corners, p) for p in state["path"]) == 0


def test_away_and_pairwise_finish_where_vanilla_zigzags():
    """On an edge of the pentagon, far from the start: the point of the chapter."""
    gaps = rollout.roll(y=(1.25, -0.5))["gaps"]
    assert gaps["vanilla"][60] > 1e-3
    assert max(gaps["away"][60], gaps["pairwise"][60]) < 1e-12


def test_softmax_gap_settles_under_its_bound():
    """With the temperature held, the gap ends under W0((m - 1)/e)/beta, and not much under it when the corners tie."""
    for cold in (2, 4, 6, 8):
        for shape, y in (("pentagon", (0.05, 0.0)), ("square", (0.1, -0.05)), ("triangle", (1.25, 0.5))):
            state = rollout.roll(shape, "softmax", y, step=60, cold=cold, stretch=2)
            assert 0 < state["gap"] < 1.05 * state["bound"], (shape, cold)
    state = rollout.roll("diamond", "softmax", (0.1, -0.05), step=60, cold=6, stretch=2)
    assert state["gap"] < 1.05 * state["bound"] and state["bound"] == pytest.approx(0.27846 / 64, rel=1e-4)  # W0(1/e)
    assert rollout._lambert(3 / math.e) * math.exp(rollout._lambert(3 / math.e)) == pytest.approx(3 / math.e)


@pytest.mark.parametrize("y", [(1.25, -0.5), (0.3, 0.2), (-0.75, 1.0)])
def test_softmax_on_the_l1_ball_is_the_layers(y):
    """The widget's softmax rollout on the L1 ball is `lablib.frank_wolfe`'s, iterate by iterate."""
    stretch, P = 3, torch.from_numpy(hessian(3))
    options = {"variant": "softmax", "temperature": 1 / 16, "halve_every": None, "tol": 0.0, "strict": False}
    for steps in (1, 2, 9):
        x, _ = lablib.frank_wolfe(
            lambda x: (x - torch.tensor(y, dtype=x.dtype)) @ P,
            lablib.L1Ball(2, 1.0),
            torch.tensor([-1.0, 0.0], dtype=torch.float64),
            smoothness=float(stretch),
            max_steps=steps,
            **options,
        )
        shown = rollout.roll("diamond", "softmax", y, step=steps, cold=4, stretch=stretch)["x"]
        assert shown == pytest.approx(tuple(x.tolist()), abs=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": "circle"}, "shape: expected one of pentagon, triangle"),
        ({"variant": "blended"}, "variant: expected one of vanilla, away"),
        ({"y": (0.0, math.nan)}, "y: expected two finite numbers"),
        ({"y": (0.0,)}, "y: expected two finite numbers"),
        ({"step": 61}, "step: expected a whole number from 0 to 60, got 61"),
        ({"step": 0.5}, "step: expected a whole number"),
        ({"cold": 13}, "cold: expected a number from 0 to 12, got 13"),
        ({"stretch": math.nan}, "stretch: expected a number from 1 to 8"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        rollout.roll(**given)


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same picture, same words."""
    assert len(found) == 500
    assert {(s["shape"], s["variant"]) for s in found} == set(itertools.product(rollout.SHAPES, rollout.VARIANTS))
    assert sum(s["away"] >= 0 for s in found) > 50 and sum(s["violation_y"] == 0 for s in found) > 50
    page = show(rollout.rollout()._repr_html_())
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="rollout"]');
        return states.map((state) => { const found = root.roll(...state);
          return {found, scene: root.scene(found), words: root.words(found)}; }); }""",
        [list(state) for state in states()],
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other, where = twin["found"], [state[name] for name in ("shape", "variant", "y", "step", "cold", "stretch")]
        assert set(other) == set(state)
        for name in ("shape", "variant", "step", "corner", "away", "kind"):
            assert other[name] == state[name], where
        for name in ("x", "y", "path", "target", "solution", "gap", "error", "value", "least", "bound", "beta"):
            worst = max(worst, float(np.abs(np.array(state[name]) - np.array(other[name])).max()))
        for name in ("violation_y", "violation_x", "cold", "stretch"):
            worst = max(worst, abs(state[name] - other[name]))
        for name, gaps in state["gaps"].items():
            worst = max(worst, float(np.abs(np.array(gaps) - np.array(other["gaps"][name])).max()))
        assert worst < 1e-9, where
        same_picture = [tuple(entry) for entry in twin["scene"]] == rollout._scene(state)
        same_words = [tuple(entry) for entry in twin["words"]] == rollout._words(state)
        assert same_picture and same_words, where


# --- in the page -----------------------------------------------------------------------------------------------------


def state_of(page):
    return json.loads(page.get_attribute(ROLLOUT, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    expected = rollout.roll(**state_of(page))
    for part, text in rollout._words(expected):
        assert page.text_content(f'{ROLLOUT} [data-part="{part}"]') == text
    for part, attribute, value in rollout._scene(expected):
        node = page.locator(f'{ROLLOUT} [data-part="{part}"]')
        assert (node.text_content() if attribute == "text" else node.get_attribute(attribute)) == value


def test_first_state_shows_without_script(show):
    html = rollout.rollout(**START)._repr_html_()
    still = show(html, script=False)
    assert still.locator(f"{ROLLOUT} svg").first.is_visible()
    assert not still.locator(f"{ROLLOUT} .w-controls").is_visible()
    moving = show(html)
    assert moving.locator(f"{ROLLOUT} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]", ".ro-chart"):
        assert still.inner_html(f"{ROLLOUT} {part}") == moving.inner_html(f"{ROLLOUT} {part}")


def test_every_control_moves_by_keyboard_and_menu(show):
    page = show(rollout.rollout(**START)._repr_html_())
    agrees(page)
    for part, key in (("step", "ArrowRight"), ("cold", "ArrowLeft"), ("stretch", "ArrowRight"), ("y1", "ArrowLeft")):
        before = state_of(page)
        page.focus(f'{ROLLOUT} [data-input="{part}"]')
        page.keyboard.press(key)
        assert state_of(page) != before, part
        agrees(page)
    page.focus(f'{ROLLOUT} [data-input="y2"]')
    page.keyboard.press("ArrowUp")
    assert state_of(page)["y"][1] == -0.484375
    for part, options in (("variant", rollout.VARIANTS), ("shape", rollout.SHAPES)):
        for option in options:
            page.select_option(f'{ROLLOUT} [data-input="{part}"]', option)
            assert state_of(page)[part] == option
            agrees(page)
    assert page.get_attribute(ROLLOUT, "data-variant") == "softmax"
    page.focus(f'{ROLLOUT} [data-part="y"]')
    before = state_of(page)["y"]
    page.keyboard.press("Shift+ArrowUp")
    assert state_of(page)["y"] == [before[0], before[1] + 0.25]
    agrees(page)


def test_pointer_and_finger_drag_the_minimiser(show):
    page = show(rollout.rollout(**START)._repr_html_(), width=360, touch=True)
    box = page.locator(f'{ROLLOUT} [data-part="y"]').bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y - 30, steps=3)
    page.mouse.up()
    moved = state_of(page)["y"]
    assert moved[0] < 1 and moved[1] > -0.4
    agrees(page)
    finger = page.context.new_cdp_session(page)
    for kind, places in (("touchStart", [(x - 40, y - 30)]), ("touchMove", [(x - 80, y - 60)]), ("touchEnd", [])):
        points = [{"x": a, "y": b} for a, b in places]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function(
        "y => JSON.parse(document.querySelector('[data-widget]').dataset.state).y[0] < y", arg=moved[0] - 0.2
    )
    agrees(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(rollout.rollout(**START)._repr_html_(), scheme=scheme)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": rules})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 1280])
def test_fits_the_screen_and_the_finger(show, width):
    page = show(rollout.rollout(**START)._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{ROLLOUT} :is(select, input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    frame = page.locator(f"{ROLLOUT} svg").first.bounding_box()
    for y1, y2 in itertools.product((-1.75, 1.75), repeat=2):
        for part, value in (("y1", y1), ("y2", y2)):
            page.locator(f'{ROLLOUT} [data-input="{part}"]').fill(str(value))
        box = page.locator(f'{ROLLOUT} [data-part="label-y"]').bounding_box()
        assert frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
        assert frame["y"] - 1 <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 1


def test_output_repeats_is_small_and_asks_for_nothing():
    html = rollout.rollout(**START)._repr_html_()
    assert html == rollout.rollout(**START)._repr_html_()
    assert html == rollout.rollout(variant="pairwise", y=(1.2503, -0.5001), step=3, cold=4.2)._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)


def test_live_moves_with_its_controls():
    ipywidgets = pytest.importorskip("ipywidgets")
    box = rollout.live(**START)
    *controls, picture = box.children
    assert isinstance(picture, ipywidgets.HTML) and "<svg" in picture.value and "<script" not in picture.value
    seen = {picture.value}
    for control, value in zip(controls, ("square", "softmax", 12, 7, -1.25, 0.5, 5), strict=True):
        control.value = value
        assert picture.value not in seen, control.description
        seen.add(picture.value)
    said = dict(rollout._words(rollout.roll("square", "softmax", (-1.25, 0.5), 12, 7, 5)))
    assert said["said-gap"] in picture.value
