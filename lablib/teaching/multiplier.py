"""The multiplier in the reader's hand: two outputs, one constraint, and the dual function that finds the multiplier.

The outputs are z = sigma(u + lambda a) with a = (1, 1/2), the constraint is a.z = b, and the dual function is
d(lambda) = phi(u + lambda a) - b lambda. Its slope is a.z - b: the violation is zero where the dual is least.

Numbers only, a pure function of its parameters, computed with lablib's DualHead:

    from lablib.teaching import multiplier
    multiplier.look("sigmoid", u=(0.75, 0.5), b=0.625, multiplier=0.0)

In a page, with no kernel and no network; the first state shows without script too:

    multiplier.multiplier()                              # last line of a cell: shown through _repr_html_

In a lab, moved by ipywidgets and computed in Python at each step; shown in JupyterLab and in Colab:

    multiplier.live("softmax")
"""

from __future__ import annotations

import math
from typing import Any

import torch

from lablib.saddle_point import DualHead

from . import widget
from .widget import fixed

__all__ = ["LINKS", "live", "look", "multiplier"]

LINKS = {
    "identity": "identity",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "softmax": "softmax",
    "relu": "ReLU",
    "exp": "exp",
}
"""Each link's key and the words for it."""

ROW = (1.0, 0.5)
REACHED = {
    "identity": (-math.inf, math.inf),
    "sigmoid": (0.0, 1.5),
    "tanh": (-1.5, 1.5),
    "softmax": (0.5, 1.0),
    "relu": (0.0, math.inf),
    "exp": (0.0, math.inf),
}
"""Between which numbers a.z lies for each link."""

WINDOW = {
    "identity": (-1.25, 2.25),
    "sigmoid": (-0.1, 1.15),
    "tanh": (-1.15, 1.15),
    "softmax": (-0.1, 1.15),
    "relu": (-0.25, 2.5),
    "exp": (-0.25, 2.5),
}
"""The part of the z2 axis that the picture shows; the z1 axis has half as much again, and the same units."""

REACH, LOGIT, TARGET, FAR = 4.0, 2.0, (-0.5, 2.0), 100.0
STEP, LOGIT_STEP = 1 / 16, 1 / 8
WIDE, HIGH, EDGE = 480, 280, 20
DEEPEST, FLATTEST = 6.0, 1.0  # the most and the least that the dual's picture shows of its height
MET = 5e-4  # what three decimals show as zero
START = ("sigmoid", (0.75, 0.5), 0.625, 0.0)

Point = tuple[float, float]


