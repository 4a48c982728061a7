"""The rollout: Frank-Wolfe on a polygon, step by step, in four variants; the gap, the zigzag and the temperature.

Numbers only, a pure function of its parameters:

    from lablib.teaching import rollout
    rollout.roll("pentagon", "away", y=(1.5, 0.5), step=7)

A dict: `x` (the iterate after `step` steps), `path` (all iterates up to it), `gap` (the Frank-Wolfe gap at x, which
bounds the `error` f(x) - min f), `solution`, `violation_y`, `violation_x`, `corner` (where the oracle points),
`away` (the corner that an away step leaves), `target` (where the next step heads), `kind` (that step in words), `gaps`
(of every variant, step by step), `bound` (what the softmax oracle's error stays under).

In a page, with no kernel and no network; the first state shows without script too:

    rollout.rollout()                                    # last line of a cell: shown through _repr_html_

In a lab, moved by ipywidgets and computed in Python at each move:

    rollout.live(variant="softmax")

The objective is f(x) = 1/2 (x - y)' P (x - y) with P = stretch u u' + v v', u = (0.8, 0.6), v = (-0.6, 0.8): y is the
unconstrained minimiser, and `stretch` the condition number. "vanilla", "away" and "pairwise" search the line exactly;
"softmax" takes the short step with the largest eigenvalue, at one inverse temperature `beta` = 2**`cold`, held fixed;
its target is a mean of all corners, and on the L1 ball, as in `lablib.frank_wolfe`, of each coordinate's better corner.
The start is the first corner.
"""

from __future__ import annotations

import math
from typing import Any

from . import widget
from .widget import fixed

__all__ = ["SHAPES", "VARIANTS", "live", "roll", "rollout"]

SHAPES = {"pentagon": "Pentagon", "triangle": "Triangle", "diamond": "L1 ball", "square": "Box"}
"""Each shape's key and the words for it."""

VARIANTS = {"vanilla": "vanilla", "away": "away steps", "pairwise": "pairwise", "softmax": "softmax oracle"}
"""Each variant's key and the words for it."""

CORNERS = {
    "pentagon": [(-0.875, 0.5), (-0.5, -0.875), (0.625, -0.75), (1.0, 0.375), (0.125, 1.0)],
    "triangle": [(-1.0, -0.625), (1.0, -0.625), (0.125, 1.0)],
    "diamond": [(-1.0, 0.0), (0.0, -1.0), (1.0, 0.0), (0.0, 1.0)],
    "square": [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)],
}
REACH, SCALE, HALF, GRID = 1.75, 120, 240, 64  # how far y may go; pixels per unit; half width in pixels; y's grid
STEPS, COLD, STRETCH = 60, (0, 12), (1, 8)
LONG, SHORT = (0.8, 0.6), (-0.6, 0.8)
DONE = 1e-13  # a gap that is rounding
TOP, BOTTOM = 1, -9  # powers of ten of the chart

Point = tuple[float, float]


def roll(
    shape: str = "pentagon",
    variant: str = "vanilla",
    y: Point = (1.25, -0.5),
    step: int = 0,
    cold: float = 4,
    stretch: float = 3,
) -> dict[str, Any]:
    """Run the variant on the shape towards y, and say all that the widget shows about the iterate after `step` steps.

    Errors: ValueError for an unknown shape or variant, a step outside 0 to 60, a `cold` or `stretch` out of range, a y
    that is not two finite numbers.

    >>> found = roll("triangle", "pairwise", (0.0, 2.0), step=2)
    >>> round(found["violation_y"], 3), found["violation_x"], found["gap"] >= found["error"]
    (0.672, 0.0, True)
    """
    shape, variant, y, step, cold, stretch = _state(shape, variant, y, step, cold, stretch, snap=False)
    corners = CORNERS[shape]
    beta = 2.0**cold
    runs = {name: _run(corners, y, name, beta, stretch) for name in VARIANTS}
    here = runs[variant][step]
    solution = _solution(corners, y, stretch)
    return {
        "shape": shape,
        "variant": variant,
        "y": y,
        "step": step,
        "cold": cold,
        "beta": beta,
        "stretch": stretch,
        "x": here["x"],
        "path": [one["x"] for one in runs[variant][: step + 1]],
        "gap": here["gap"],
        "error": max(0.0, _value(here["x"], y, stretch) - _value(solution, y, stretch)),
        "solution": solution,
        "value": _value(here["x"], y, stretch),
        "least": _value(solution, y, stretch),
        "violation_y": _violation(corners, y),
        "violation_x": _violation(corners, here["x"]),
        "corner": here["corner"],
        "away": here["away"],
        "target": here["target"],
        "kind": here["kind"],
        "gaps": {name: [one["gap"] for one in run] for name, run in runs.items()},
        "bound": _lambert(((2 if shape == "diamond" else len(corners)) - 1) / math.e) / beta,
    }


