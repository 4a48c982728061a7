"""The weight step's penalty in the hand: how long each column of W is, and which one comes that should not.

Numbers only, a pure function of its parameters:

    from lablib.teaching import columns
    columns.look(penalty=0.3, link=0.65)

In a page, with no kernel and no network; the first state shows without script too:

    columns.columns(penalty=0.3)      # last line of a cell: shown through _repr_html_

In a lab, moved by ipywidgets and computed in Python at each move:

    columns.live(penalty=0.3)

The problem is min_W 1/2 tr (W - W*) G (W - W*)' + penalty sum_j |column j of W|: the weight step, divided by the number
of samples, for four inputs of variance 1 and targets made by W*, which has two rows and hears inputs 1, 2 and 3, not 4.
``link`` is the correlation of input 4 with 1 and with 2; all others are 0.
"""

from __future__ import annotations

import math
from typing import Any

from . import widget
from .widget import fixed

__all__ = ["columns", "live", "look"]

RANGES = {"penalty": (0.0, 1.1, 0.025), "link": (0.0, 0.65, 0.05)}
"""Each parameter's ends and step under the hand."""

START = {"penalty": 0.2, "link": 0.4}
TITLES = {"penalty": "penalty μ", "link": "correlation"}
TRUTH = ((0.94, 0.34), (0.66, -0.24), (0.1, 0.33), (0.0, 0.0))
GRID = 40  # the penalty lies on fortieths
POINTS = 45  # of the path, from 0 to 44 / 40
SWEEPS, SETTLED = 2000, 1e-13
WIDE, HIGH, LEFT, BOTTOM = 480, 340, 70, 290  # where the origin is drawn
ACROSS, UP = 355, 250  # pixels for 1

Column = tuple[float, float]


def look(penalty: float = START["penalty"], link: float = START["link"]) -> dict[str, Any]:
    """Say all that the widget shows of one state: the path of the columns' lengths, and what holds at this penalty.

    `path` has the lengths of the four columns at the penalties 0, 1/40, ..., 44/40. `lengths` are those at `penalty`,
    and `pulls` the lengths of the gradient's columns: of the fit alone. A column that is not zero has a pull equal to
    the penalty, one that is zero a pull of at most the penalty. `zeros`: how many columns are exactly zero. `right`:
    only column 4 is. Errors: ValueError for a penalty that is negative or not finite, a link outside of [0, 0.65].

    >>> found = look(penalty=0.5, link=0.0)
    >>> found["zeros"], [round(length, 3) for length in found["lengths"]]
    (2, [0.5, 0.202, 0.0, 0.0])
    """
    penalty, link = _state(penalty, link, snap=False)
    W = [(0.0, 0.0)] * 4
    path = []
    for i in range(POINTS - 1, -1, -1):  # from the largest penalty down, each from the one before
        W = _solve(W, i / GRID, link)
        path.append([_length(w) for w in W])
    W = _solve([(0.0, 0.0)] * 4, penalty, link)
    lengths = [_length(w) for w in W]
    return {
        "penalty": penalty,
        "link": link,
        "path": path[::-1],
        "lengths": lengths,
        "pulls": [_length(_pull(W, j, link)) for j in range(4)],
        "zeros": lengths.count(0.0),
        "right": lengths[3] == 0 and min(lengths[:3]) > 0,
    }


def columns(penalty: float = START["penalty"], link: float = START["link"]) -> widget.Widget:
    """Return the widget as HTML that moves by mouse, touch and keyboard with no kernel; it starts in this state.

    >>> columns(link=0.65)
    Columns(penalty=0.2, link=0.65)
    """
    state = _state(penalty, link)
    words = ", ".join(f"{name}={value!r}" for name, value in zip(RANGES, state, strict=True))
    return widget.Widget(f"Columns({words})", lambda: _markup(look(*state), moves=True))


def live(penalty: float = START["penalty"], link: float = START["link"]) -> Any:
    """Return the widget as an ipywidgets box: two sliders, with `look` run in Python at each move.

    >>> [part.description for part in live().children][:2]
    ['penalty μ', 'correlation']
    """
    state = _state(penalty, link)
    controls = [
        widget.live_slider(TITLES[name], *RANGES[name], value) for name, value in zip(RANGES, state, strict=True)
    ]
    return widget.live_box(controls, lambda *values: _markup(look(*values), moves=False))


