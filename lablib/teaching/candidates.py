"""The pair (v, u) of the augmented Lagrangian in the hand: its level sets, its five candidates, and which one wins.

Numbers only, a pure function of its parameters:

    from lablib.teaching import candidates
    candidates.look(slope=0.2, p=1.9, q=-0.65, a=1.0, b=1.0, penalty=1.0)

In a page, with no kernel and no network; the first state shows without script too:

    candidates.candidates(slope=0.0, p=1.0, q=-1.0)      # last line of a cell: shown through _repr_html_

In a lab, moved by ipywidgets and computed in Python at each move:

    candidates.live(slope=0.2)

The problem is min a/2 (v - p)^2 + b/2 (u - q)^2 + penalty (v - s(u)) over v >= s(u) = max(u, slope u). To the right of
u = 0 its level sets are ellipses around candidate 1, to the left ellipses around candidate 4: two valleys.
"""

from __future__ import annotations

import math
from typing import Any

from . import widget
from .widget import fixed

__all__ = ["candidates", "live", "look"]

RANGES = {
    "slope": (0.0, 0.9, 0.05),
    "p": (-1.5, 3.0, 0.05),
    "q": (-3.0, 3.0, 0.05),
    "a": (0.5, 4.0, 0.25),
    "b": (0.5, 4.0, 0.25),
    "penalty": (0.0, 2.0, 0.125),
}
"""Each parameter's ends and step under the hand."""

START = {"slope": 0.2, "p": 1.9, "q": -0.65, "a": 1.0, "b": 1.0, "penalty": 1.0}
TITLES = {
    "slope": "slope α",
    "p": "centre p",
    "q": "centre q",
    "a": "weight a",
    "b": "weight b",
    "penalty": "penalty β",
}
LEVELS = (1 / 32, 1 / 8, 1 / 2, 2.0)
GRID = 20  # the centre lies on twentieths
WIDE, HIGH, UNIT, TOP = 480, 360, 76, 3.0  # a unit of the plane has as many pixels across as up
SAMPLES = 40  # points along a level set
MET = 5e-5  # what four decimals show as zero
SIDES = ((0, -18), (22, 20), (0, -18), (0, -18), (-20, -12))  # where each candidate's number stands
BELOW = 28  # how far below a candidate that is not allowed

Point = tuple[float, float]  # v, u


def look(
    slope: float = START["slope"],
    p: float = START["p"],
    q: float = START["q"],
    a: float = START["a"],
    b: float = START["b"],
    penalty: float = START["penalty"],
) -> dict[str, Any]:
    """Say all that the widget shows of one state: the five candidates, their costs, and the winner.

    `v`, `u` and `costs` hold the candidates in the chapter's order; a cost is math.inf where the candidate is not
    allowed. `winner` counts from 1 and is the first of the cheapest, without the third, which never wins alone; `point`
    is its (v, u). `start_breaks` and `start_off` say by how much the centre (p, q) misses v >= s(u), and v = s(u);
    `breaks` and `off` say it of the winner. `tie` is the q at which 1 and 4 cost the same, whatever p is. Errors:
    ValueError for a parameter that is not finite, a slope outside of [0, 1), weights or a penalty of the wrong sign.

    >>> found = look(slope=0.0, p=1.0, q=-1.0)
    >>> found["winner"], found["point"], found["costs"][3]
    (4, (0.0, -1.0), 0.5)
    """
    slope, p, q, a, b, penalty = _state(slope, p, q, a, b, penalty, snap=False)
    low, right, left = p - penalty / a, q + penalty / b, q + slope * penalty / b
    line = max((a * p + b * q) / (a + b), 0.0)
    back = min((slope * a * p + b * q) / (slope * slope * a + b), 0.0)
    v, u = [low, line, max(low, 0.0), low, slope * back], [right, line, 0.0, left, back]
    allowed = [right >= 0 and low >= right, True, True, left <= 0 and low >= slope * left, True]
    costs = [_cost(v[i], u[i], slope, p, q, a, b, penalty) if allowed[i] else math.inf for i in range(5)]
    best = 0
    for i in (1, 3, 4):
        if costs[i] < costs[best]:
            best = i
    return {
        "slope": slope,
        "p": p,
        "q": q,
        "a": a,
        "b": b,
        "penalty": penalty,
        "v": v,
        "u": u,
        "costs": costs,
        "winner": best + 1,
        "point": (v[best], u[best]),
        "cost": costs[best],
        "start_breaks": max(_leaky(q, slope) - p, 0.0),
        "start_off": abs(p - _leaky(q, slope)),
        "breaks": max(_leaky(u[best], slope) - v[best], 0.0),
        "off": abs(v[best] - _leaky(u[best], slope)),
        "tie": -(1 + slope) * penalty / (2 * b),
    }