def rollout(
    shape: str = "pentagon",
    variant: str = "vanilla",
    y: Point = (1.25, -0.5),
    step: int = 8,
    cold: float = 4,
    stretch: float = 3,
) -> widget.Widget:
    """Return the rollout as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> rollout(variant="away")
    Rollout(shape='pentagon', variant='away', y=(1.25, -0.5), step=8, cold=4, stretch=3)
    """
    state = _state(shape, variant, y, step, cold, stretch)
    names = ("shape", "variant", "y", "step", "cold", "stretch")
    words = ", ".join(f"{name}={value!r}" for name, value in zip(names, state, strict=True))
    return widget.Widget(f"Rollout({words})", lambda: _markup(roll(*state), moves=True))


def live(
    shape: str = "pentagon",
    variant: str = "vanilla",
    y: Point = (1.25, -0.5),
    step: int = 8,
    cold: float = 4,
    stretch: float = 3,
) -> Any:
    """Return the rollout as an ipywidgets box: two menus and five sliders, with `roll` run in Python at each move.

    >>> [part.description for part in live().children][:3]
    ['shape', 'variant', 'step']
    """
    shape, variant, (y1, y2), step, cold, stretch = _state(shape, variant, y, step, cold, stretch)
    controls = [
        widget.live_menu("shape", SHAPES, shape),
        widget.live_menu("variant", VARIANTS, variant),
        widget.live_slider("step", 0, STEPS, 1, step),
        widget.live_slider("log₂ β", *COLD, 1, cold),
        widget.live_slider("y₁", -REACH, REACH, 1 / GRID, y1),
        widget.live_slider("y₂", -REACH, REACH, 1 / GRID, y2),
        widget.live_slider("stretch", *STRETCH, 1, stretch),
    ]

    def markup(shape, variant, step, cold, y1, y2, stretch):
        return _markup(roll(shape, variant, (y1, y2), int(step), cold, stretch), moves=False)

    return widget.live_box(controls, markup)


def _state(shape, variant, y, step, cold, stretch, snap=True):
    """Check the parameters; with `snap` put y, `cold` and `stretch` where the widget's sliders can be."""
    if shape not in SHAPES:
        raise ValueError(f"shape: expected one of {', '.join(SHAPES)}, got {shape!r}")
    if variant not in VARIANTS:
        raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}")
    if len(y) != 2 or not all(math.isfinite(v) for v in y):
        raise ValueError(f"y: expected two finite numbers, got {y!r}")
    if step != int(step) or not 0 <= step <= STEPS:
        raise ValueError(f"step: expected a whole number from 0 to {STEPS}, got {step!r}")
    for name, value, (low, high) in (("cold", cold, COLD), ("stretch", stretch, STRETCH)):
        if not low <= value <= high:
            raise ValueError(f"{name}: expected a number from {low} to {high}, got {value!r}")
    y = (float(y[0]), float(y[1]))
    if snap:
        y = tuple(min(max(round(v * GRID) / GRID, -REACH), REACH) for v in y)
        cold, stretch = round(cold), round(stretch)
    return shape, variant, y, int(step), cold, stretch


# --- the mathematics; rollout.js says the same in JavaScript, in the same order of operations -------------------------


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1]


def _along(p: Point, t: float, d: Point) -> Point:
    return (p[0] + t * d[0], p[1] + t * d[1])


def _gradient(x: Point, y: Point, stretch: float) -> Point:
    d = _along(x, -1, y)
    a, b = stretch * _dot(LONG, d), _dot(SHORT, d)
    return (a * LONG[0] + b * SHORT[0], a * LONG[1] + b * SHORT[1])