def look(link: str, u: Point, b: float, multiplier: float) -> dict[str, Any]:
    """Say all that the widget shows of one state: two logits u, a target b, one multiplier.

    `logits` is u + lambda a, `z` its prediction and `raw` that of u alone; `slope` is a.z - b, `violation` its size,
    `dual` the value and `curvature` the second derivative of the dual function. `status` says where b lies:
    "inside" what a.z can be, then `best` is the minimiser; on its "edge"; or "outside". `newton` is where one
    Newton step without a line search leads, cut at FAR. Errors: ValueError for an unknown link, a number that is not
    finite.

    >>> found = look("identity", (1.0, 0.5), 0.625, -0.5)
    >>> found["best"], found["z"], found["violation"]
    (-0.5, (0.5, 0.25), 0.0)
    """
    if link not in LINKS:
        raise ValueError(f"link: expected one of {', '.join(LINKS)}, got {link!r}")
    for name, value in (("u[0]", u[0]), ("u[1]", u[1]), ("b", b), ("multiplier", multiplier)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    low, high = REACHED[link]
    status = "inside" if low < b < high else "edge" if b in (low, high) else "outside"
    best = _best(link, u, b) if status == "inside" else -max(u[0], 2 * u[1]) if link == "relu" and b == 0 else None
    _, raw, _ = _curve(link, u, 0.0)
    value, z, curvature = _curve(link, u, multiplier)
    slope = _along(z) - b
    step = multiplier - slope / curvature if curvature > 1e-12 else multiplier
    return {
        "link": link,
        "u": (float(u[0]), float(u[1])),
        "b": float(b),
        "multiplier": float(multiplier),
        "logits": tuple(v + multiplier * a for v, a in zip(u, ROW, strict=True)),
        "raw": raw,
        "z": z,
        "slope": slope,
        "violation": abs(slope),
        "dual": value - b * multiplier,
        "curvature": curvature,
        "low": low,
        "high": high,
        "status": status,
        "best": best,
        "newton": min(max(step, -FAR), FAR),
    }


def multiplier(
    link: str = START[0], u: Point = START[1], b: float = START[2], multiplier: float = START[3]
) -> widget.Widget:
    """Return the widget as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> multiplier("softmax", b=0.75)
    Multiplier(link='softmax', u=(0.75, 0.5), b=0.75, multiplier=0.0)
    """
    u = (float(u[0]), float(u[1]))
    return widget.Widget(
        f"Multiplier(link={link!r}, u={u}, b={b}, multiplier={multiplier})",
        lambda: _markup(look(link, u, b, multiplier), moves=True),
    )


def live(link: str = START[0], u: Point = START[1], b: float = START[2], multiplier: float = START[3]) -> Any:
    """Return the widget as an ipywidgets box: a menu and four sliders, with `look` run in Python at each move.

    >>> [part.description for part in live().children][:5]
    ['link', 'λ', 'u₁', 'u₂', 'target b']
    """
    controls = [
        widget.live_menu("link", LINKS, link),
        widget.live_slider("λ", -REACH, REACH, STEP, multiplier),
        widget.live_slider("u₁", -LOGIT, LOGIT, LOGIT_STEP, u[0]),
        widget.live_slider("u₂", -LOGIT, LOGIT, LOGIT_STEP, u[1]),
        widget.live_slider("target b", *TARGET, STEP, b),
    ]

    def markup(link: str, hand: float, u1: float, u2: float, b: float) -> str:
        found = look(link, (u1, u2), b, hand)
        if found["best"] is not None and abs(found["best"] - hand) < STEP / 2:  # near the minimum is on it
            found = look(link, (u1, u2), b, found["best"])
        return _markup(found, moves=False)

    return widget.live_box(controls, markup)


# --- the links in the plane ------------------------------------------------------------------------------------------


def _along(z: Point) -> float:
    return ROW[0] * z[0] + ROW[1] * z[1]


def _curve(link: str, u: Point, t: float) -> tuple[float, Point, float]:
    """Return phi(u + t a), its gradient z, and a.Hess a."""
    s = [v + t * a for v, a in zip(u, ROW, strict=True)]
    if link == "softmax":
        top = max(s)
        weights = [math.exp(v - top) for v in s]
        total = sum(weights)
        z = tuple(w / total for w in weights)
        mean = _along(z)
        return top + math.log(total), z, sum(p * (a - mean) ** 2 for p, a in zip(z, ROW, strict=True))
    parts = [_part(link, v) for v in s]
    return (
        sum(part[0] for part in parts),
        tuple(part[1] for part in parts),
        sum(part[2] * a * a for part, a in zip(parts, ROW, strict=True)),
    )


def _part(link: str, s: float) -> Point | tuple[float, float, float]:
    if link == "identity":
        return s * s / 2, s, 1.0
    if link == "relu":
        return max(s, 0.0) ** 2 / 2, max(s, 0.0), float(s > 0)
    if link == "exp":
        e = math.exp(s)
        return e, e, e
    e = math.exp(-abs(s))
    if link == "sigmoid":
        z = (1.0 if s >= 0 else e) / (1 + e)
        return max(s, 0.0) + math.log1p(e), z, e / (1 + e) ** 2
    return abs(s) + math.log1p(e * e) - math.log(2), math.tanh(s), 4 * e * e / (1 + e * e) ** 2


def _best(link: str, u: Point, b: float) -> float:
    """Return the minimiser of the dual function from lablib's DualHead, with one more Newton step in full precision."""
    row = torch.tensor([ROW], dtype=torch.float64)
    target = torch.tensor([b], dtype=torch.float64)
    found, _ = DualHead(row, link).multipliers(torch.tensor(u, dtype=torch.float64), target)
    t = float(found[0])
    _, z, curvature = _curve(link, u, t)
    return t - (_along(z) - b) / curvature


# --- what is drawn and said; multiplier.js says the same in JavaScript ------------------------------------------------


def _grid() -> list[float]:
    return [i / 8 for i in range(-32, 33)]


def _plane(link: str, z: Point) -> Point:
    low, high = WINDOW[link]
    scale, middle = HIGH / (high - low), (low + high) / 2
    return WIDE / 2 + scale * (z[0] - middle), HIGH / 2 - scale * (z[1] - middle)


def _put(p: Point) -> str:
    return f"{fixed(p[0], 1, '-')} {fixed(p[1], 1, '-')}"


def _path(points: list[Point], end: str = "") -> str:
    return "M" + "L".join(_put(p) for p in points) + end if points else ""


def _height(state: dict[str, Any]) -> tuple[float, float]:
    """Return the least value that the dual's picture shows and how many units high the picture is."""
    values = [_curve(state["link"], state["u"], t)[0] - state["b"] * t for t in _grid()]
    low = min(values)
    span = min(max(max(values) - low, FLATTEST), DEEPEST)
    return low - 0.15 * span, 1.2 * span


def _dual_at(t: float, value: float, window: Point) -> Point:
    x = WIDE / 2 + (WIDE / 2 - EDGE) / REACH * t
    return x, max(HIGH - HIGH * (value - window[0]) / window[1], -500.0)


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    link, u, b, t = state["link"], state["u"], state["b"], state["multiplier"]
    window = _height(state)
    grid = _grid()

    def spot(z: Point) -> Point:
        "Where z is drawn; far outside the picture it need not be told exactly."
        x, y = _plane(link, z)
        return min(max(x, -2000.0), 3000.0), min(max(y, -2000.0), 3000.0)

    curve = [_curve(link, u, s) for s in grid]
    walked = [min(t, 0.0), *[s for s in grid if min(t, 0.0) < s < max(t, 0.0)], max(t, 0.0)]
    foot = tuple(v - state["slope"] / 1.25 * a for v, a in zip(state["z"], ROW, strict=True))
    domain = {
        "sigmoid": _path([_plane(link, p) for p in ((0, 0), (1, 0), (1, 1), (0, 1))], "Z"),
        "tanh": _path([_plane(link, p) for p in ((-1, -1), (1, -1), (1, 1), (-1, 1))], "Z"),
        "softmax": _path([_plane(link, p) for p in ((1, 0), (0, 1))]),
        "relu": _path([_plane(link, p) for p in ((0, 9), (0, 0), (9, 0), (9, 9))], "Z"),
        "exp": _path([_plane(link, p) for p in ((0, 9), (0, 0), (9, 0), (9, 9))], "Z"),
    }.get(link, "")
    here = _dual_at(t, state["dual"], window)
    here = here[0], max(here[1], 9.0)  # a hand above the picture is shown at its upper edge
    tilt = state["slope"] / window[1] * HIGH / ((WIDE / 2 - EDGE) / REACH)
    reach = 70 / math.sqrt(1 + tilt * tilt)
    inside = state["best"] is not None and abs(state["best"]) <= REACH
    if inside:
        value, _, _ = _curve(link, u, state["best"])
        best = _dual_at(state["best"], value - b * state["best"], window)
    at_z = spot(state["z"])
    label = min(max(at_z[0], 105.0), WIDE - 105.0), min(max(at_z[1] + (36 if at_z[1] < 60 else -20), 24.0), HIGH - 12.0)
    said = min(max(here[0], 95.0), WIDE - 95.0), min(max(here[1] + (40 if here[1] < 60 else -22), 24.0), HIGH - 12.0)
    return [
        ("domain", "d", domain),
        ("line", "d", _path([_plane(link, (b - 5, 10)), _plane(link, (b + 5, -10))])),
        ("track", "d", _path([spot(z) for _, z, _ in curve])),
        ("walked", "d", _path([spot(_curve(link, u, s)[1]) for s in walked])),
        ("reach", "d", _path([at_z, spot(foot)])),
        ("raw", "transform", f"translate({_put(spot(state['raw']))})"),
        ("z", "transform", f"translate({_put(at_z)})"),
        ("label-z", "x", fixed(label[0], 1, "-")),
        ("label-z", "y", fixed(label[1], 1, "-")),
        ("label-z", "text", f"z: off by {fixed(state['violation'], 3)}"),
        (
            "dual",
            "d",
            _path([_dual_at(s, value - b * s, window) for s, (value, _, _) in zip(grid, curve, strict=True)]),
        ),
        ("tangent", "d", _path([(here[0] - reach, here[1] + reach * tilt), (here[0] + reach, here[1] - reach * tilt)])),
        ("best", "d", _path([(best[0], HIGH), best]) if inside else ""),
        ("hand", "transform", f"translate({_put(here)})"),
        ("label-hand", "x", fixed(said[0], 1, "-")),
        ("label-hand", "y", fixed(said[1], 1, "-")),
        ("label-hand", "text", f"slope {fixed(state['slope'], 3)}"),
    ]


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    b = fixed(state["b"], 3)

    def pair(p: Point) -> str:
        return f"({fixed(p[0], 2)},\N{NO-BREAK SPACE}{fixed(p[1], 2)})"

    if state["status"] == "inside":
        away = "" if abs(state["best"]) <= REACH else ", beyond the picture"
        least = f"at λ = {fixed(state['best'], 3)}{away}; there z meets the line"
    elif state["best"] is not None:
        least = f"at every λ up to {fixed(state['best'], 3)}: z is held at its bound, the multiplier is not unique"
    else:
        way = "+∞" if state["b"] >= state["high"] else "−∞"
        low = "−∞" if state["low"] == -math.inf else fixed(state["low"], 1)
        high = "+∞" if state["high"] == math.inf else fixed(state["high"], 1)
        if state["status"] == "edge":
            least = f"none: b is on the edge of what z can reach; z comes nearer for ever as λ → {way}"
        else:
            away = f"z₁ + z₂/2 stays between {low} and {high}"
            least = f"none: b is out of reach, {away}; the dual falls for ever as λ → {way}"
    leap = ""
    if abs(state["newton"]) > REACH:
        far = ", or further" if abs(state["newton"]) >= FAR else ""
        leap = f"; a full Newton step leads to λ = {fixed(state['newton'], 1)}{far}, off the scale: the button stays"
    return [
        ("violation", fixed(state["violation"], 3)),
        ("height", fixed(state["dual"], 3)),
        ("hand-value", f"λ = {fixed(state['multiplier'], 3)}"),
        ("logits", f"u + λa = {pair(state['logits'])}, without λ {pair(state['u'])}"),
        ("prediction", f"z = {pair(state['z'])}, without λ {pair(state['raw'])}"),
        ("sum", f"z₁ + z₂/2 = {fixed(_along(state['z']), 3)}, demanded {b}"),
        ("slope", f"{fixed(state['slope'], 3)}, the same as z₁ + z₂/2 − b"),
        ("curvature", fixed(state["curvature"], 3) + leap),
        ("minimum", least),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LINES = (
    ("hand-value", "multiplier"),
    ("logits", "logits"),
    ("prediction", "prediction"),
    ("sum", "constraint"),
    ("slope", "slope of d"),
    ("curvature", "curvature"),
    ("minimum", "minimum of d"),
)

LAYERS = {
    "domain": ("what the link can give", '<path class="mu-domain" d="M3 3H31V15H3Z"/>'),
    "track": (
        "where λ takes z, from × without λ",
        '<path class="mu-raw" d="M2 4L12 14M12 4L2 14"/><path class="mu-track" d="M14 9H32"/>',
    ),
}


def _picture(state: dict[str, Any], moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value

    def path(part: str) -> str:
        return f'<path class="mu-{part}" data-part="{part}" d="{values[part]["d"]}"/>'

    def label(part: str) -> str:
        place = values[part]
        return f'<text data-part="{part}" x="{place["x"]}" y="{place["y"]}">{place["text"]}</text>'

    grip = ""
    if moves:
        grip = (
            f' {widget.GRIP} aria-label="multiplier λ: arrow keys move it, with shift further" aria-valuemin="-4" '
            f'aria-valuemax="4" aria-valuenow="{fixed(state["multiplier"], 3, "-")}" '
            f'aria-valuetext="λ {fixed(state["multiplier"], 3)}"'
        )
    ticks = "".join(
        f'<text class="w-tick" x="{fixed(_dual_at(t, 0, (0, 1))[0], 0)}" y="{HIGH - 6}">{fixed(t, 0)}</text>'
        for t in (-4, -2, 0, 2, 4)
    )
    return (
        f'<svg class="mu-plane" viewBox="0 0 {WIDE} {HIGH}" role="group" aria-label="The plane of the two outputs: the '
        'constraint as a line, the prediction z, and the path on which the multiplier moves it"><g aria-hidden="true">'
        f'<g data-group="domain">{path("domain")}</g>{path("line")}'
        f'<g data-group="track">{path("track")}{path("walked")}'
        f'<path class="mu-raw" data-part="raw" d="M-7 -7L7 7M7 -7L-7 7" transform="{values["raw"]["transform"]}"/></g>'
        f"{path('reach')}"
        f'<circle class="mu-z" data-part="z" r="9" transform="{values["z"]["transform"]}"/>{label("label-z")}'
        f'<text class="w-tick" x="462" y="{HIGH - 8}">z₁</text><text class="w-tick" x="18" y="20">z₂</text></g></svg>'
        f'<svg class="mu-hill" viewBox="0 0 {WIDE} {HIGH}" role="group" aria-label="The dual function against the '
        'multiplier: drag the point to its lowest place"><g aria-hidden="true">'
        f'<path class="w-axis" d="M240 0V{HIGH}"/>{path("best")}{path("dual")}'
        f"{path('tangent')}{label('label-hand')}"
        f'{ticks}<text class="w-tick" x="266" y="20">d(λ)</text><text class="w-tick" x="424" y="{HIGH - 6}">λ</text>'
        f'</g><g data-part="hand" transform="{values["hand"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<circle class="mu-hand" r="11"/></g></svg>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the widget's HTML: with `moves` its controls and script too, else the pictures and the read-out alone."""
    words = dict(_words(state))
    u1, u2 = state["u"]

    def slider(part: str, title: str, low: float, high: float, step: float, value: float) -> str:
        return widget.slider(part, title, low, high, step, value, fixed(value, 3))

    return widget.page(
        "multiplier",
        {"link": state["link"], "u": [u1, u2], "b": state["b"], "multiplier": state["multiplier"]},
        _picture(state, moves)
        + widget.tiles(
            "above: z and the line z₁ + z₂/2 = b; below: the dual, whose slope is the violation with its sign",
            [("violation", "violation", words["violation"]), ("height", "dual d(λ)", words["height"])],
        )
        + widget.legend(LAYERS, moves),
        widget.menu("link", "link σ", LINKS, state["link"])
        + slider("multiplier", "λ", -REACH, REACH, STEP, state["multiplier"])
        + slider("u1", "u₁", -LOGIT, LOGIT, LOGIT_STEP, u1)
        + slider("u2", "u₂", -LOGIT, LOGIT, LOGIT_STEP, u2)
        + slider("b", "target b", *TARGET, STEP, state["b"])
        + '<button type="button" data-input="newton">One Newton step</button>'
        + "<p>Drag λ to the lowest place of d: there the violation is zero.</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {"feasible": str(state["violation"] < MET).lower()},
        moves,
    )
