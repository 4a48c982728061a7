"""The feasible-set explorer: drag a raw prediction y in the plane and see what its projection x does, and why.

Numbers only, a pure function of its parameters, computed with lablib's sets:

    from lablib.teaching import explorer
    explorer.explore("simplex", y=(1.5, 0.5), size=1.0)

A dict: `x` (the projection), `face_dimension`, `active` (names of the active constraints), `jacobian` (the HS-Jacobian
at y, 2 by 2: its smallest element), `kink` (whether it has larger ones), `violation_y`, `violation_x`, `gap` (the
normal-cone certificate), `descent` (what of a loss's pull on x reaches y).

In a page, with no kernel and no network; the first state shows without script too:

    explorer.explorer()                                  # last line of a cell: shown through _repr_html_
    explorer.explorer(set="simplex", y=(1.5, 0.5), size=1.0)

In a lab, moved by ipywidgets and computed in Python at each step; shown in JupyterLab and in Colab:

    explorer.live(set="l1ball")

For the front page, one still picture, a complete SVG (`str(explorer.still())`; in a cell it shows itself):

    explorer.still()

`set` is one of "box", "simplex", "l1ball", "boxbudget", "affine" (a class name of lablib does as well). The explorer
keeps y on a grid of 1/64 in the square |y_i| <= 7/4, where the arithmetic is exact, so that corners and kinks can be
hit, not only approached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from lablib import sets

from . import widget
from .widget import fixed

__all__ = ["SETS", "Picture", "explore", "explorer", "live", "still"]

SETS = {
    "box": "Box",
    "simplex": "Simplex",
    "l1ball": "L1 ball",
    "boxbudget": "Box with a budget",
    "affine": "Affine (a line)",
}
"""Each set's key and the words for it."""

REACH, SCALE, HALF = 1.75, 120, 240  # how far y may go; pixels per unit; the picture's half width in pixels
SIZES = (0.25, 1.25)
CIRCLE, ARROW, PULL = 0.3, 0.6, (0.0, 1.0)
NEAR = 1e-9
GRID = 64

