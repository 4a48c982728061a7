"""Half-planes that the reader moves: the polyhedron they cut out, and what a projection layer on it does.

Numbers only, a pure function of its parameters:

    from lablib.teaching import halfplanes
    halfplanes.explore([(3, 1.0), (21, 1.0), (9, 1.0), (15, 1.0)], y=(1.5, 0.25))

A half-plane is a pair (turn, shift): the points x with <a, x> <= shift, where the unit vector a points `turn`
twenty-fourths of a full turn away from the first axis. `explore` returns a dict: whether the set is `empty`, the
projection `x`, the `active` rows, the extreme `multipliers`, the Han-Sun `family`, the lowest and the highest Jacobian,
what of a loss's pull reaches y (`descent`) and the shifts (`shifts`), and, for an empty set, Farkas' `certificate`. The
projection, both Jacobians and the violations come from lablib.Polyhedron. The family is found by trying every set of
rows: in the plane there are eleven.

In a page, with no kernel and no network; the first state shows without script too:

    halfplanes.halfplanes()                    # last line of a cell: shown through _repr_html_
    halfplanes.halfplanes("fan")               # one of PRESETS

In a lab, moved by ipywidgets and computed in Python at each step:

    halfplanes.live("fan")
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from . import widget
from .explorer import GRID, NEAR, PULL, REACH, Point, _along, _arrow, _at, _dot, _path
from .widget import fixed

__all__ = ["PRESETS", "explore", "halfplanes", "live"]

TURNS, SHIFTS, STEP = 24, (-1.25, 1.25), 1 / 16
SEAT, SIDE, HATCH = 1.6, 2.0, 0.09  # how far out the handles sit; half the picture's side; the length of a tooth
SMALL_DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

Row = tuple[int, float]

PRESETS: dict[str, tuple[str, list[Row], Point]] = {
    "four": ("four rows, all of use", [(3, 1.0), (21, 0.875), (9, 0.625), (15, 1.0)], (1.125, 1.125)),
    "fan": ("three rows in one corner", [(0, 0.0), (6, 0.0), (3, 0.0), (15, 1.25)], (1.5, 0.5)),
    "double": ("the same row twice", [(6, 0.5), (6, 0.5), (18, 0.75), (12, 1.0)], (0.25, 1.375)),
    "thin": ("no inside: two rows that face each other", [(3, 0.5), (15, -0.5), (21, 0.75), (9, 0.75)], (1.25, 0.5)),
    "open": ("no end on one side", [(9, 0.25), (15, 0.5), (7, 0.75), (12, 0.75)], (-1.5, 0.25)),
    "empty": ("nothing left", [(0, -0.5), (8, -0.25), (16, -0.25), (12, 1.0)], (0.75, 0.5)),
}
"""Each preset's key, the words for it, its rows and the raw point."""

WHICH = {str(i): f"number {i + 1}" for i in range(4)}


def normal(turn: int) -> Point:
    """Return the unit vector so many twenty-fourths of a turn away from the first axis.

    >>> [round(v, 3) for v in normal(6)]
    [0.0, 1.0]
    """
    angle = 2 * math.pi * turn / TURNS
    return (math.cos(angle), math.sin(angle))