def _curvature(d: Point, stretch: float) -> float:
    a, b = _dot(LONG, d), _dot(SHORT, d)
    return stretch * a * a + b * b


def _value(x: Point, y: Point, stretch: float) -> float:
    return 0.5 * _curvature(_along(x, -1, y), stretch)


def _mean(weights: list[float], corners: list[Point]) -> Point:
    x = (0.0, 0.0)
    for weight, corner in zip(weights, corners, strict=True):
        x = _along(x, weight, corner)
    return x


def _run(corners: list[Point], y: Point, variant: str, beta: float, stretch: float) -> list[dict[str, Any]]:
    """Run one variant. The state is a weight for each corner: the iterate is their mean, so it never leaves."""
    m = len(corners)
    weights = [1.0] + [0.0] * (m - 1)
    found = []
    for _ in range(STEPS + 1):
        x = _mean(weights, corners)
        g = _gradient(x, y, stretch)
        scores = [_dot(g, c) for c in corners]
        corner = scores.index(min(scores))
        gap = max(0.0, _dot(g, _along(x, -1, corners[corner])))
        toward = [float(i == corner) for i in range(m)]
        if variant == "softmax":
            sizes = [math.exp(beta * (scores[corner] - score)) for score in scores]
            if corners == CORNERS["diamond"]:  # of a coordinate's two corners the better one; in a tie their middle
                sizes = [size * _share(scores[i], scores[(i + 2) % 4]) for i, size in enumerate(sizes)]
            total = sum(sizes)
            toward = [size / total for size in sizes]
        held = [i for i in range(m) if weights[i] > 0]
        away = max(held, key=lambda i: scores[i])
        move, longest, kind, left = (
            [t - w for t, w in zip(toward, weights, strict=True)],
            1.0,
            f"towards {corner + 1}",
            -1,
        )
        if variant == "away" and _dot(g, _along(corners[away], -1, x)) > gap:
            move = [w - float(i == away) for i, w in enumerate(weights)]
            longest, kind, left = weights[away] / (1 - weights[away]), f"away from {away + 1}", away
        if variant == "pairwise":
            move = [t - float(i == away) for i, t in enumerate(toward)]
            longest, kind, left = weights[away], f"from {away + 1} to {corner + 1}", away
        d = _mean(move, corners)
        curve = stretch * _dot(d, d) if variant == "softmax" else _curvature(d, stretch)
        gamma = min(max(-_dot(g, d) / curve, 0.0), longest) if curve > 0 and gap > DONE else 0.0
        if variant == "softmax":
            kind = "towards the mean"
        if gap <= DONE:
            kind = "none: done"
        found.append({"x": x, "gap": gap, "corner": corner, "away": left, "target": _along(x, 1, d), "kind": kind})
        weights = [w + gamma * v for w, v in zip(weights, move, strict=True)]
        if left >= 0 and gamma == longest:
            weights[left] = 0.0
    return found


def _share(score: float, other: float) -> float:
    """How much of a coordinate's weight a corner of the L1 ball has, if the corner across has the other score."""
    return 0.5 if score == other else float(score < other)


def _solution(corners: list[Point], y: Point, stretch: float) -> Point:
    """Return the minimiser of f: y inside, else the best point of an edge."""
    if _violation(corners, y) == 0:
        return y
    best, least = corners[0], math.inf
    for a, b in _edges(corners):
        d = _along(b, -1, a)
        t = min(max(-_dot(_gradient(a, y, stretch), d) / _curvature(d, stretch), 0.0), 1.0)
        x = _along(a, t, d)
        if _value(x, y, stretch) < least:
            best, least = x, _value(x, y, stretch)
    return best


def _edges(corners: list[Point]) -> list[tuple[Point, Point]]:
    return list(zip(corners, corners[1:] + corners[:1], strict=True))


def _violation(corners: list[Point], p: Point) -> float:
    """Return how far p is beyond the farthest side; a part in 10^12 is rounding."""
    worst = 0.0
    for a, b in _edges(corners):
        d = _along(b, -1, a)
        beyond = ((p[0] - a[0]) * d[1] - (p[1] - a[1]) * d[0]) / math.sqrt(_dot(d, d))
        worst = max(worst, beyond)
    return 0.0 if worst < 1e-12 else worst


