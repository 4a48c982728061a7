"""The Fenchel gap in the hand: v and u over the gap's level sets, and block steps that walk down to v = phi(u).

Numbers only, a pure function of its parameters:

    from lablib.teaching import gap
    gap.look("sigmoid", v=0.9, u=-2.0, steps=3)

In a page, with no kernel and no network; the first state shows without script too:

    gap.gap("tanh", v=-0.5, u=1.5, steps=6)              # last line of a cell: shown through _repr_html_

In a lab, moved by ipywidgets and computed in Python at each move:

    gap.live("leaky_relu")

The gap is B(v, u) = G*(v) + G(u) - u v. A block step is proximal, with the step length t = 2**`power`: v moves to the
least B(x, u) + (x - v)^2 / 2t, or u to the least B(v, x) + (x - u)^2 / 2t. In the order "turn" v moves in the first
step, u in the second, and so on: B never rises. In the order "once" a step moves both from the same point, and nothing
holds B down. Leaky ReLU has the slope 1/4, so that it can be told from ReLU.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from . import widget
from .widget import fixed

__all__ = ["ACTIVATIONS", "ORDERS", "gap", "live", "look"]

ACTIVATIONS = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "sigmoid": "sigmoid", "tanh": "tanh"}
"""Each activation's key and the words for it."""

ORDERS = {"turn": "in turn", "once": "both at once"}
"""Each order's key and the words for it."""

SLOPE = 0.25
REACHED = {
    "relu": (0.0, math.inf),
    "leaky_relu": (-math.inf, math.inf),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}
"""Between which ends each activation's values lie."""

WINDOW = {"relu": (-0.75, 4.0), "leaky_relu": (-1.5, 4.0), "sigmoid": (-0.25, 1.25), "tanh": (-1.5, 1.5)}
"""How far v goes, in the picture and under the hand."""

TICKS = {"relu": (0, 2, 4), "leaky_relu": (0, 2, 4), "sigmoid": (0, 0.5, 1), "tanh": (-1, 0, 1)}
STEEP = {"relu": 1.0, "leaky_relu": 1.0, "sigmoid": 0.25, "tanh": 1.0}  # the most that the activation rises
LEVELS = (1 / 32, 1 / 8, 1 / 2, 2.0, 8.0)
REACH, U_STEP, V_STEP = 4.0, 1 / 16, 1 / 32
STEPS, POWER = 20, (-3, 6)
WIDE, HIGH, LOW = 480, 360, 190  # both pictures' width, and their heights
TOP, BOTTOM = 1, -6  # powers of ten of the chart
MET = 5e-5  # what four decimals show as zero
RISE = 1e-9  # a rise below this is rounding
START = ("relu", 3.0, -2.0, 0, 0, "turn")

Point = tuple[float, float]  # v, u


def look(activation: str, v: float, u: float, steps: int = 0, power: float = 0, order: str = "turn") -> dict[str, Any]:
    """Say all that the widget shows of one state: a start (v, u), and what so many block steps make of it.

    `path` holds (v, u) after 0, 1, ... 20 steps and `gaps` their B, math.inf where the activation cannot reach v.
    `point`, `gap`, `phi`, `violation` = abs(v - phi(u)) and `bound` = violation^2 / 2L, which B never is below, are
    those after `steps` steps; `terms` is (G*(v), G(u), u v) there. `rises` counts the steps of all 20 in which B rose.
    Errors: ValueError for an unknown activation or order, a v or u that is not finite, `steps` or `power` out of range.

    >>> found = look("relu", 3.0, -1.0, steps=1)
    >>> found["point"], found["gap"], found["violation"]
    ((1.0, -1.0), 1.5, 1.0)
    """
    activation, v, u, steps, power, order = _state(activation, v, u, steps, power, order, snap=False)
    path = _walk(activation, v, u, 2.0**power, order)
    gaps = [_gap(activation, *point) for point in path]
    here = path[steps]
    phi = _phi(activation, here[1])
    violation = abs(here[0] - phi)
    return {
        "activation": activation,
        "v": v,
        "u": u,
        "steps": steps,
        "power": power,
        "length": 2.0**power,
        "order": order,
        "path": path,
        "gaps": gaps,
        "point": here,
        "gap": gaps[steps],
        "phi": phi,
        "violation": violation,
        "bound": violation * violation / (2 * STEEP[activation]),
        "terms": (_conjugate(activation, here[0]), _integral(activation, here[1]), here[1] * here[0]),
        "rises": sum(_rose(a, b) for a, b in itertools.pairwise(gaps)),
    }