def explore(rows: Sequence[Row], y: Point) -> dict[str, Any]:
    """Project `y` on the half-planes `rows`, and say all that the widget shows about it.

    `family`: every set of at most two independent active rows that carries y - x alone; beside each the multipliers.
    `held`: the first of the largest of them, which spans all active rows. `shifts`: the gradient that `held` hands to
    each shift when a loss pulls x by (0, 1); the rows outside it get 0. `ranges`: the least and the largest multiplier
    of each row (the largest is None where there is none). Errors: ValueError for a row or a point that is not one.

    >>> found = explore([(0, 0.0), (6, 0.0), (3, 0.0)], (1.5, 0.5))
    >>> found["x"], found["active"], [rows for rows, _ in found["family"]]
    ((0.0, 0.0), [0, 1, 2], [(0, 1), (0, 2)])
    """
    import lablib

    raw = torch.tensor(_two_numbers("y", y), dtype=torch.float64)
    for i, row in enumerate(rows):
        turn, _ = _two_numbers(f"rows[{i}]", row)
        if turn != int(turn) or not 0 <= turn < TURNS:
            raise ValueError(f"rows[{i}]: expected a turn out of 0, 1, ..., {TURNS - 1}, got {turn:g}")
    if not rows:
        raise ValueError("rows: expected one half-plane at least")
    normals = [normal(int(turn)) for turn, _ in rows]
    shifts = [float(shift) for _, shift in rows]
    plane = lablib.Polyhedron(G=torch.tensor(normals, dtype=torch.float64), h=torch.tensor(shifts, dtype=torch.float64))
    found: dict[str, Any] = {
        "rows": [(int(turn), float(shift)) for turn, shift in rows],
        "y": (float(raw[0]), float(raw[1])),
        "violation_y": float(plane.violation(raw)),
    }
    certificate = _certificate(normals, shifts)
    if certificate:
        return found | {"empty": True, "certificate": certificate}
    x = plane.project(raw)
    point = (round(float(x[0]), 12) + 0.0, round(float(x[1]), 12) + 0.0)
    low = torch.autograd.functional.jacobian(plane.project, raw).tolist()
    active = [i for i, a in enumerate(normals) if abs(_dot(a, point) - shifts[i]) <= NEAR]
    family = _family(normals, active, _along(found["y"], -1, point))
    held = max((rows for rows, _ in family), key=len)  # the first of the largest
    fewest = torch.tensor([normals[i] for i in min((rows for rows, _ in family), key=len)], dtype=torch.float64)
    # In the plane the smallest set can be looked for; the library's "highest" is one that holds no smaller one.
    high = torch.eye(2, dtype=torch.float64)
    if len(fewest):
        high = high - torch.linalg.pinv(fewest) @ fewest
    spread = [[forces[rows.index(i)] if i in rows else 0.0 for rows, forces in family] for i in range(len(rows))]
    endless = _endless(normals, active)
    return found | {
        "empty": False,
        "x": point,
        "violation_x": float(plane.violation(x)),
        "active": active,
        "face_dimension": 2 - len(held),
        "family": family,
        "held": held,
        "ranges": [(min(s), None if i in endless else max(s)) for i, s in enumerate(spread)],
        "jacobian": low,
        "highest": high.tolist(),
        "descent": tuple(_dot(line, PULL) for line in low),
        "shifts": [
            dict(zip(held, _solve([normals[k] for k in held], PULL), strict=True)).get(i, 0.0) for i in range(len(rows))
        ],
    }


def halfplanes(preset: str = "four", rows: Sequence[Row] | None = None, y: Point | None = None) -> widget.Widget:
    """Return the widget as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    `rows` (four of them) and `y` replace those of the preset.

    >>> halfplanes("fan")
    HalfPlanes(preset='fan', rows=[(0, 0.0), (6, 0.0), (3, 0.0), (15, 1.25)], y=(1.5, 0.5))
    """
    preset, rows, y = _state(preset, rows, y)
    return widget.Widget(
        f"HalfPlanes(preset={preset!r}, rows={rows}, y={y})", lambda: _markup(explore(rows, y), preset, 0, moves=True)
    )


def live(preset: str = "four", rows: Sequence[Row] | None = None, y: Point | None = None) -> Any:
    """Return the widget as an ipywidgets box, with `explore` run in Python at each move.

    >>> [part.description for part in live().children][:6]
    ['start', 'half-plane', 'turn', 'shift h', 'y₁', 'y₂']
    """
    preset, moved, (y1, y2) = _state(preset, rows, y)
    start = widget.live_menu("start", {key: words for key, (words, _, _) in PRESETS.items()}, preset)
    which = widget.live_menu("half-plane", WHICH, "0")
    turn = widget.live_slider("turn", 0, TURNS - 1, 1, moved[0][0])
    shift = widget.live_slider("shift h", *SHIFTS, STEP, moved[0][1])
    first, second = (
        widget.live_slider("y₁", -REACH, REACH, 1 / GRID, y1),
        widget.live_slider("y₂", -REACH, REACH, 1 / GRID, y2),
    )
    setting = []  # not empty while sliders are set to what they are to show: then they move no half-plane

    def show_chosen(_change: Any = None) -> None:
        setting.append(True)
        turn.value, shift.value = moved[int(which.value)]
        setting.pop()

    def begin_again(_change: Any) -> None:
        _, usual, point = PRESETS[start.value]
        moved[:] = usual
        show_chosen()
        first.value, second.value = point

    which.observe(show_chosen, names="value")
    start.observe(begin_again, names="value")

    def draw(start: str, which: str, turn: float, shift: float, y1: float, y2: float) -> str:
        if not setting:
            moved[int(which)] = (int(turn), shift)
        return _markup(explore(moved, (y1, y2)), start, int(which), moves=False)

    return widget.live_box([start, which, turn, shift, first, second], draw)