def candidates(
    slope: float = START["slope"],
    p: float = START["p"],
    q: float = START["q"],
    a: float = START["a"],
    b: float = START["b"],
    penalty: float = START["penalty"],
) -> widget.Widget:
    """Return the widget as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> candidates(slope=0.0)
    Candidates(slope=0.0, p=1.9, q=-0.65, a=1.0, b=1.0, penalty=1.0)
    """
    state = _state(slope, p, q, a, b, penalty)
    words = ", ".join(f"{name}={value!r}" for name, value in zip(RANGES, state, strict=True))
    return widget.Widget(f"Candidates({words})", lambda: _markup(look(*state), moves=True))


def live(
    slope: float = START["slope"],
    p: float = START["p"],
    q: float = START["q"],
    a: float = START["a"],
    b: float = START["b"],
    penalty: float = START["penalty"],
) -> Any:
    """Return the widget as an ipywidgets box: six sliders, with `look` run in Python at each move.

    >>> [part.description for part in live().children][:6]
    ['slope α', 'centre p', 'centre q', 'weight a', 'weight b', 'penalty β']
    """
    state = _state(slope, p, q, a, b, penalty)
    controls = [
        widget.live_slider(TITLES[name], *RANGES[name], value) for name, value in zip(RANGES, state, strict=True)
    ]
    return widget.live_box(controls, lambda *values: _markup(look(*values), moves=False))


def _state(*values, snap=True):
    """Check the parameters; with `snap` put them where the widget can show them."""
    for name, value in zip(RANGES, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    slope, _, _, a, b, penalty = values
    if not 0 <= slope < 1:
        raise ValueError(f"slope: expected a number in [0, 1), got {slope!r}")
    for name, value in (("a", a), ("b", b)):
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value!r}")
    if penalty < 0:
        raise ValueError(f"penalty: expected a number that is not negative, got {penalty!r}")
    values = [float(value) for value in values]
    if snap:
        values = [min(max(value, low), high) for value, (low, high, _) in zip(values, RANGES.values(), strict=True)]
        values[1:3] = [round(value * GRID) / GRID for value in values[1:3]]
    return values


# --- the mathematics; candidates.js says the same in JavaScript -------------------------------------------------------


def _leaky(u: float, slope: float) -> float:
    return max(u, slope * u)


def _cost(v: float, u: float, slope: float, p: float, q: float, a: float, b: float, penalty: float) -> float:
    return a / 2 * (v - p) * (v - p) + b / 2 * (u - q) * (u - q) + penalty * (v - _leaky(u, slope))


def _valley(state: dict[str, Any], half: int, level: float) -> list[Point]:
    """Return the outline of where the cost is at most the level, on one side of u = 0; half is 0 (right) or 3 (left).

    There the cost is a quadratic around candidate 1 or 4, and what is allowed lies above the line v = k u.
    """
    slope, p, q, a, b, penalty = (state[name] for name in RANGES)
    v, u, k = state["v"][half], state["u"][half], 1.0 if half == 0 else slope
    bottom = a / 2 * (v - p) * (v - p) + b / 2 * (u - q) * (u - q) + penalty * (v - k * u)
    rest = level - bottom
    if rest <= 0:
        return []
    reach = math.sqrt(2 * rest / b)
    first, last = u - reach, u + reach
    if v < k * first or v < k * last:  # the line v = k u cuts the ellipse, or leaves nothing of it
        lead, middle = a * k * k + b, (a * k * v + b * u) / (a * k * k + b)
        root = middle * middle - (a * v * v + b * u * u - 2 * rest) / lead
        if root <= 0:
            return []
        root = math.sqrt(root)
        first = first if v >= k * first else middle - root
        last = last if v >= k * last else middle + root
    first, last = (max(first, 0.0), last) if half == 0 else (first, min(last, 0.0))
    if first >= last:
        return []
    above, below = [], []
    for i in range(SAMPLES + 1):
        x = (first + last) / 2 - (last - first) / 2 * math.cos(math.pi * i / SAMPLES)
        h = math.sqrt(max(2 * rest - b * (x - u) * (x - u), 0.0) / a)
        above.append((v + h, x))
        below.append((min(max(v - h, k * x), v + h), x))
    return above + below[::-1]


