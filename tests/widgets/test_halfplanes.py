"""The half-planes that the reader moves: their numbers, their twin in JavaScript, and how they move."""

import itertools
import json
import math
import random
import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from scipy.optimize import linprog, nnls

import lablib
from lablib.teaching import halfplanes, widget

HALFPLANES = '[data-widget="halfplanes"]'


def states():
    """500 states: the presets, anywhere, on the widget's own grid, and with three or four rows through one point."""
    draw = random.Random(11)
    found = [(list(rows), y) for _, rows, y in halfplanes.PRESETS.values()]
    for _ in range(200):
        rows = [(draw.randrange(24), draw.uniform(-0.5, 1.25)) for _ in range(4)]
        found.append((rows, (draw.uniform(-1.75, 1.75), draw.uniform(-1.75, 1.75))))
    for _ in range(150):
        rows = [(draw.randrange(24), draw.randint(-8, 20) / 16) for _ in range(4)]
        found.append((rows, (draw.randint(-112, 112) / 64, draw.randint(-112, 112) / 64)))
    while len(found) < 500:
        # Every row goes through the origin, or is told twice, or is far away; y is pushed by some of them.
        turns = [draw.randrange(24) for _ in range(4)]
        rows = [(turn, draw.choice((0.0, 0.0, 0.0, 1.0))) for turn in turns]
        if draw.random() < 0.4:
            rows[1] = rows[0]
        forces = [draw.choice((0.0, 0.25, 0.5)) for _ in rows]
        normals = np.array([halfplanes.normal(turn) for turn, _ in rows])
        found.append((rows, tuple(map(float, np.array(forces) @ normals))))
    return found


def data(state):
    """The state's rows as matrices."""
    normals = np.array([halfplanes.normal(turn) for turn, _ in state["rows"]])
    return normals, np.array([shift for _, shift in state["rows"]])


@pytest.fixture(scope="module")
def found():
    """What Python says of each state."""
    return [halfplanes.explore(rows, y) for rows, y in states()]


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_empty_is_what_a_linear_program_calls_empty(found):
    """And the certificate proves it: weights that cancel the rows and add their shifts up to less than nothing."""
    empty = 0
    for state in found:
        normals, shifts = data(state)
        least = linprog(
            [0, 0, 1], np.c_[normals, -np.ones(len(shifts))], shifts, bounds=[(None, None)] * 2 + [(-1, None)]
        )
        assert state["empty"] == (least.fun > 1e-9), state
        if state["empty"]:
            rows, weights, says = state["certificate"]
            assert min(weights) > 0 and np.abs(np.array(weights) @ normals[list(rows)]).max() < 1e-12
            assert np.array(weights) @ shifts[list(rows)] == pytest.approx(says) and says < 0
            empty += 1
    assert empty > 20


def test_x_is_the_projection_and_j_the_face_projector(found):
    """Feasible, y - x a non-negative sum of active normals by an independent solver, J the projector on the rest."""
    for state in found:
        if state["empty"]:
            continue
        normals, shifts = data(state)
        x, y, active = np.array(state["x"]), np.array(state["y"]), state["active"]
        assert (normals @ x <= shifts + 1e-9).all()
        assert active == list(np.flatnonzero(np.abs(normals @ x - shifts) < 1e-9))
        touching = normals[active]
        left = nnls(touching.T, y - x)[1] if active else np.linalg.norm(y - x)
        assert left < 1e-9, state
        J = np.eye(2) - np.linalg.pinv(touching) @ touching if active else np.eye(2)
        assert np.allclose(state["jacobian"], J, atol=1e-9)
        assert state["face_dimension"] == round(np.trace(J))
        assert state["violation_x"] < 1e-9
        assert state["violation_y"] == pytest.approx(max(0.0, (normals @ y - shifts).max()), abs=1e-9)
        assert np.allclose(state["descent"], J[:, 1], atol=1e-9)


def test_family_holds_the_index_sets_of_the_definition(found):
    """Independent active rows that carry y - x with no negative multiplier; the highest Jacobian frees most."""
    larger = 0
    for state in found:
        if state["empty"]:
            continue
        normals, _ = data(state)
        d = np.array(state["y"]) - np.array(state["x"])
        expected = []
        for size in range(3):
            for rows in itertools.combinations(state["active"], size):
                if size and np.linalg.matrix_rank(normals[list(rows)], tol=1e-6) < size:
                    continue
                forces = np.linalg.lstsq(normals[list(rows)].T, d, rcond=None)[0] if size else np.zeros(0)
                if np.linalg.norm(normals[list(rows)].T @ forces - d) < 1e-8 and (forces > -1e-8).all():
                    expected.append(rows)
        assert [rows for rows, _ in state["family"]] == expected, state
        assert np.trace(state["highest"]) == pytest.approx(2 - min(map(len, expected)))
        larger += len(state["held"]) > min(map(len, expected))
    assert larger > 20