# --- the mathematics of a few rows in the plane; halfplanes.js says the same in JavaScript ----------------------------


def _two_numbers(name: str, pair: Any) -> Point:
    if len(pair) != 2:
        raise ValueError(f"{name}: expected two numbers, got {len(pair)}")
    if not all(math.isfinite(v) for v in pair):
        raise ValueError(f"{name}: expected finite numbers, got {tuple(pair)}")
    return (float(pair[0]), float(pair[1]))


def _state(preset: str, rows: Sequence[Row] | None, y: Point | None) -> tuple[str, list[Row], Point]:
    if preset not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    _, usual, point = PRESETS[preset]
    rows, y = usual if rows is None else rows, point if y is None else y
    if len(rows) != 4:
        raise ValueError(f"rows: expected four half-planes, got {len(rows)}")
    low, high = SHIFTS
    moved = [(int(turn) % TURNS, min(max(round(shift / STEP) * STEP, low), high)) for turn, shift in rows]
    y1, y2 = (min(max(round(v * GRID) / GRID, -REACH), REACH) for v in _two_numbers("y", y))
    return preset, moved, (y1, y2)


def _cross(a: Point, b: Point) -> float:
    return a[0] * b[1] - a[1] * b[0]


def _solve(normals: list[Point], d: Point) -> list[float]:
    """Return the coefficients of the combination of at most two independent unit normals that is nearest to d."""
    if len(normals) < 2:
        return [_dot(a, d) for a in normals]
    a, b = normals
    det = _cross(a, b)
    return [_cross(d, b) / det, _cross(a, d) / det]


def _family(normals: list[Point], active: list[int], d: Point) -> list[tuple[tuple[int, ...], list[float]]]:
    """List the index sets that carry d = y - x alone, each with its multipliers."""
    found = []
    for size in range(3):
        for rows in itertools.combinations(active, size):
            chosen = [normals[k] for k in rows]
            if size == 2 and abs(_cross(*chosen)) <= NEAR:
                continue
            forces = _solve(chosen, d)
            rest = d
            for force, a in zip(forces, chosen, strict=True):
                rest = _along(rest, -force, a)
            if math.hypot(*rest) <= NEAR and all(force >= -NEAR for force in forces):
                found.append((rows, [max(force, 0.0) for force in forces]))
    return found


def _dependencies(normals: list[Point], among: list[int]) -> list[tuple[tuple[int, ...], list[float]]]:
    """List the sets of two or three rows with positive weights, summing to 1, under which their normals add up to 0."""
    found = []
    for i, j in itertools.combinations(among, 2):
        if math.hypot(*_along(normals[i], 1, normals[j])) <= NEAR:
            found.append(((i, j), [0.5, 0.5]))
    for rows in itertools.combinations(among, 3):
        a, b, c = (normals[k] for k in rows)
        weights = [_cross(b, c), _cross(c, a), _cross(a, b)]
        total = sum(weights)
        if abs(total) > NEAR and all(w / total > NEAR for w in weights):
            found.append((rows, [w / total for w in weights]))
    return found


def _endless(normals: list[Point], active: list[int]) -> set[int]:
    """The active rows whose multiplier may grow without end."""
    return {i for rows, _ in _dependencies(normals, active) for i in rows}


def _certificate(normals: list[Point], shifts: list[float]) -> tuple[tuple[int, ...], list[float], float] | None:
    """Rows, weights and the negative number below which their sum pushes 0, the strongest such; None if there is none.

    Weights w >= 0 with sum_i w_i a_i = 0 and sum_i w_i b_i < 0 prove that no x satisfies all rows: added up, they say
    0 <= sum_i w_i b_i. In the plane two or three rows are enough.
    """
    best = None
    for rows, weights in _dependencies(normals, list(range(len(normals)))):
        says = sum(w * shifts[i] for i, w in zip(rows, weights, strict=True))
        if says < -NEAR and (best is None or says < best[2] - NEAR):
            best = (rows, weights, says)
    return best