STILL_TITLE = (
    "A diamond, the feasible set, ringed by raw predictions. A thin line joins each to its projection: fans meet at "
    "the corners, parallel lines reach the edges. One prediction breaks the constraint; its projection does not."
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One set in the plane: rows (a, b, name) that say a.x = b or a.x <= b, the corners in order, and the formula."""

    equal: list[tuple[Point, float, str]]
    rows: list[tuple[Point, float, str]]
    corners: list[Point]
    formula: str


def explore(set: str, y: Point, size: float = 1.0) -> dict[str, Any]:
    """Project `y` on the set named `set` of the given `size`, and say all that the explorer shows about it.

    The set of size s is: box |x_i| <= s; simplex x_1 + x_2 = s, x >= 0; l1ball |x_1| + |x_2| <= s; boxbudget
    x_1 + 2 x_2 = s, 0 <= x_i <= 3s/4; affine x_1 + 2 x_2 = s. `descent` is J (0, 1): the part that reaches y of a loss
    which wants x_2 to grow. Errors: ValueError for an unknown set, a size not positive, a y that is not two numbers.

    >>> found = explore("simplex", (1.5, 0.25))
    >>> found["x"], found["active"], found["violation_y"]
    ((1.0, 0.0), ['x₁ + x₂ = 1.00', 'x₂ ≥ 0'], 0.75)
    """
    key = _key(set)
    if not (math.isfinite(size) and size > 0):
        raise ValueError(f"size: expected a positive number, got {size}")
    if len(y) != 2:
        raise ValueError(f"y: expected two numbers, got {len(y)}")
    s = _lablib_set(key, float(size))
    raw = torch.tensor([float(y[0]), float(y[1])], dtype=torch.float64)
    x, info = s.project(raw, return_info=True)
    jacobian = torch.autograd.functional.jacobian(s.project, raw)
    largest = torch.autograd.functional.jacobian(lambda at: s.project(at, element="highest"), raw)
    shape = _shape(key, float(size))
    point = (float(x[0]), float(x[1]))
    active = [name for _, _, name in shape.equal] + [name for _, _, name in _tight(shape, point)]
    return {
        "set": key,
        "size": float(size),
        "y": (float(y[0]), float(y[1])),
        "x": point,
        "face_dimension": round(float(jacobian.trace())),
        "active": active,
        "jacobian": jacobian.tolist(),
        "kink": round(float(largest.trace())) > round(float(jacobian.trace())),
        "violation_y": float(s.violation(raw)),
        "violation_x": float(s.violation(x)),
        "gap": float(info.gap),
        "descent": tuple((jacobian @ torch.tensor(PULL, dtype=torch.float64)).tolist()),
    }


def explorer(set: str = "l1ball", y: Point = (1.375, 0.75), size: float = 1.0) -> widget.Widget:
    """Return the explorer as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> explorer("simplex", (1.5, 0.25))
    Explorer(set='simplex', y=(1.5, 0.25), size=1.0)
    """
    key, y, size = _state(set, y, size)
    return widget.Widget(
        f"Explorer(set={key!r}, y={y}, size={size})", lambda: _markup(explore(key, y, size), moves=True)
    )


def live(set: str = "l1ball", y: Point = (1.375, 0.75), size: float = 1.0) -> Any:
    """Return the explorer as an ipywidgets box: a menu and three sliders, with `explore` run in Python at each move.

    >>> [part.description for part in live().children][:4]
    ['set', 'y₁', 'y₂', 'size s']
    """
    key, (y1, y2), size = _state(set, y, size)
    controls = [
        widget.live_menu("set", SETS, key),
        widget.live_slider("y₁", -REACH, REACH, 1 / GRID, y1),
        widget.live_slider("y₂", -REACH, REACH, 1 / GRID, y2),
        widget.live_slider("size s", *SIZES, 1 / 8, size),
    ]
    return widget.live_box(controls, lambda key, y1, y2, size: _markup(explore(key, (y1, y2), size), moves=False))


@dataclass(frozen=True)
class Picture:
    """An SVG that a notebook shows inside the page, so that it follows the page's light or dark mode."""

    svg: str

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return "Picture()"

    def _repr_html_(self) -> str:
        return self.svg


def still(title: str = STILL_TITLE) -> Picture:
    """Return the front page's picture: predictions all round a feasible set, each on its way to its projection.

    >>> still().svg.count("<svg")
    1
    """
    ball = sets.L1Ball(2, radius=1.0, weights=torch.tensor([1.0, 1.4], dtype=torch.float64))
    turn = [math.pi * (i + 0.5) / 36 for i in range(72)]
    ring = torch.tensor([[1.72 * math.cos(t), 1.27 * math.sin(t)] for t in turn], dtype=torch.float64)
    landed = ball.project(ring)
    y = torch.tensor([1.42, 0.3], dtype=torch.float64)
    x = ball.project(y)

    def at(p: Any) -> str:
        return f"{fixed(260 + 140 * float(p[0]), 1, '-')} {fixed(250 - 140 * float(p[1]), 1, '-')}"

    def breaks(p: Any) -> str:
        return fixed(float(ball.violation(p)), 2)

    def text(place: str, strong: str, plain: str) -> str:
        left, top, anchor = place.split()
        return (
            f'<text x="{left}" y="{top}" text-anchor="{anchor}"><tspan class="strong">{strong}</tspan>'
            f'<tspan x="{left}" dy="24">{plain}</tspan></text>'
        )

    body = "L".join(at(p) for p in ((1, 0), (0, 1 / 1.4), (-1, 0), (0, -1 / 1.4)))
    wedge = "L".join(at(p) for p in ((1, 0), (5, 5.6), (5, -5.6)))
    paths = {
        "cone": f"M{wedge}Z",
        "threads": "".join(f"M{at(a)}L{at(b)}" for a, b in zip(ring, landed, strict=True)),
        "body": f"M{body}Z",
        "tint": f"M{body}Z",
        "dots": "".join(f"M{at(a)}h0" for a in ring),
        "reach": f"M{at(y)}L{at(x)}",
        "x": f"M{at(x)}h0",
        "y": f"M{at(y)}h0",
    }
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ex-still" viewBox="0 0 520 500" role="img" '
        f'aria-label="{title}">'
        f"<style>\n{widget.shipped('still.css')}</style>"
        '<rect class="paper" width="520" height="500" rx="12"/>'
        + "".join(f'<path class="{name}" d="{d}"/>' for name, d in paths.items())
        + text("508 34 end", "raw prediction", f"breaks the constraint by {breaks(y)}")
        + text("366 248 end", "its projection", f"breaks it by {breaks(x)}")
        + text("508 462 end", "normal cone", "all of it lands on this corner")
        + text("12 462 start", "feasible set", "the diamond")
        + "</svg>"
    )