# --- what is drawn and said; candidates.js says the same --------------------------------------------------------------


def _place(point: Point) -> Point:
    """Where (v, u) is drawn; far outside the picture it need not be told exactly."""
    x, y = WIDE / 2 + UNIT * point[1], 9 + UNIT * (TOP - point[0])
    return min(max(x, -500.0), 1000.0), min(max(y, -500.0), 1000.0)


def _put(p: Point) -> str:
    return f"{fixed(p[0], 1, '-')} {fixed(p[1], 1, '-')}"


def _path(points: list[Point], end: str = "") -> str:
    return "M" + "L".join(_put(p) for p in points) + end if points else ""


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    slope, best = state["slope"], state["winner"] - 1
    found = []
    for i, level in enumerate(LEVELS):
        outlines = [_valley(state, half, state["cost"] + level) for half in (0, 3)]
        found.append((f"level-{i + 1}", "d", "".join(_path([_place(p) for p in one], "Z") for one in outlines)))
    hinge = _path([_place((-4 * slope, -4.0)), _place((0.0, 0.0)), _place((4.0, 4.0))])
    places = [_place(point) for point in zip(state["v"], state["u"], strict=True)]
    spots = [_put(place) for place in places]
    start = _place((state["p"], state["q"]))
    found += [
        ("beyond", "d", f"{hinge}V{HIGH + 40}H-70Z"),
        ("curve", "d", hinge),
        ("miss", "d", _path([start, places[best]])),
        ("winner", "transform", f"translate({spots[best]})"),
        ("hand", "transform", f"translate({_put(start)})"),
    ]
    for i, (x, y) in enumerate(places):
        name, inside = f"candidate-{i + 1}", 0 <= x <= WIDE and 0 <= y <= HIGH
        kind = "won" if i == best else "allowed" if state["costs"][i] < math.inf else "barred"
        shared = "".join(str(j + 1) for j in range(5) if spots[j] == spots[i])
        text = ", ".join(shared) if inside and spots.index(spots[i]) == i else ""
        across, down = (0, BELOW) if kind == "barred" else SIDES[i]
        found += [
            (name, "transform", f"translate({spots[i]})"),
            (name, "data-kind", kind),
            (f"number-{i + 1}", "x", fixed(min(max(x + across, 12 + 6 * len(text)), WIDE - 12 - 6 * len(text)), 1)),
            (f"number-{i + 1}", "y", fixed(min(max(y + down, 30), HIGH - 12), 1)),
            (f"number-{i + 1}", "text", text),
        ]
    return found


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    v, u, costs, best = state["v"], state["u"], state["costs"], state["winner"] - 1
    lines = []
    for i in range(5):
        at = f"v = {fixed(v[i], 2)}, u = {fixed(u[i], 2)}"
        below = _leaky(u[i], state["slope"]) - v[i]
        if costs[i] < math.inf:
            text = f"{at}, costs {fixed(costs[i], 3)}{': wins' if i == best else ''}"
        elif below > 0:
            text = f"{at}: below s(u) by {fixed(below, 2)}"
        else:
            text = f"{at}: on the wrong side of u = 0"
        lines.append((f"said-{i + 1}", text))
    both = costs[0] < math.inf and costs[3] < math.inf
    return [
        ("start-breaks", fixed(state["start_breaks"], 4)),
        ("start-off", fixed(state["start_off"], 4)),
        ("breaks", fixed(state["breaks"], 4)),
        ("off", fixed(state["off"], 4)),
        ("said-start", f"p = {fixed(state['p'], 2)}, q = {fixed(state['q'], 2)}"),
        *lines,
        (
            "said-tie",
            f"1 and 4 are both allowed; 1 wins to the right of q = {fixed(state['tie'], 3)}"
            if both
            else "1 and 4 are not both allowed here",
        ),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LINES = (
    ("said-start", "centre"),
    ("said-1", "1, free"),
    ("said-2", "2, v = u"),
    ("said-3", "3, u = 0"),
    ("said-4", "4, free"),
    ("said-5", "5, v = αu"),
    ("said-tie", "the jump"),
)

LAYERS = {
    "levels": (
        "cost up to 1/32, 1/8, 1/2, 2 above the winner's",
        '<path class="ca-level" d="M1 2H33V16H1Z"/><path class="ca-level" d="M6 4H28V14H6Z"/>'
        '<path class="ca-level" d="M11 6H23V12H11Z"/>',
    ),
    "beyond": ("not allowed: v is below s(u)", '<path class="ca-beyond" d="M2 3H32V15H2Z"/>'),
    "others": (
        "candidates; hollow ones are not allowed",
        '<g data-kind="allowed"><circle class="ca-dot" r="6" cx="9" cy="9"/></g>'
        '<g data-kind="barred"><circle class="ca-dot" r="6" cx="25" cy="9"/></g>',
    ),
}


def _picture(state: dict[str, Any], moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value

    def path(part: str, kind: str = "") -> str:
        return f'<path class="ca-{kind or part}" data-part="{part}" d="{values[part]["d"]}"/>'

    grip = ""
    if moves:
        low, high, _ = RANGES["q"]
        grip = (
            f' {widget.GRIP} aria-label="centre p and q: arrow keys move it, with shift further" '
            f'aria-valuemin="{low:g}" aria-valuemax="{high:g}" aria-valuenow="{fixed(state["q"], 2, "-")}" '
            f'aria-valuetext="p {fixed(state["p"], 2)}, q {fixed(state["q"], 2)}"'
        )
    levels = "".join(path(f"level-{i + 1}", "level") for i in range(len(LEVELS)))
    dots = "".join(
        f'<g data-part="{name}" data-kind="{values[name]["data-kind"]}" transform="{values[name]["transform"]}">'
        '<circle class="ca-dot" r="7"/></g>'
        for name in (f"candidate-{i + 1}" for i in range(5))
    )
    numbers = "".join(
        f'<text data-part="{name}" x="{values[name]["x"]}" y="{values[name]["y"]}">{values[name]["text"]}</text>'
        for name in (f"number-{i + 1}" for i in range(5))
    )
    origin = _place((0.0, 0.0))
    across = "".join(
        f'<text class="w-tick" x="{fixed(_place((0.0, float(u)))[0], 0)}" y="{HIGH - 6}">{fixed(u, 0)}</text>'
        for u in (-2, -1, 1, 2)
    )
    up = "".join(
        f'<text class="w-tick ca-left" x="32" y="{fixed(_place((float(v), 0.0))[1] + 5, 0)}">{fixed(v, 0)}</text>'
        for v in (-1, 1, 2)
    )
    return (
        f'<svg class="ca-plane" viewBox="0 0 {WIDE} {HIGH}" role="group" aria-label="The plane of u and v: the cost, '
        'the region v ≥ s(u), the five candidates, and the cheapest of them"><g aria-hidden="true">'
        f'<g data-group="beyond">{path("beyond")}</g><g data-group="levels">{levels}</g>'
        f'<path class="w-axis" d="M{fixed(origin[0], 1)} 0V{HIGH}M0 {fixed(origin[1], 1)}H{WIDE}"/>{path("curve")}'
        f'{across}{up}<text class="w-tick" x="{WIDE - 14}" y="{HIGH - 6}">u</text>'
        f'<text class="w-tick" x="{WIDE // 2 + 14}" y="18">v</text>{path("miss")}'
        f'<g data-part="winner" transform="{values["winner"]["transform"]}"><circle class="ca-winner" r="13"/></g>'
        f'<g data-group="others">{dots}</g></g>'
        f'<g data-part="hand" transform="{values["hand"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<path class="ca-hand" d="M-9-9H9V9H-9Z"/></g>'
        f'<g aria-hidden="true">{numbers}</g></svg>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the widget's HTML: with `moves` its controls and script too, else the picture and the read-out alone."""
    words = dict(_words(state))
    shown = (
        ("start-breaks", "centre: s(q) − p", words["start-breaks"]),
        ("start-off", "centre: |p − s(q)|", words["start-off"]),
        ("breaks", "winner: s(u) − v", words["breaks"]),
        ("off", "winner: |v − s(u)|", words["off"]),
    )
    return widget.page(
        "candidates",
        {name: state[name] for name in RANGES},
        _picture(state, moves)
        + widget.tiles("by how much v ≥ s(u) is broken (left), and v = s(u) (right):", list(shown))
        + widget.legend(LAYERS, moves),
        "".join(
            widget.slider(name, TITLES[name], low, high, step, state[name], fixed(state[name], 2))
            for name, (low, high, step) in RANGES.items()
        )
        + "<p>Drag the square to the right. Where does the winner jump? Which penalty makes |v − s(u)| zero?</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {"feasible": str(state["off"] < MET).lower()},
        moves,
    )