def _state(penalty, link, snap=True):
    """Check the parameters; with `snap` put the penalty where the path has a point."""
    for name, value in (("penalty", penalty), ("link", link)):
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value}")
    if penalty < 0:
        raise ValueError(f"penalty: expected a number that is not negative, got {penalty!r}")
    low, high, _ = RANGES["link"]
    if not low <= link <= high:
        raise ValueError(f"link: expected a correlation in [{low:g}, {high:g}], got {link!r}")
    if snap:
        penalty = min(round(penalty * GRID) / GRID, RANGES["penalty"][1])
    return float(penalty), float(link)


# --- the mathematics; columns.js says the same in JavaScript ----------------------------------------------------------


def _length(w: Column) -> float:
    return math.sqrt(w[0] * w[0] + w[1] * w[1])


def _pull(W: list[Column], j: int, link: float) -> Column:
    """Return column j of (W* - W) G."""
    x, y = TRUTH[j][0] - W[j][0], TRUTH[j][1] - W[j][1]
    for k in (0, 1) if j == 3 else (3,) if j < 2 else ():
        x += link * (TRUTH[k][0] - W[k][0])
        y += link * (TRUTH[k][1] - W[k][1])
    return x, y


def _solve(W: list[Column], penalty: float, link: float) -> list[Column]:
    """Go through the columns until none moves, each at its best for the others: a shrink, as the diagonal of G is 1."""
    W = list(W)
    for _ in range(SWEEPS):
        moved = 0.0
        for j in range(4):
            x, y = _pull(W, j, link)
            old = W[j]
            x, y = x + old[0], y + old[1]
            size = _length((x, y))
            keep = 1 - penalty / size if size > penalty else 0.0
            W[j] = keep * x, keep * y
            moved = max(moved, abs(W[j][0] - old[0]), abs(W[j][1] - old[1]))
        if moved <= SETTLED:
            break
    return W


# --- what is drawn and said; columns.js says the same -----------------------------------------------------------------


def _place(penalty: float, length: float) -> str:
    return f"{fixed(LEFT + ACROSS * penalty, 1, '-')} {fixed(BOTTOM - UP * length, 1, '-')}"