def test_ranges_of_the_multipliers_are_those_of_two_linear_programs(found):
    for state in found[:6] + found[-60:]:
        if state["empty"] or not state["active"]:
            continue
        normals, _ = data(state)
        d = np.array(state["y"]) - np.array(state["x"])
        for k, i in enumerate(state["active"]):
            low, high = state["ranges"][i]
            unit = np.eye(len(state["active"]))[k]
            least, most = (linprog(s * unit, A_eq=normals[state["active"]].T, b_eq=d) for s in (1, -1))
            assert low == pytest.approx(least.fun, abs=1e-7)
            assert most.status == 3 if high is None else high == pytest.approx(-most.fun, abs=1e-7), state


def test_gradient_to_the_shifts_is_that_of_lablib(found):
    """Where the touching rows are independent, one answer is right; elsewhere that of some set of the family."""
    dependent = 0
    for state in found:
        if state["empty"]:
            continue
        normals, shifts = data(state)
        h = torch.tensor(shifts, requires_grad=True)
        plane = lablib.Polyhedron(G=torch.tensor(normals), h=h)
        pull = torch.tensor(halfplanes.PULL, dtype=torch.float64)
        plane.project(torch.tensor(state["y"], dtype=torch.float64)).backward(pull)
        answers = []
        for rows, _ in state["family"]:
            answer = np.zeros(len(shifts))
            answer[list(rows)] = halfplanes._solve([tuple(normals[k]) for k in rows], halfplanes.PULL)
            answers.append(answer)
        own = answers[[rows for rows, _ in state["family"]].index(state["held"])]
        assert np.allclose(state["shifts"], own)
        if len(state["active"]) == len(state["held"]):
            assert np.allclose(h.grad.numpy(), own, atol=1e-8), state
        else:
            assert any(np.allclose(h.grad.numpy(), answer, atol=1e-8) for answer in answers), state
            dependent += 1
    assert dependent > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], (0, 0)), "rows: expected one half-plane at least"),
        (([(24, 0.0)], (0, 0)), r"rows\[0\]: expected a turn out of 0, 1, ..., 23, got 24"),
        (([(0.5, 0.0)], (0, 0)), r"rows\[0\]: expected a turn"),
        (([(0, 0.0), (1, math.nan)], (0, 0)), r"rows\[1\]: expected finite numbers"),
        (([(0, 0.0)], (0, 0, 0)), "y: expected two numbers, got 3"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        halfplanes.explore(*arguments)


def test_bad_start_is_named():
    with pytest.raises(ValueError, match="preset: expected one of four, fan"):
        halfplanes.halfplanes("five")
    with pytest.raises(ValueError, match="rows: expected four half-planes, got 1"):
        halfplanes.halfplanes(rows=[(0, 0.0)])


# --- the twin --------------------------------------------------------------------------------------------------------


def test_twin_agrees_on_500_states(show, found):
    """Same numbers to 1e-9, same index sets, same picture, same words; and the same presets."""
    assert len(found) == 500
    assert {s["face_dimension"] for s in found if not s["empty"]} == {0, 1, 2}
    page = show(halfplanes.halfplanes()._repr_html_())
    twins = page.evaluate(
        """states => { const root = document.querySelector('[data-widget="halfplanes"]');
        return states.map(([rows, y]) => { const found = root.explore(rows, y);
          return {found, scene: root.scene(found, 1), words: root.words(found)}; }); }""",
        [[s["rows"], s["y"]] for s in found],
    )
    worst = 0.0
    for state, twin in zip(found, twins, strict=True):
        other = twin["found"]
        assert set(other) == set(state)
        assert other["empty"] == state["empty"]
        pairs = [(state[name], other[name]) for name in ("violation_y", "y", "rows")]
        if state["empty"]:
            assert list(state["certificate"][0]) == other["certificate"][0]
            pairs += zip(state["certificate"][1:], other["certificate"][1:], strict=True)
        else:
            assert [state["active"], state["face_dimension"]] == [other["active"], other["face_dimension"]], state
            assert [list(rows) for rows, _ in state["family"]] == [rows for rows, _ in other["family"]], state
            assert list(state["held"]) == other["held"]
            pairs += [(state[n], other[n]) for n in ("x", "violation_x", "jacobian", "highest", "descent", "shifts")]
            pairs += [(a[1], b[1]) for a, b in zip(state["family"], other["family"], strict=True)]
            for ours, theirs in zip(state["ranges"], other["ranges"], strict=True):
                assert (ours[1] is None) == (theirs[1] is None), state
                pairs.append(([v or 0.0 for v in ours], [v or 0.0 for v in theirs]))
        worst = max([worst, *(float(np.abs(np.array(a) - np.array(b)).max(initial=0)) for a, b in pairs)])
        assert [tuple(entry) for entry in twin["scene"]] == halfplanes._scene(state, 1), state
        assert [tuple(entry) for entry in twin["words"]] == halfplanes._words(state), state
    assert worst < 1e-9
    presets = page.evaluate("document.querySelector('[data-widget=\"halfplanes\"]').presets")
    assert presets == {k: [[list(row) for row in rows], list(y)] for k, (_, rows, y) in halfplanes.PRESETS.items()}


# --- in the page -----------------------------------------------------------------------------------------------------


def readout(page):
    return page.inner_text(f"{HALFPLANES} [data-readout]")


def state_of(page):
    return json.loads(page.get_attribute(HALFPLANES, "data-state"))


def agrees(page):
    """The read-out and the picture say what Python says of the widget's state."""
    state = state_of(page)
    expected = halfplanes.explore(state["rows"], state["y"])
    for part, text in halfplanes._words(expected):
        assert page.text_content(f'{HALFPLANES} [data-part="{part}"]') == text
    for part, attribute, value in halfplanes._scene(expected, state["chosen"]):
        node = page.locator(f'{HALFPLANES} [data-part="{part}"]')
        assert (node.text_content() if attribute == "text" else node.get_attribute(attribute)) == value


def middle(page, part):
    box = page.locator(f'{HALFPLANES} [data-part="{part}"] .w-ring').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("preset", ["four", "empty"])
def test_first_state_shows_without_script(show, preset):
    html = halfplanes.halfplanes(preset)._repr_html_()
    still, moving = show(html, script=False), show(html)
    assert still.locator(f"{HALFPLANES} svg").first.is_visible()
    assert not still.locator(f"{HALFPLANES} .w-controls").is_visible()
    assert moving.locator(f"{HALFPLANES} .w-controls").is_visible()
    for part in (".w-picture", "[data-readout]"):
        assert still.inner_html(f"{HALFPLANES} {part}") == moving.inner_html(f"{HALFPLANES} {part}")


def test_keyboard_moves_the_point_and_the_half_planes(show):
    page = show(halfplanes.halfplanes("fan")._repr_html_())
    page.focus(f'{HALFPLANES} [data-part="y"]')
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    assert state_of(page)["y"] == [1.4375, 0.75]
    page.focus(f'{HALFPLANES} [data-part="handle-2"]')
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert state_of(page)["rows"][2] == [4, 0.0625] and state_of(page)["chosen"] == 2
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert state_of(page)["rows"][2][0] == 22
    words = "turned by 330°, shift 0.06"
    assert page.get_attribute(f'{HALFPLANES} [data-part="handle-2"]', "aria-valuetext") == words
    agrees(page)


@pytest.mark.parametrize("part", ["turn", "shift", "y1", "y2"])
def test_sliders_move_by_keyboard(show, part):
    page = show(halfplanes.halfplanes()._repr_html_())
    before = readout(page)
    page.focus(f'{HALFPLANES} [data-input="{part}"]')
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert readout(page) != before
    agrees(page)


def test_pointer_shifts_a_half_plane_and_drags_the_point(show):
    page = show(halfplanes.halfplanes()._repr_html_())
    x, y = middle(page, "handle-0")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 30, y + 30, steps=4)
    page.mouse.up()
    (turn, shift), scale = (
        state_of(page)["rows"][0],
        page.locator(f"{HALFPLANES} svg").first.bounding_box()["width"] / 4,
    )
    assert turn == 3 and shift == pytest.approx(1 - 30 * math.sqrt(2) / scale, abs=1 / 16)
    agrees(page)
    x, y = middle(page, "y")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 50, y + 20, steps=4)
    page.mouse.up()
    assert middle(page, "y") == pytest.approx((x - 50, y + 20), abs=3)
    agrees(page)