def _lambert(z: float) -> float:
    """Solve w e^w = z for z > 0 by Newton's method."""
    w = math.log(1 + z)
    for _ in range(30):
        e = math.exp(w)
        w = w - (w * e - z) / (e * (w + 1))
    return w


# --- what is drawn and said; rollout.js says the same -----------------------------------------------------------------


def _at(p: Point) -> tuple[str, str]:
    return fixed(HALF + SCALE * p[0], 1, "-"), fixed(HALF - SCALE * p[1], 1, "-")


def _path(points: list[Point], end: str = "") -> str:
    return "M" + "L".join(" ".join(_at(p)) for p in points) + end if points else ""


def _level(y: Point, value: float, stretch: float) -> str:
    """Draw the ellipse on which f has this value."""
    if value < 1e-9:
        return ""
    long, short = math.sqrt(2 * value / stretch), math.sqrt(2 * value)
    a, b = " ".join(_at(_along(y, -long, LONG))), " ".join(_at(_along(y, long, LONG)))
    axes = f"{fixed(SCALE * long, 1)} {fixed(SCALE * short, 1)} -36.87"
    return f"M{a}A{axes} 1 0 {b}A{axes} 1 0 {a}Z"


def _chart(k: int, value: float) -> str:
    """Place a step and a gap in the chart, 480 by 230."""
    power = min(max(math.log10(max(value, 1e-30)), BOTTOM), TOP)
    return f"{fixed(46 + 7 * k, 1)} {fixed(14 + 18 * (TOP - power), 1)}"


def _small(value: float) -> str:
    """Write a number that may be tiny: three decimals, or one digit and a power of ten."""
    if value >= 0.0995:
        return fixed(value, 3)
    if value < 1e-12:
        return "0"
    power, digit = 0, value
    while digit < 0.95:
        digit, power = digit * 10, power + 1
    return f"{fixed(digit, 1)}·10⁻{_raised(power)}"


def _raised(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] for c in str(number))


def _below(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(c)] for c in str(number))