def _outline(rows: list[Row]) -> list[Point]:
    """The corners of the set inside the picture, in order: the square, cut by one half-plane after another."""
    corners = [(-SIDE, -SIDE), (SIDE, -SIDE), (SIDE, SIDE), (-SIDE, SIDE)]
    for turn, shift in rows:
        a, kept = normal(turn), []
        for p, q in zip(corners, corners[1:] + corners[:1], strict=True):
            inside, ahead = _dot(a, p) - shift, _dot(a, q) - shift
            if inside <= NEAR:
                kept.append(p)
            if (inside < -NEAR and ahead > NEAR) or (inside > NEAR and ahead < -NEAR):
                t = inside / (inside - ahead)
                kept.append(_along(p, t, (q[0] - p[0], q[1] - p[1])))
        corners = kept
    return corners


def _seat(row: Row, index: int) -> Point:
    """Where the handle of a half-plane sits: on its line, out at the picture's rim; odd rows at the other end."""
    a, shift = normal(row[0]), row[1]
    t = math.sqrt(max(SEAT * SEAT - shift * shift, 0)) * (-1 if index % 2 else 1)
    return _along((shift * a[0], shift * a[1]), t, (-a[1], a[0]))


# --- what is drawn and said ------------------------------------------------------------------------------------------


def _line(row: Row) -> str:
    """The line of a half-plane across the picture, with teeth on the forbidden side."""
    a, shift = normal(row[0]), row[1]
    foot, along = (shift * a[0], shift * a[1]), (-a[1], a[0])
    teeth = [_along(foot, k / 4, along) for k in range(-10, 11)]
    return _path([_along(foot, -3, along), _along(foot, 3, along)]) + "".join(
        _path([p, _along(p, HATCH, a)]) for p in teeth
    )


def _scene(state: dict[str, Any], chosen: int) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    rows, y = state["rows"], state["y"]
    scene = []
    for i, row in enumerate(rows):
        scene.append((f"line-{i}", "d", _line(row)))
        scene.append((f"handle-{i}", "transform", f"translate({' '.join(_at(_seat(row, i)))})"))
        push = state["ranges"][i][0] > NEAR if not state["empty"] else i in state["certificate"][0]
        scene.append((f"line-{i}", "data-look", "push" if push else "chosen" if i == chosen else ""))
    scene.append(("y", "transform", f"translate({' '.join(_at(y))})"))
    above = y[1] < 1.3
    at = _at((min(max(y[0], -1.0), 1.0), y[1] + (0.32 if above else -0.44)))
    scene += [("label-y", "x", at[0]), ("label-y", "y", at[1])]
    scene.append(("label-y", "text", f"raw y: off by {fixed(state['violation_y'], 3)}"))
    empty = ("set", "cone", "face", "reach", "forces", "pull", "descent")
    if state["empty"]:
        scene += [(part, "d", "") for part in empty]
        return [*scene, ("x", "transform", "translate(-90 -90)"), ("label-x", "text", "no x: the set is empty")]
    x, held, outline = state["x"], state["held"], _outline(rows)
    normals = [normal(turn) for turn, _ in rows]
    near = [p for p in outline if all(abs(_dot(normals[i], p) - rows[i][1]) <= NEAR for i in state["active"])]
    dimension = state["face_dimension"]
    wedges = ""
    for i, j in itertools.combinations(state["active"], 2):
        if abs(_cross(normals[i], normals[j])) > NEAR:
            wedges += _path([x, _along(x, 9, normals[i]), _along(x, 9, normals[j])], "Z")
    rays = "".join(_path([x, _along(x, 9, normals[i])]) for i in state["active"])
    forces, at_force = "", x
    for k, force in zip(held, dict(state["family"])[held], strict=True):
        tip = _along(at_force, force, normals[k])
        forces += _head(at_force, tip)
        at_force = tip
    inside = math.hypot(y[0] - x[0], y[1] - x[1]) < NEAR
    return [
        *scene,
        ("set", "d", _path(outline, "Z")),
        ("cone", "d", wedges + rays),
        ("face", "d", _path([x, x]) if dimension == 0 else _path(near, "Z" if dimension == 2 else "")),
        ("reach", "d", "" if inside else _path([y, x])),
        ("forces", "d", forces),
        ("pull", "d", _arrow(x, PULL)),
        ("descent", "d", "" if inside else _arrow(y, state["descent"])),
        ("x", "transform", f"translate({' '.join(_at(x))})"),
        ("label-x", "text", ""),
    ]