def test_finger_shifts_a_half_plane_and_taps_the_plane(show):
    page = show(halfplanes.halfplanes()._repr_html_(), width=360, touch=True)
    finger = page.context.new_cdp_session(page)

    def touch(kind, *places):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in places]})

    x, y = middle(page, "handle-0")
    touch("touchStart", (x, y))
    for t in (10, 20, 30):
        touch("touchMove", (x - t, y + t))
    touch("touchEnd")
    page.wait_for_function(
        "JSON.parse(document.querySelector('[data-widget=\"halfplanes\"]').dataset.state).rows[0][1] < 0.6"
    )
    agrees(page)
    before = state_of(page)["y"]
    x, y = middle(page, "y")
    page.touchscreen.tap(x - 60, y + 100)
    assert state_of(page)["y"] != before
    assert middle(page, "y") == pytest.approx((x - 60, y + 100), abs=3)
    agrees(page)


def test_finger_beside_the_handles_scrolls_the_page(show):
    page = show(
        halfplanes.halfplanes()._repr_html_() + '<div style="height: 2000px"></div>', width=360, height=640, touch=True
    )
    before = state_of(page)
    box = page.locator(f"{HALFPLANES} svg").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = page.context.new_cdp_session(page)
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for t in (30, 60, 90, 120):
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - t}]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("scrollY > 20")
    assert state_of(page) == before