# --- the sets in the plane -------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if key not in SETS:
        raise ValueError(f"set: expected one of {', '.join(SETS)}, got {name!r}")
    return key


def _state(set: str, y: Point, size: float) -> tuple[str, Point, float]:
    y1, y2 = (min(max(round(v * GRID) / GRID, -REACH), REACH) for v in y)
    return _key(set), (y1, y2), min(max(round(size * 8) / 8, SIZES[0]), SIZES[1])


def _lablib_set(key: str, s: float) -> Any:
    plane = torch.tensor([1.0, 2.0], dtype=torch.float64)
    corner = torch.ones(2, dtype=torch.float64)
    if key == "box":
        return sets.Box(-s * corner, s * corner)
    if key == "simplex":
        return sets.Simplex(2, total=s)
    if key == "l1ball":
        return sets.L1Ball(2, radius=s)
    if key == "boxbudget":
        return sets.BoxBudget(0 * corner, 0.75 * s * corner, plane, s)
    return sets.Affine(plane[None], torch.tensor([s], dtype=torch.float64))


def _shape(key: str, s: float) -> Shape:
    n = fixed(s, 2)
    positive = [((-1.0, 0.0), 0.0, "x₁ ≥ 0"), ((0.0, -1.0), 0.0, "x₂ ≥ 0")]
    if key == "box":
        names = (f"x₁ ≤ {n}", f"x₂ ≤ {n}", f"x₁ ≥ −{n}", f"x₂ ≥ −{n}")
        normals = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
        rows = [(a, s, name) for a, name in zip(normals, names, strict=True)]
        return Shape([], rows, [(s, s), (-s, s), (-s, -s), (s, -s)], f"|x₁| ≤ {n},  |x₂| ≤ {n}")
    if key == "simplex":
        equal = [((1.0, 1.0), s, f"x₁ + x₂ = {n}")]
        return Shape(equal, positive, [(s, 0.0), (0.0, s)], f"x₁ + x₂ = {n},  x₁ ≥ 0,  x₂ ≥ 0")
    if key == "l1ball":
        names = (f"x₁ + x₂ ≤ {n}", f"−x₁ + x₂ ≤ {n}", f"−x₁ − x₂ ≤ {n}", f"x₁ − x₂ ≤ {n}")
        normals = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))
        rows = [(a, s, name) for a, name in zip(normals, names, strict=True)]
        return Shape([], rows, [(s, 0.0), (0.0, s), (-s, 0.0), (0.0, -s)], f"|x₁| + |x₂| ≤ {n}")
    equal = [((1.0, 2.0), s, f"x₁ + 2x₂ = {n}")]
    if key == "affine":
        return Shape(equal, [], [(s + 8, -4.0), (s - 8, 4.0)], f"x₁ + 2x₂ = {n}")
    cap = 0.75 * s
    c = fixed(cap, 2)
    rows = [*positive, ((1.0, 0.0), cap, f"x₁ ≤ {c}"), ((0.0, 1.0), cap, f"x₂ ≤ {c}")]
    return Shape(equal, rows, [(cap, 0.125 * s), (0.0, 0.5 * s)], f"x₁ + 2x₂ = {n},  0 ≤ x₁, x₂ ≤ {c}")