def gap(
    activation: str = START[0],
    v: float = START[1],
    u: float = START[2],
    steps: int = START[3],
    power: float = START[4],
    order: str = START[5],
) -> widget.Widget:
    """Return the widget as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> gap("sigmoid", v=0.9, u=-2.0, steps=4)
    Gap(activation='sigmoid', v=0.9, u=-2.0, steps=4, power=0, order='turn')
    """
    state = _state(activation, v, u, steps, power, order)
    names = ("activation", "v", "u", "steps", "power", "order")
    words = ", ".join(f"{name}={value!r}" for name, value in zip(names, state, strict=True))
    return widget.Widget(f"Gap({words})", lambda: _markup(look(*state), moves=True))


def live(
    activation: str = START[0],
    v: float = START[1],
    u: float = START[2],
    steps: int = START[3],
    power: float = START[4],
    order: str = START[5],
) -> Any:
    """Return the widget as an ipywidgets box: two menus and four sliders, with `look` run in Python at each move.

    >>> [part.description for part in live().children][:6]
    ['activation', 'u', 'v', 'block steps', 'log₂ t', 'order']
    """
    activation, v, u, steps, power, order = _state(activation, v, u, steps, power, order)
    low, high = min(low for low, _ in WINDOW.values()), max(high for _, high in WINDOW.values())
    controls = [
        widget.live_menu("activation", ACTIVATIONS, activation),
        widget.live_slider("u", -REACH, REACH, U_STEP, u),
        widget.live_slider("v", low, high, V_STEP, v),
        widget.live_slider("block steps", 0, STEPS, 1, steps),
        widget.live_slider("log₂ t", *POWER, 1, power),
        widget.live_menu("order", ORDERS, order),
    ]

    def markup(activation: str, u: float, v: float, steps: float, power: float, order: str) -> str:
        v = min(max(v, WINDOW[activation][0]), WINDOW[activation][1])
        phi = _phi(activation, u)
        v = phi if abs(v - phi) < V_STEP / 2 else v  # near the curve is on it
        return _markup(look(activation, v, u, int(steps), power, order), moves=False)

    return widget.live_box(controls, markup)