def test_menus_show_every_start_and_every_row(show):
    page = show(halfplanes.halfplanes()._repr_html_())
    for key in halfplanes.PRESETS:
        page.select_option(f'{HALFPLANES} [data-input="preset"]', key)
        assert state_of(page)["rows"] == [list(row) for row in halfplanes.PRESETS[key][1]]
        agrees(page)
    for i in range(4):
        page.select_option(f'{HALFPLANES} [data-input="chosen"]', str(i))
        turn, _ = state_of(page)["rows"][i]
        assert page.input_value(f'{HALFPLANES} [data-input="turn"]') == str(turn)
        agrees(page)


def test_layers_can_be_hidden(show):
    page = show(halfplanes.halfplanes("open")._repr_html_())
    for layer in ("cone", "forces", "gradient"):
        group = page.locator(f'{HALFPLANES} [data-group="{layer}"]')
        assert group.is_visible()
        page.uncheck(f'{HALFPLANES} [data-layer="{layer}"]')
        assert not group.is_visible()


def test_output_repeats_is_small_and_asks_for_nothing():
    first, second = halfplanes.halfplanes(), halfplanes.halfplanes()
    assert first._repr_html_() == second._repr_html_() != halfplanes.halfplanes("fan")._repr_html_()
    html = first._repr_html_()
    assert len(html.encode()) < 60_000
    assert not re.search(r"https?:|//\w+\.|@import|url\(|src=|import\(|fetch", html)
    names = re.findall(r'data-part="([^"]*)"', html)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(show, scheme):
    page = show(halfplanes.halfplanes("fan")._repr_html_(), scheme=scheme)
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 820])
def test_fits_the_screen_and_the_finger(show, width):
    page = show(halfplanes.halfplanes()._repr_html_(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for target in page.locator(f'{HALFPLANES} :is(select, input[type="range"], label, .w-ring)').all():
        box = target.bounding_box()
        assert box["width"] >= 24 and box["height"] >= 24
    frame = page.locator(f"{HALFPLANES} svg").first.bounding_box()
    for y1, y2 in itertools.product((-1.75, 1.75), repeat=2):
        for part, value in (("y1", y1), ("y2", y2)):
            page.locator(f'{HALFPLANES} [data-input="{part}"]').fill(str(value))
        box = page.locator(f'{HALFPLANES} [data-part="label-y"]').bounding_box()
        assert frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
        assert frame["y"] - 1 <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] + 1


# --- in a lab --------------------------------------------------------------------------------------------------------


def test_live_moves_with_its_controls_and_keeps_the_other_rows():
    start, which, turn, shift, first, _, picture = halfplanes.live("fan").children
    assert "<svg" in picture.value and "<script" not in picture.value

    def shows(rows, y):
        said = dict(halfplanes._words(halfplanes.explore(rows, y)))
        assert f">{said['points']}<" in picture.value and f">{said['multipliers']}<" in picture.value

    rows = list(halfplanes.PRESETS["fan"][1])
    shift.value = 0.25
    rows[0] = (0, 0.25)
    shows(rows, (1.5, 0.5))
    which.value = "2"
    assert (turn.value, shift.value) == (3, 0.0)
    shows(rows, (1.5, 0.5))
    turn.value = 4
    rows[2] = (4, 0.0)
    first.value = 1.0
    shows(rows, (1.0, 0.5))
    start.value = "thin"
    _, rows, y = halfplanes.PRESETS["thin"]
    assert (turn.value, shift.value) == rows[2]
    shows(rows, y)
    assert isinstance(halfplanes.halfplanes("thin"), widget.Widget)