def _number(corners: list[Point], i: int) -> list[tuple[str, str, str]]:
    """Write a corner's number just outside of it; the origin is inside of every shape."""
    name, p = f"number-{i + 1}", corners[i] if i < len(corners) else (0.0, 0.0)
    left, top = _at(_along(p, 0.2 / math.sqrt(_dot(p, p)) if i < len(corners) else 0.0, p))
    return [(name, "x", left), (name, "y", top), (name, "text", str(i + 1) if i < len(corners) else "")]


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    y, x, best = state["y"], state["x"], state["solution"]
    corners = CORNERS[state["shape"]]
    inside = state["violation_y"] == 0
    label_y = (min(max(y[0], -1.1), 1.1), y[1] + (0.22 if 0 <= y[1] < 1.5 or y[1] < -1.5 else -0.32))
    away = [corners[state["away"]]] if state["away"] >= 0 else []
    moving = state["gap"] > DONE
    soft = state["variant"] == "softmax"
    floor = _chart(0, state["bound"]).split()[1]
    return [
        ("set", "d", _path(corners, "Z")),
        *(entry for i in range(5) for entry in _number(corners, i)),
        ("level", "d", _level(y, state["value"], state["stretch"])),
        ("best-level", "d", _level(y, state["least"], state["stretch"])),
        ("ray", "d", _path([x, state["target"]]) if moving else ""),
        ("from", "d", _path([*away, x]) if away and moving else ""),
        ("path", "d", _path(state["path"])),
        ("dots", "d", "".join(_path([p]) + "h0" for p in state["path"])),
        ("solution", "transform", f"translate({' '.join(_at(best))})"),
        ("corner", "transform", f"translate({' '.join(_at(corners[state['corner']]))})"),
        ("away", "transform", f"translate({' '.join(_at(away[0]))})" if away else "translate(-99 -99)"),
        ("soft", "transform", f"translate({' '.join(_at(state['target']))})" if soft else "translate(-99 -99)"),
        ("x", "transform", f"translate({' '.join(_at(x))})"),
        ("y", "transform", f"translate({' '.join(_at(y))})"),
        ("label-y", "x", _at(label_y)[0]),
        ("label-y", "y", _at(label_y)[1]),
        ("label-y", "text", f"y: off by {fixed(state['violation_y'], 3)}" + (" (allowed)" if inside else "")),
        *(
            (f"line-{name}", "d", "M" + "L".join(_chart(k, v) for k, v in enumerate(run)))
            for name, run in state["gaps"].items()
        ),
        ("now", "d", f"M{fixed(46 + 7 * state['step'], 1)} 14V194"),
        ("here", "transform", f"translate({_chart(state['step'], state['gap'])})"),
        ("floor", "d", f"M46 {floor}H466" if soft else ""),
    ]


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what is said: (part, text)."""

    def pair(p: Point) -> str:
        return f"({fixed(p[0], 2)},\N{NO-BREAK SPACE}{fixed(p[1], 2)})"

    soft = state["variant"] == "softmax"
    name = f"x{_below(state['step'])}"
    bound = f"; the softmax oracle alone may leave {_small(state['bound'])}" if soft else ""
    return [
        ("tile-y", fixed(state["violation_y"], 3)),
        ("tile-x", fixed(state["violation_x"], 3)),
        ("tile-gap", _small(state["gap"])),
        ("tile-error", _small(state["error"])),
        ("said-step", f"{state['step']} of {STEPS}, {VARIANTS[state['variant']]}"),
        (
            "said-points",
            f"{name} = {pair(state['x'])},  solution\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{pair(state['solution'])}",
        ),
        ("said-violation", f"y {fixed(state['violation_y'], 3)},  {name} {fixed(state['violation_x'], 3)}"),
        ("said-next", f"the oracle points at corner {state['corner'] + 1}; next step: {state['kind']}"),
        ("said-gap", f"{_small(state['gap'])}, never less than the error {_small(state['error'])}{bound}"),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LAYERS = {
    "levels": (
        "objective: level through the iterate, best level",
        '<path class="ro-level" d="M2 5Q17 -2 32 5"/><path class="ro-best-level" d="M2 14Q17 7 32 14"/>',
    ),
    "path": ("the path so far", '<path class="ro-path" d="M2 9H32"/><path class="ro-dots" d="M2 9h0M17 9h0M32 9h0"/>'),
    "next": (
        "ring: the oracle's corner; dashes: the next step",
        '<path class="ro-ray" d="M2 9H20"/><circle class="ro-corner" cx="25" cy="9" r="7"/>',
    ),
}
MARKS = {
    "corner": '<circle r="13"/>',
    "away": '<path d="M-9 -9L9 9M-9 9L9 -9"/>',
    "soft": '<circle r="6"/>',
    "solution": '<path d="M0 -12L12 0L0 12L-12 0Z"/>',
    "x": '<path d="M-8 -8H8V8H-8Z"/>',
}
LINES = (
    ("said-step", "step"),
    ("said-points", "points"),
    ("said-violation", "violation"),
    ("said-next", "next"),
    ("said-gap", "gap"),
)


def _parts(state: dict[str, Any]) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value
    return values


def _picture(state: dict[str, Any], moves: bool) -> str:
    values = _parts(state)

    def path(part: str) -> str:
        return f'<path class="ro-{part}" data-part="{part}" d="{values[part]["d"]}"/>'

    def mark(part: str) -> str:
        return f'<g class="ro-{part}" data-part="{part}" transform="{values[part]["transform"]}">{MARKS[part]}</g>'

    place = values["label-y"]
    numbers = "".join(
        f'<text class="w-tick ro-number" data-part="{name}" x="{where["x"]}" y="{where["y"]}">{where["text"]}</text>'
        for name, where in values.items()
        if name.startswith("number-")
    )
    grip = ""
    if moves:
        y1, y2 = (fixed(v, 2) for v in state["y"])
        grip = (
            f' {widget.GRIP} aria-label="unconstrained minimiser y: arrow keys move it, with shift further" '
            f'aria-valuemin="-1.75" aria-valuemax="1.75" aria-valuenow="{fixed(state["y"][0], 2, "-")}" '
            f'aria-valuetext="y₁ {y1}, y₂ {y2}"'
        )
    return (
        '<svg viewBox="0 0 480 480" role="group" aria-label="The plane: a polygon, the path of the iterates from '
        'corner 1, and the unconstrained minimiser y"><g aria-hidden="true">'
        f'<path class="w-axis" d="M0 240H480M240 0V480"/>{path("set")}{numbers}'
        f'<g data-group="levels">{path("level")}{path("best-level")}</g>'
        f'<g data-group="next">{path("from")}{path("ray")}{mark("corner")}{mark("away")}{mark("soft")}</g>'
        f'<g data-group="path">{path("path")}{path("dots")}</g>{mark("solution")}{mark("x")}'
        f'<text data-part="label-y" x="{place["x"]}" y="{place["y"]}">{place["text"]}</text></g>'
        f'<g data-part="y" transform="{values["y"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<circle class="ro-y" r="11"/></g></svg>'
    )


def _gap_chart(state: dict[str, Any]) -> str:
    values = _parts(state)
    ticks = "".join(
        f'<path class="w-axis" d="M46 {14 + 18 * (TOP - p)}H466"/>'
        f'<text class="w-tick ro-left" x="40" y="{19 + 18 * (TOP - p)}">{"1" if p == 0 else "10⁻" + _raised(-p)}</text>'
        for p in range(0, BOTTOM - 1, -3)
    ) + "".join(f'<text class="w-tick" x="{46 + 7 * k}" y="216">{k}</text>' for k in range(0, STEPS + 1, 20))
    lines = "".join(
        f'<path class="ro-line ro-line-{name}" data-part="line-{name}" d="{values["line-" + name]["d"]}"/>'
        for name in VARIANTS
    )
    key = " ".join(
        f'<span><svg viewBox="0 0 34 10" aria-hidden="true"><path class="ro-line ro-line-{name}" d="M2 5H32"/></svg> '
        f"{text}</span>"
        for name, text in VARIANTS.items()
    )
    return (
        '<svg class="ro-chart" viewBox="0 0 480 222" role="img" aria-label="The gap of all four variants against the '
        'step, on a logarithmic scale; the chosen variant is drawn thick">'
        f'{ticks}<path class="ro-floor" data-part="floor" d="{values["floor"]["d"]}"/>{lines}'
        f'<path class="ro-now" data-part="now" d="{values["now"]["d"]}"/>'
        f'<g class="ro-here" data-part="here" transform="{values["here"]["transform"]}"><circle r="7"/></g></svg>'
        f'<p class="ro-key">{key}</p>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the HTML: with `moves` its controls and script too, else the picture and the read-out alone."""
    words = dict(_words(state))
    y1, y2 = state["y"]
    start = {name: state[name] for name in ("shape", "variant", "step", "cold", "stretch")} | {"y": [y1, y2]}
    tiles = [
        ("tile-y", "y: violation", words["tile-y"]),
        ("tile-x", "iterate: violation", words["tile-x"]),
        ("tile-gap", "iterate: gap", words["tile-gap"]),
        ("tile-error", "iterate: error", words["tile-error"]),
    ]
    return widget.page(
        "rollout",
        start,
        _picture(state, moves)
        + widget.tiles("circle: unconstrained minimiser y; square: iterate; diamond: solution", tiles),
        widget.slider("step", "step", 0, STEPS, 1, state["step"], str(state["step"]))
        + widget.menu("variant", "variant", VARIANTS, state["variant"])
        + widget.slider("cold", "β", *COLD, 1, state["cold"], fixed(state["beta"], 0))
        + widget.menu("shape", "shape", SHAPES, state["shape"])
        + widget.slider("stretch", "stretch", *STRETCH, 1, state["stretch"], fixed(state["stretch"], 0))
        + widget.slider("y1", "y₁", -REACH, REACH, 1 / GRID, y1)
        + widget.slider("y2", "y₂", -REACH, REACH, 1 / GRID, y2),
        _gap_chart(state)
        + widget.legend(LAYERS, moves)
        + widget.readout([(part, title, words[part]) for part, title in LINES]),
        {"variant": state["variant"], "feasible": str(state["violation_y"] == 0).lower()},
        moves,
    )