def _scene(state: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what moves in the picture: (part, attribute, value)."""
    path, penalty = state["path"], state["penalty"]
    found = []
    for j in range(4):
        line = "M" + "L".join(_place(i / GRID, lengths[j]) for i, lengths in enumerate(path))
        found += [
            (f"path-{j + 1}", "d", line),
            (f"dot-{j + 1}", "transform", f"translate({_place(penalty, state['lengths'][j])})"),
        ]
    top = 0
    for i, lengths in enumerate(path):
        if lengths[3] > path[top][3]:
            top = i
    found += [
        ("number-4", "x", fixed(LEFT + ACROSS * (top / GRID if path[top][3] > 0 else 1), 1)),
        ("number-4", "y", fixed(BOTTOM - UP * path[top][3] - 12, 1)),
        ("here", "d", f"M{_place(penalty, 0.0)}V8"),
        ("hand", "transform", f"translate({_place(penalty, 0.0)})"),
    ]
    return found


def _words(state: dict[str, Any]) -> list[tuple[str, str]]:
    """List what the read-out says: (part, text)."""
    lines = []
    for j in range(4):
        length, pull = state["lengths"][j], fixed(state["pulls"][j], 3)
        text = f"length {fixed(length, 3)}, pull {pull} = μ" if length > 0 else f"zero, pull {pull} ≤ μ"
        lines.append((f"said-{j + 1}", text))
    wrong = [str(j + 1) for j in range(4) if (state["lengths"][j] > 0) != (j < 3)]
    return [
        ("zeros", f"{state['zeros']} of 4"),
        ("stranger", fixed(state["lengths"][3], 4)),
        ("said-penalty", f"μ = {fixed(state['penalty'], 3)}"),
        *lines,
        ("said-support", f"wrong about column {' and '.join(wrong)}" if wrong else "right: 1, 2, 3 and not 4"),
    ]


# --- the page --------------------------------------------------------------------------------------------------------

LINES = (
    ("said-penalty", "penalty"),
    ("said-1", "column 1"),
    ("said-2", "column 2"),
    ("said-3", "column 3"),
    ("said-4", "column 4"),
    ("said-support", "support"),
)

LAYERS = {
    "heard": ("columns 1, 2, 3: W* hears these inputs", '<path class="co-path" d="M2 9H32"/>'),
    "stranger": ("column 4: W* does not", '<path class="co-stranger" d="M2 9H32"/>'),
}


def _picture(state: dict[str, Any], moves: bool) -> str:
    values: dict[str, dict[str, str]] = {}
    for part, attribute, value in _scene(state):
        values.setdefault(part, {})[attribute] = value

    def column(j: int) -> str:
        kind, name = ("stranger" if j == 4 else "path"), f"path-{j}"
        return (
            f'<path class="co-{kind}" data-part="{name}" d="{values[name]["d"]}"/>'
            f'<g data-part="dot-{j}" transform="{values[f"dot-{j}"]["transform"]}">'
            f'<circle class="co-dot co-{kind}-dot" r="6"/></g>'
        )

    grip = ""
    if moves:
        low, high, _ = RANGES["penalty"]
        grip = (
            f' {widget.GRIP} aria-label="penalty: arrow keys move it, with shift further" '
            f'aria-valuemin="{low:g}" aria-valuemax="{high:g}" aria-valuenow="{fixed(state["penalty"], 3, "-")}"'
        )
    starts = "".join(
        f'<text x="{LEFT // 2}" y="{fixed(BOTTOM - UP * _length(TRUTH[j]) + 6, 1)}">col {j + 1}</text>'
        for j in range(3)
    )
    across = "".join(
        f'<text class="w-tick" x="{fixed(LEFT + ACROSS * value, 0)}" y="{HIGH - 12}">{fixed(value, 1)}</text>'
        for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    )
    last = values["number-4"]
    return (
        f'<svg class="co-plane" viewBox="0 0 {WIDE} {HIGH}" role="group" aria-label="The lengths of the four columns '
        'against the penalty, and the penalty chosen"><g aria-hidden="true">'
        f'<path class="w-axis" d="M{LEFT} 8V{BOTTOM}H{WIDE}"/>{across}'
        f'<text class="w-tick" x="{WIDE - 12}" y="{HIGH - 12}">μ</text>'
        f'<text class="w-tick co-name" x="{WIDE - 10}" y="26">length of a column</text>'
        f'<path class="co-here" data-part="here" d="{values["here"]["d"]}"/>'
        f'<g data-group="heard">{starts}{"".join(column(j) for j in (1, 2, 3))}</g>'
        f'<g data-group="stranger">{column(4)}'
        f'<text data-part="number-4" x="{last["x"]}" y="{last["y"]}">col 4</text></g></g>'
        f'<g data-part="hand" transform="{values["hand"]["transform"]}"{grip}><circle class="w-ring" r="24"/>'
        '<path class="co-hand" d="M-9-9H9V9H-9Z"/></g></svg>'
    )


def _markup(state: dict[str, Any], moves: bool) -> str:
    """Return the widget's HTML: with `moves` its controls and script too, else the picture and the read-out alone."""
    words = dict(_words(state))
    shown = (
        ("zeros", "columns at zero", words["zeros"]),
        ("stranger", "column 4's length", words["stranger"]),
    )
    return widget.page(
        "columns",
        {name: state[name] for name in RANGES},
        _picture(state, moves)
        + widget.tiles("only the fourth column should be zero:", list(shown))
        + widget.legend(LAYERS, moves),
        "".join(
            widget.slider(name, TITLES[name], low, high, step, state[name], _value(name, state[name]))
            for name, (low, high, step) in RANGES.items()
        )
        + "<p>Drag μ: where does each column leave? Then raise the correlation of input 4 with inputs 1 and 2, step by "
        "step. Which column is the last to leave?</p>",
        widget.readout([(part, title, words[part]) for part, title in LINES]),
        {"feasible": str(state["right"]).lower()},
        moves,
    )


def _value(name: str, value: float) -> str:
    return fixed(value, 3 if name == "penalty" else 2)