def _tight(shape: Shape, x: Point) -> list[tuple[Point, float, str]]:
    return [row for row in shape.rows if abs(_dot(row[0], x) - row[1]) <= NEAR]


def _cone(shape: Shape, x: Point) -> tuple[list[Point], list[Point]]:
    """Return the normal cone at x: its edges, and, where it has an inside, the directions that span it."""
    tight = [_unit(a) for a, _, _ in _tight(shape, x)]
    if not shape.equal:
        return (tight, []) if len(tight) < 2 else (tight, [tight[0], _unit(_along(tight[0], 1, tight[1])), tight[1]])
    normal = _unit(shape.equal[0][0])
    back = (-normal[0], -normal[1])
    if not tight:
        return [normal, back], []
    out = _unit(_along(tight[0], -_dot(tight[0], normal), normal))
    return [normal, back], [normal, out, back]


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1]


def _along(p: Point, t: float, d: Point) -> Point:
    return (p[0] + t * d[0], p[1] + t * d[1])


def _unit(d: Point) -> Point:
    norm = math.sqrt(_dot(d, d))
    return (d[0] / norm, d[1] / norm)


# --- what is drawn and said; explorer.js says the same in JavaScript --------------------------------------------------


def _at(p: Point) -> tuple[str, str]:
    return fixed(HALF + SCALE * p[0], 1, "-"), fixed(HALF - SCALE * p[1], 1, "-")


def _path(points: list[Point], end: str = "") -> str:
    return "M" + "L".join(" ".join(_at(p)) for p in points) + end if points else ""


def _circle(p: Point, r: float) -> str:
    d, span = fixed(SCALE * r, 1), fixed(2 * SCALE * r, 1)
    return f"M{' '.join(_at(_along(p, -r, (1, 0))))}a{d} {d} 0 1 0 {span} 0a{d} {d} 0 1 0 -{span} 0Z"


def _bar(p: Point, d: Point, r: float) -> str:
    q = (-d[1], d[0])
    a, b = _along(p, -r, d), _along(p, r, d)
    caps = [_path([_along(end, -0.07, q), _along(end, 0.07, q)]) for end in (a, b)]
    return caps[0] + _path([a, b]) + caps[1]