def _head(p: Point, tip: Point) -> str:
    """An arrow from p to tip, or nothing where they are one."""
    d = (tip[0] - p[0], tip[1] - p[1])
    length = math.hypot(*d)
    if length < 0.02:
        return ""
    u = (d[0] / length, d[1] / length)
    q, back = (-u[1], u[0]), _along(tip, -0.11, u)
    return _path([p, tip]) + _path([_along(back, 0.06, q), tip, _along(back, -0.06, q)])


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    y, space = state["y"], "\N{NO-BREAK SPACE}"

    def pair(p: Point) -> str:
        return f"({fixed(p[0], 2)},{space}{fixed(p[1], 2)})"

    def names(rows: Sequence[int]) -> str:
        return ", ".join(str(i + 1) for i in rows)

    off_y = fixed(state["violation_y"], 3)
    if state["empty"]:
        rows, weights, says = state["certificate"]
        sum_of = " + ".join(f"{fixed(w, 2)} × row {i + 1}" for i, w in zip(rows, weights, strict=True))
        return [
            ("violation-y", off_y),
            ("violation-x", "no x"),
            ("violation", f"y {off_y},  no x"),
            ("points", f"y = {pair(y)}"),
            ("active", f"rows {names(rows)} contradict each other"),
            ("smallest-face", "the set is empty"),
            ("multipliers", f"proof: {sum_of} says 0 ≤ {fixed(says, 3)}"),
            ("family", "none"),
            ("jacobian", "none: lablib raises an error that holds the proof"),
            ("gradient", "none"),
        ]
    off_x = fixed(state["violation_x"], 3)
    (j11, j12), (j21, j22) = ([fixed(v, 2) for v in row] for row in state["jacobian"])
    higher = round(state["highest"][0][0] + state["highest"][1][1]) - (2 - len(state["held"]))
    forces = []
    for i in state["active"]:
        low, high = state["ranges"][i]
        to = " or more" if high is None else f" to {fixed(high, 2)}" if high - low > NEAR else ""
        forces.append(f"λ{str(i + 1).translate(SMALL_DIGITS)} = {fixed(low, 2)}{to}".replace(" ", space))
    reaches = pair(state["descent"]) if math.hypot(*state["descent"]) >= NEAR else "nothing"
    to_shift = [f"h{str(i + 1).translate(SMALL_DIGITS)}{space}{fixed(state['shifts'][i], 2)}" for i in state["held"]]
    return [
        ("violation-y", off_y),
        ("violation-x", off_x),
        ("violation", f"y {off_y},  x {off_x}"),
        ("points", f"y = {pair(y)},  x{space}={space}{pair(state['x'])}"),
        ("active", f"rows {names(state['active'])}" if state["active"] else "none"),
        ("smallest-face", f"{('a corner', 'an edge', 'the whole set')[state['face_dimension']]}"),
        ("multipliers", ";  ".join(forces) or "none"),
        ("family", "  ".join(f"{{{names(rows)}}}" if rows else "{ }" for rows, _ in state["family"])),
        (
            "jacobian",
            f"[{j11}  {j12};  {j21}  {j22}], rank {2 - len(state['held'])}"
            + (f"; the highest has rank {2 - len(state['held']) + higher}" if higher else ""),
        ),
        ("gradient", f"to y {reaches};  to the shifts {', '.join(to_shift) or 'nothing'}"),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LAYERS = {
    "cone": (
        "normal cone at x: all of it lands on x",
        '<path class="hp-cone" d="M2 14L32 4V14Z"/>',
    ),
    "forces": ("multipliers: each touching row pushes", '<path class="hp-force" d="M4 9H30M24 4L30 9L24 14"/>'),
    "gradient": ("a loss pulls x up; what reaches y", '<path class="hp-arrow" d="M4 9H30M24 4L30 9L24 14"/>'),
}

LINES = (
    ("violation", "violation"),
    ("points", "points"),
    ("active", "touching"),
    ("smallest-face", "face"),
    ("multipliers", "multipliers"),
    ("family", "index family"),
    ("jacobian", "Jacobian J"),
    ("gradient", "gradient"),
)


def _picture(state: dict[str, Any], chosen: int, moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state, chosen):
        values.setdefault(part, {})[attribute] = value

    def path(part: str, style: str = "") -> str:
        look = f' data-look="{values[part]["data-look"]}"' if "data-look" in values[part] else ""
        return f'<path class="hp-{style or part}" data-part="{part}" d="{values[part]["d"]}"{look}/>'

    axes = '<path class="w-axis" d="M0 240H480M240 0V480"/>'
    lines = "".join(path(f"line-{i}", "line") for i in range(len(state["rows"])))
    grips = ""
    for i, (turn, shift) in enumerate(state["rows"]):
        role = (
            f' {widget.GRIP} aria-label="half-plane {i + 1}: up and down shift it, left and '
            f'right turn it" aria-valuemin="-1.25" aria-valuemax="1.25" aria-valuenow="{fixed(shift, 4, "-")}" '
            f'aria-valuetext="{_where(turn, shift)}" data-chosen="{str(i == chosen).lower()}"'
            if moves
            else ""
        )
        grips += (
            f'<g data-part="handle-{i}" transform="{values[f"handle-{i}"]["transform"]}"{role}>'
            f'<circle class="w-ring" r="24"/><circle class="hp-knob" r="14"/><text y="6">{i + 1}</text></g>'
        )
    grip = ""
    if moves:
        y1, y2 = (fixed(v, 2) for v in state["y"])
        grip = (
            f' {widget.GRIP} aria-label="raw prediction y: arrow keys move it, with shift '
            f'further" aria-valuemin="-1.75" aria-valuemax="1.75" aria-valuenow="{fixed(state["y"][0], 2, "-")}" '
            f'aria-valuetext="y₁ {y1}, y₂ {y2}"'
        )
    label = values["label-y"]
    return (
        '<svg viewBox="0 0 480 480" role="group" aria-label="The plane: four half-planes, the set that they leave, a '
        'raw prediction y, and its projection x">'
        f'<g aria-hidden="true">{axes}{lines}<g data-group="cone">{path("cone")}</g>{path("set")}{path("face")}'
        f'{path("reach")}<g data-group="forces">{path("forces", "force")}</g>'
        f'<g data-group="gradient">{path("pull", "arrow")}{path("descent", "arrow")}</g>'
        f'<path class="hp-x" data-part="x" d="M-8 -8H8V8H-8Z" transform="{values["x"]["transform"]}"/></g>{grips}'
        f'<text data-part="label-y" x="{label["x"]}" y="{label["y"]}">{label["text"]}</text>'
        f'<text data-part="label-x" x="240" y="226">{values["label-x"]["text"]}</text>'
        f'<g data-part="y" transform="{values["y"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<circle class="hp-y" r="11"/></g></svg>'
    )


def _where(turn: int, shift: float) -> str:
    return f"turned by {15 * turn}°, shift {fixed(shift, 2)}"


def _markup(state: dict[str, Any], preset: str, chosen: int, moves: bool) -> str:
    """Return the widget's HTML: with `moves` its controls and script too, else the picture and the read-out alone."""
    words = dict(_words(state))
    (turn, shift), (y1, y2) = state["rows"][chosen], state["y"]
    return widget.page(
        "halfplanes",
        {"preset": preset, "rows": [list(row) for row in state["rows"]], "y": [y1, y2], "chosen": chosen},
        _picture(state, chosen, moves)
        + widget.tiles(
            "violation: how far the worst row is broken",
            [
                ("violation-y", "raw y", words["violation-y"]),
                ("violation-x", "projected x", words["violation-x"]),
            ],
        )
        + widget.legend(LAYERS, moves),
        widget.menu("preset", "start", {key: text for key, (text, _, _) in PRESETS.items()}, preset)
        + widget.menu("chosen", "half-plane", WHICH, str(chosen))
        + widget.slider("turn", "turn", 0, TURNS - 1, 1, turn, f"{15 * turn}°")
        + widget.slider("shift", "shift h", *SHIFTS, STEP, shift)
        + widget.slider("y1", "y₁", -REACH, REACH, 1 / GRID, y1)
        + widget.slider("y2", "y₂", -REACH, REACH, 1 / GRID, y2)
        + "<p>Drag a numbered handle to shift its half-plane. Teeth point to the forbidden side.</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {
            "rank": "2" if state["empty"] else str(state["face_dimension"]),
            "feasible": str(state["violation_y"] < NEAR).lower(),
        },
        moves,
    )