def _state(activation, v, u, steps, power, order, snap=True):
    """Check the parameters; with `snap` put u, v and `power` where the widget can show them."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    for name, value in (("v", v), ("u", u)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    if steps != int(steps) or not 0 <= steps <= STEPS:
        raise ValueError(f"steps: expected a whole number from 0 to {STEPS}, got {steps!r}")
    if not POWER[0] <= power <= POWER[1]:
        raise ValueError(f"power: expected a number from {POWER[0]} to {POWER[1]}, got {power!r}")
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
    v, u = float(v), float(u)
    if snap:
        v = min(max(v, WINDOW[activation][0]), WINDOW[activation][1])
        u, power = min(max(u, -REACH), REACH), round(power)
    return activation, v, u, int(steps), power, order


# --- the mathematics; gap.js says the same in JavaScript --------------------------------------------------------------


def _phi(activation: str, u: float) -> float:
    if activation == "relu":
        return max(u, 0.0)
    if activation == "leaky_relu":
        return u if u > 0 else SLOPE * u
    if activation == "tanh":
        return math.tanh(u)
    e = math.exp(-abs(u))
    return (1.0 if u >= 0 else e) / (1 + e)


def _integral(activation: str, u: float) -> float:
    """G(u), an antiderivative of phi."""
    if activation == "relu":
        return max(u, 0.0) ** 2 / 2
    if activation == "leaky_relu":
        return (u * u if u > 0 else SLOPE * u * u) / 2
    if activation == "tanh":
        return abs(u) + math.log1p(math.exp(-2 * abs(u))) - math.log(2)
    return max(u, 0.0) + math.log1p(math.exp(-abs(u)))


def _conjugate(activation: str, v: float) -> float:
    """G*(v), infinite where phi cannot reach v."""
    low, high = REACHED[activation]
    if not low <= v <= high:
        return math.inf
    if activation == "relu":
        return v * v / 2
    if activation == "leaky_relu":
        return (v * v if v > 0 else v * v / SLOPE) / 2
    if activation == "tanh":
        return (_entropy(1 + v) + _entropy(1 - v)) / 2
    return _entropy(v) + _entropy(1 - v)


def _entropy(p: float) -> float:
    return p * math.log(p) if p > 0 else 0.0


def _gap(activation: str, v: float, u: float) -> float:
    return max(_conjugate(activation, v) + _integral(activation, u) - u * v, 0.0)


def _root(activation: str, r: float, c: float) -> float:
    """Return the s with phi(s) + c s = r."""
    if activation in ("relu", "leaky_relu"):
        slope = SLOPE if activation == "leaky_relu" else 0.0
        return r / (1 + c) if r > 0 else r / (slope + c)
    s = 0.0
    for _ in range(30):  # Newton's iterates come up to the root from the inflection and never pass it
        x = _phi(activation, s)
        s -= (x + c * s - r) / ((1 - x * x if activation == "tanh" else x * (1 - x)) + c)
    return s


def _next_v(activation: str, v: float, u: float, t: float) -> float:
    """Return the x with the least B(x, u) + (x - v)^2 / 2t: x = phi(s) with x + t s = v + t u."""
    return _phi(activation, _root(activation, v + t * u, t))


def _next_u(activation: str, v: float, u: float, t: float) -> float:
    """Return the x with the least B(v, x) + (x - u)^2 / 2t: phi(x) + x / t = v + u / t."""
    return _root(activation, v + u / t, 1 / t)


def _walk(activation: str, v: float, u: float, t: float, order: str) -> list[Point]:
    """Return (v, u) after 0, 1, ... steps."""
    path = [(v, u)]
    for k in range(STEPS):
        moved = _next_v(activation, v, u, t), _next_u(activation, v, u, t)
        if order == "once":
            v, u = moved
        else:
            v, u = (moved[0], u) if k % 2 == 0 else (v, moved[1])
        path.append((v, u))
    return path


def _rose(before: float, after: float) -> bool:
    return after > before + RISE * (1 + before)


# --- what is drawn and said; gap.js says the same ---------------------------------------------------------------------


def _place(activation: str, point: Point) -> Point:
    """Where (v, u) is drawn; far outside the picture it need not be told exactly."""
    low, high = WINDOW[activation]
    v, u = point
    x, y = WIDE / 2 + 55 * u, 14 + (HIGH - 28) * (high - v) / (high - low)
    return min(max(x, -500.0), 1000.0), min(max(y, -500.0), 1000.0)


def _put(p: Point) -> str:
    return f"{fixed(p[0], 1, '-')} {fixed(p[1], 1, '-')}"


def _path(points: list[Point], end: str = "") -> str:
    return "M" + "L".join(_put(p) for p in points) + end if points else ""


def _grid() -> list[float]:
    return [i / 6 for i in range(-24, 25)]


def _reaches(activation: str, u: float, level: float, end: float) -> float:
    """Return how far from phi(u) towards `end` v can go while B is at most the level."""
    inner, outer = _phi(activation, u), end
    if _gap(activation, outer, u) <= level:
        return outer
    for _ in range(30):
        middle = (inner + outer) / 2
        if _gap(activation, middle, u) <= level:
            inner = middle
        else:
            outer = middle
    return inner


@functools.cache
def _ground(activation: str) -> list[tuple[str, str, str]]:
    """List what depends on the activation alone: the level sets, the curve, what phi cannot reach, the ticks of v."""
    low = max(WINDOW[activation][0], REACHED[activation][0])
    high = min(WINDOW[activation][1], REACHED[activation][1])
    found = []
    for i, level in enumerate(LEVELS):
        above = [_place(activation, (_reaches(activation, u, level, high), u)) for u in _grid()]
        below = [_place(activation, (_reaches(activation, u, level, low), u)) for u in _grid()]
        found.append((f"level-{i + 1}", "d", _path(above + below[::-1], "Z")))
    beyond = ""
    if low > WINDOW[activation][0]:
        beyond += f"M0 {HIGH}V{fixed(_place(activation, (low, 0))[1], 1)}H{WIDE}V{HIGH}Z"
    if high < WINDOW[activation][1]:
        beyond += f"M0 0V{fixed(_place(activation, (high, 0))[1], 1)}H{WIDE}V0Z"
    ticks = []
    for i, v in enumerate(TICKS[activation]):
        name = f"tick-{i + 1}"
        ticks += [(name, "y", fixed(_place(activation, (v, 0))[1] + 5, 1)), (name, "text", fixed(v, 1 if v % 1 else 0))]
    return [
        *found,
        ("beyond", "d", beyond),
        ("zero", "d", f"M0 {fixed(_place(activation, (0, 0))[1], 1)}H{WIDE}"),
        ("curve", "d", _path([_place(activation, (_phi(activation, u), u)) for u in _grid()])),
        *ticks,
    ]


def _chart(k: int, value: float) -> Point:
    """Place a step and its gap in the chart."""
    power = min(max(math.log10(max(value, 1e-30)), BOTTOM), TOP)
    return 52 + 20.5 * k, 12 + 22 * (TOP - power)


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    activation, steps, gaps = state["activation"], state["steps"], state["gaps"]
    walked = [_place(activation, point) for point in state["path"][: steps + 1]]
    here = walked[-1]
    foot = _place(activation, (state["phi"], state["point"][1]))
    x, y = min(max(here[0], 85.0), WIDE - 85.0), min(max(here[1], 0.0), float(HIGH))
    spots = [_chart(k, value) for k, value in enumerate(gaps)]
    rises = [_path(spots[k : k + 2]) for k in range(STEPS) if _rose(gaps[k], gaps[k + 1])]
    return [
        *_ground(activation),
        ("miss", "d", _path([here, foot])),
        ("path", "d", _path(walked)),
        ("dots", "d", "".join(_path([p]) + "h0" for p in walked)),
        ("here", "transform", f"translate({_put(here)})"),
        ("hand", "transform", f"translate({_put(walked[0])})"),
        ("label", "x", fixed(x, 1)),
        ("label", "y", fixed(y + 36 if y < 70 or walked[0][1] + 1 < y < HIGH - 60 else y - 22, 1)),
        ("label", "text", f"B = {_number(state['gap'])}"),
        ("gaps", "d", _path(spots)),
        ("rises", "d", "".join(rises)),
        ("now", "d", f"M{fixed(spots[steps][0], 1)} 12V166"),
        ("spot", "transform", f"translate({_put(spots[steps])})"),
    ]


def _number(value: float) -> str:
    return fixed(value, 4) if value < math.inf else "∞"


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    (v, u), (conjugate, integral, product) = state["point"], state["terms"]
    steps, rises = state["steps"], state["rises"]
    if state["order"] == "once":
        following = "v and u both move, from the same point"
    else:
        following = "v moves, u is held" if steps % 2 == 0 else "u moves, v is held"
    minus = f"− {fixed(product, 3)}" if product >= 0 else f"+ {fixed(-product, 3)}"
    return [
        ("violation", fixed(state["violation"], 4)),
        ("gap", _number(state["gap"])),
        ("said-start", f"v = {fixed(state['v'], 3)}, u = {fixed(state['u'], 3)}"),
        ("said-point", f"v = {fixed(v, 3)}, u = {fixed(u, 3)}, φ(u) = {fixed(state['phi'], 3)}"),
        (
            "said-terms",
            f"G*(v) + G(u) − u v = {fixed(conjugate, 3)} + {fixed(integral, 3)} {minus}"
            if conjugate < math.inf
            else "G*(v) = ∞: the activation never gives this v",
        ),
        ("said-bound", f"(v − φ(u))²/2L = {fixed(state['bound'], 4)}, never more than B"),
        ("said-next", following if steps < STEPS else "none: the walk ends here"),
        (
            "said-rises",
            f"B rises in {rises} of the {STEPS} steps" if rises else f"B rises in none of the {STEPS} steps",
        ),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LINES = (
    ("said-start", "start"),
    ("said-point", "now"),
    ("said-terms", "gap B"),
    ("said-bound", "at least"),
    ("said-next", "next step"),
    ("said-rises", "the walk"),
)

LAYERS = {
    "levels": (
        "B up to 1/32, 1/8, 1/2, 2, 8: darker is less",
        '<path class="ga-level" d="M1 2H33V16H1Z"/><path class="ga-level" d="M6 4H28V14H6Z"/>'
        '<path class="ga-level" d="M11 6H23V12H11Z"/>',
    ),
    "beyond": ("φ never gives this v: B = ∞", '<path class="ga-beyond" d="M2 3H32V15H2Z"/>'),
    "walk": ("the walk", '<path class="ga-path" d="M2 9H32"/><path class="ga-dots" d="M2 9h0M17 9h0M32 9h0"/>'),
}


def _picture(state: dict[str, Any], moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value

    def path(part: str, kind: str = "") -> str:
        return f'<path class="ga-{kind or part}" data-part="{part}" d="{values[part]["d"]}"/>'

    def text(part: str, x: str, more: str = "") -> str:
        return f'<text{more} data-part="{part}" x="{x}" y="{values[part]["y"]}">{values[part]["text"]}</text>'

    grip = ""
    if moves:
        grip = (
            f' {widget.GRIP} aria-label="v and u: arrow keys move them, with shift further" aria-valuemin="-4" '
            f'aria-valuemax="4" aria-valuenow="{fixed(state["u"], 3, "-")}" '
            f'aria-valuetext="v {fixed(state["v"], 3)}, u {fixed(state["u"], 3)}"'
        )
    levels = "".join(path(f"level-{i + 1}", "level") for i in range(len(LEVELS)))
    along = "".join(
        f'<text class="w-tick" x="{fixed(_place("relu", (0, u))[0], 0)}" y="{HIGH - 5}">{fixed(u, 0)}</text>'
        for u in (-4, -2, 2, 4)
    )
    up = "".join(text(f"tick-{i + 1}", "232", ' class="w-tick ga-left"') for i in range(3))
    powers = "".join(
        f'<path class="w-axis" d="M52 {12 + 22 * (TOP - p)}H462"/><text class="w-tick ga-left" x="46" '
        f'y="{17 + 22 * (TOP - p)}">{"1" if p == 0 else "10⁻" + "⁰¹²³⁴⁵⁶"[-p]}</text>'
        for p in range(0, BOTTOM - 1, -2)
    )
    counts = "".join(
        f'<text class="w-tick" x="{fixed(52 + 20.5 * k, 0)}" y="{LOW - 6}">{k}</text>' for k in range(0, STEPS + 1, 5)
    )
    return (
        f'<svg class="ga-plane" viewBox="0 0 {WIDE} {HIGH}" role="group" aria-label="The plane of u and v: the level '
        'sets of the gap B, the curve v = φ(u) where it is 0, and the walk of the block steps"><g aria-hidden="true">'
        f'<g data-group="levels">{levels}</g><g data-group="beyond">{path("beyond")}</g>'
        f'<path class="w-axis" d="M{WIDE // 2} 0V{HIGH}"/>{path("zero", "zero")}{path("curve")}{along}{up}'
        f'<text class="w-tick" x="440" y="{HIGH - 5}">u</text><text class="w-tick" x="256" y="20">v</text>'
        f'{path("miss")}<g data-group="walk">{path("path")}{path("dots")}</g>'
        f'<circle class="ga-here" data-part="here" r="9" transform="{values["here"]["transform"]}"/></g>'
        f'<g data-part="hand" transform="{values["hand"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<circle class="ga-hand" r="11"/></g>'
        f'<g aria-hidden="true">{text("label", values["label"]["x"])}</g></svg>'
        f'<svg class="ga-chart" viewBox="0 0 {WIDE} {LOW}" role="img" aria-label="The gap B after each step of the '
        f'walk, on a logarithmic scale; a step in which it rises is drawn thick">{powers}{counts}'
        f"{path('now')}{path('gaps')}{path('rises')}"
        f'<circle class="ga-spot" data-part="spot" r="7" transform="{values["spot"]["transform"]}"/></svg>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the widget's HTML: with `moves` its controls and script too, else the pictures and the read-out alone."""
    words = dict(_words(state))
    activation = state["activation"]
    names = ("activation", "v", "u", "steps", "power", "order")
    return widget.page(
        "gap",
        {name: state[name] for name in names},
        _picture(state, moves)
        + widget.tiles(
            "at the green point, where the steps led from the orange one:",
            [("violation", "|v − φ(u)|", words["violation"]), ("gap", "gap B(v, u)", words["gap"])],
        )
        + widget.legend(LAYERS, moves),
        widget.menu("activation", "φ", ACTIVATIONS, activation)
        + widget.slider("v", "v", *WINDOW[activation], V_STEP, state["v"], fixed(state["v"], 3))
        + widget.slider("u", "u", -REACH, REACH, U_STEP, state["u"], fixed(state["u"], 3))
        + widget.slider("steps", "steps", 0, STEPS, 1, state["steps"], str(state["steps"]))
        + widget.slider("power", "length t", *POWER, 1, state["power"], fixed(state["length"], 3))
        + widget.menu("order", "order", ORDERS, state["order"])
        + "<p>Put v and u anywhere, then let block steps walk. Which order can make B rise?</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {"feasible": str(state["violation"] < MET).lower()},
        moves,
    )