def _arrow(p: Point, d: Point) -> str:
    length = ARROW * math.sqrt(_dot(d, d))
    if length < NEAR:
        return ""
    u = _unit(d)
    q = (-u[1], u[0])
    tip = _along(p, length, u)
    back = _along(tip, -0.13, u)
    return _path([p, tip]) + _path([_along(back, 0.08, q), tip, _along(back, -0.08, q)])


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    key, size, y, x = state["set"], state["size"], state["y"], state["x"]
    (j11, j12), (j21, j22) = state["jacobian"]
    dimension = state["face_dimension"]
    shape = _shape(key, size)
    edges, fan = _cone(shape, x)
    tight = _tight(shape, x)
    near = [c for c in shape.corners if all(abs(_dot(a, c) - b) <= NEAR for a, b, _ in tight)]
    inside = math.hypot(y[0] - x[0], y[1] - x[1]) < NEAR
    up = y[1] >= x[1]
    cap = 0.75 * size

    def spot(p: Point, above: bool, far: float) -> tuple[str, str]:
        return _at((min(max(p[0], -1.05), 1.05), p[1] + (far if above else -far - 0.12)))

    if dimension == 2:
        image = _circle(x, CIRCLE)
    elif dimension == 1:
        image = _bar(x, _unit((j11, j21) if abs(j11) >= abs(j22) else (j12, j22)), CIRCLE)
    else:
        image = _path([x, x])
    rays = "".join(_path([x, _along(x, 12, d)]) for d in edges)
    label_x, label_y = spot(x, not up, 0.3), spot(y, y[1] < -1.4 or (up and y[1] < 1.48), 0.36)
    return [
        ("frame", "d", _path([(0, 0), (cap, 0), (cap, cap), (0, cap)], "Z") if key == "boxbudget" else ""),
        ("set", "d", _path(shape.corners, "" if shape.equal else "Z")),
        ("cone", "d", _path([x, *(_along(x, 12, d) for d in fan)], "Z") if fan else ""),
        ("band", "d", "" if fan else rays),
        ("rays", "d", rays),
        ("face", "d", _path([x, x]) if dimension == 0 else _path(near, "Z" if dimension == 2 else "")),
        ("reach", "d", "" if inside else _path([y, x])),
        ("circle", "d", _circle(y, CIRCLE)),
        ("halo", "d", image),
        ("image", "d", image),
        ("pull", "d", _arrow(x, PULL)),
        ("descent", "d", "" if inside else _arrow(y, state["descent"])),
        ("x", "transform", f"translate({' '.join(_at(x))})"),
        ("y", "transform", f"translate({' '.join(_at(y))})"),
        ("label-x", "x", label_x[0]),
        ("label-x", "y", label_x[1]),
        ("label-x", "text", "" if inside else f"projected x: {fixed(state['violation_x'], 3)}"),
        ("label-y", "x", label_y[0]),
        ("label-y", "y", label_y[1]),
        ("label-y", "text", f"{'y = x' if inside else 'raw y'}: off by {fixed(state['violation_y'], 3)}"),
    ]


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    key, y, x, dimension = state["set"], state["y"], state["x"], state["face_dimension"]
    shape = _shape(key, state["size"])

    def pair(p: Point) -> str:
        return f"({fixed(p[0], 2)},\N{NO-BREAK SPACE}{fixed(p[1], 2)})"

    off_y, off_x = fixed(state["violation_y"], 3), fixed(state["violation_x"], 3)
    edge = "an edge" if not shape.equal else "the whole line" if key == "affine" else "the whole segment"
    face = ("a corner", edge, "the whole set")[dimension]
    image = ("a point", "a segment", "itself")[dimension]
    (j11, j12), (j21, j22) = ([fixed(v, 2) for v in row] for row in state["jacobian"])
    reaches = pair(state["descent"]) if math.hypot(*state["descent"]) >= NEAR else "nothing: training stands still"
    choice = "; at this kink a larger image is legal too" if state["kink"] else ""
    return [
        ("violation-y", off_y),
        ("violation-x", off_x),
        ("violation", f"y {off_y},  x {off_x}"),
        ("formula", shape.formula),
        ("points", f"y = {pair(y)},  x\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{pair(x)}"),
        ("active", ";  ".join(state["active"]) or "none"),
        ("smallest-face", f"{face}, dimension {dimension}"),
        ("jacobian", f"[{j11}  {j12};  {j21}  {j22}] turns the circle into {image}{choice}"),
        ("gradient", f"a loss pulls x by {pair(PULL)}; what reaches y is {reaches}"),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LAYERS = {
    "cone": (
        "normal cone: all of it lands on x",
        '<path class="ex-band" d="M2 9H32"/><path class="ex-rays" d="M2 9H32"/>',
    ),
    "jacobian": (
        "circle round y; its image at x",
        '<path class="ex-circle" d="M2 9a7 7 0 1 0 14 0a7 7 0 1 0 -14 0Z"/>'
        '<path class="ex-image" d="M22 4V14M22 9H32M32 4V14"/>',
    ),
    "gradient": ("a loss pulls x up; what reaches y", '<path class="ex-arrow" d="M4 9H30M24 4L30 9L24 14"/>'),
}

LINES = (
    ("violation", "violation"),
    ("formula", "set"),
    ("points", "points"),
    ("active", "active"),
    ("smallest-face", "face"),
    ("jacobian", "Jacobian J"),
    ("gradient", "gradient"),
)


def _picture(state: dict[str, Any], moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value

    def path(part: str, style: str = "") -> str:
        return f'<path class="ex-{style or part}" data-part="{part}" d="{values[part]["d"]}"/>'

    def label(part: str) -> str:
        place = values[part]
        return f'<text data-part="{part}" x="{place["x"]}" y="{place["y"]}">{place["text"]}</text>'

    axes = '<path class="w-axis" d="M0 240H480M240 0V480"/>' + "".join(
        f'<text class="w-tick" x="{_at((t, 0))[0]}" y="258">{fixed(t, 0)}</text>'
        f'<text class="w-tick" x="226" y="{fixed(HALF - SCALE * t + 5, 0)}">{fixed(t, 0)}</text>'
        for t in (-1, 1)
    )
    names = '<text class="w-tick" x="466" y="232">x₁</text><text class="w-tick" x="258" y="16">x₂</text>'
    grip = ""
    if moves:
        y1, y2 = (fixed(v, 2) for v in state["y"])
        grip = (
            f' {widget.GRIP} aria-label="raw prediction y: arrow keys move it, with shift '
            f'further" aria-valuemin="-1.75" aria-valuemax="1.75" aria-valuenow="{fixed(state["y"][0], 2, "-")}" '
            f'aria-valuetext="y₁ {y1}, y₂ {y2}"'
        )
    return (
        '<svg viewBox="0 0 480 480" role="group" aria-label="The plane: the feasible set, a raw prediction y, and its '
        'projection x">'
        f'<g aria-hidden="true">{axes}{names}{path("frame")}'
        f'<g data-group="cone">{path("cone")}{path("band")}'
        f"{path('rays')}</g>{path('set')}{path('face')}{path('reach')}"
        f'<g data-group="jacobian">{path("circle")}{path("halo")}{path("image")}</g>'
        f'<g data-group="gradient">{path("pull", "arrow")}{path("descent", "arrow")}</g>'
        f'<path class="ex-x" data-part="x" d="M-8 -8H8V8H-8Z" transform="{values["x"]["transform"]}"/>'
        f"{label('label-x')}{label('label-y')}</g>"
        f'<g data-part="y" transform="{values["y"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<circle class="ex-y" r="11"/></g></svg>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the explorer's HTML: with `moves` its controls and script too, else the picture and the read-out alone."""
    words = dict(_words(state))
    y1, y2 = state["y"]
    return widget.page(
        "explorer",
        {"set": state["set"], "y": list(state["y"]), "size": state["size"]},
        _picture(state, moves)
        + widget.tiles(
            "violation: how far the constraint is broken",
            [
                ("violation-y", "raw y", words["violation-y"]),
                ("violation-x", "projected x", words["violation-x"]),
            ],
        )
        + widget.legend(LAYERS, moves),
        widget.menu("set", "set", SETS, state["set"])
        + widget.slider("y1", "y₁", -REACH, REACH, 1 / GRID, y1)
        + widget.slider("y2", "y₂", -REACH, REACH, 1 / GRID, y2)
        + widget.slider("size", "size s", *SIZES, 1 / 8, state["size"])
        + "<p>Drag y until its arrow vanishes: there, training stands still.</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {
            "flat": str(bool(_shape(state["set"], state["size"]).equal)).lower(),
            "rank": str(state["face_dimension"]),
            "feasible": str(state["violation_y"] < NEAR).lower(),
        },
        moves,
    )
