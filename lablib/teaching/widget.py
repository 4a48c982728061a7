"""What all widgets share: how they stand in a page, and how numbers are written in Python and JavaScript alike.

A widget is a module with a pure function of its parameters that says all numbers, a list of what is drawn (part,
attribute, value) and a list of what is said (part, text), and a twin of these three in a script of the same name. In a
page the twin moves it, with no kernel and no network; in a lab ipywidgets do, and Python computes.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "GRIP",
    "Widget",
    "fixed",
    "legend",
    "live_box",
    "live_menu",
    "live_slider",
    "menu",
    "page",
    "readout",
    "shipped",
    "slider",
    "tiles",
]

QUIET = 'data-lm-suppress-shortcuts="true"'  # else JupyterLab takes the arrow keys for itself
GRIP = f'class="w-grip" tabindex="0" role="slider" {QUIET}'
"""The attributes of a handle in a picture; give it an aria-label and aria-value attributes too."""


class Widget:
    """A widget in one starting state; a notebook shows it through `_repr_html_`."""

    def __init__(self, words: str, markup: Callable[[], str]) -> None:
        self.words, self.markup = words, markup

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return self.markup()


def fixed(value: float, digits: int, minus: str = "−") -> str:
    """Write `value` with so many decimals, rounded half up in a way that JavaScript can repeat to the last digit.

    >>> fixed(-0.125, 2), fixed(-0.001, 2), fixed(2.5, 0), fixed(-1.0, 1, "-")
    ('−0.13', '0.00', '3', '-1.0')
    """
    ten = 10**digits
    n = int(abs(value) * ten + 0.5 + 1e-6)
    return (minus if value < 0 and n > 0 else "") + str(n // ten) + (f".{n % ten:0{digits}d}" if digits else "")


def shipped(name: str) -> str:
    """Return the text of a file that stands beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def slider(part: str, title: str, low: float, high: float, step: float, value: float, text: str = "") -> str:
    """Return a labelled slider with its read-out; `text` is what stands there if not the value with two decimals."""
    return (
        f'<label><span>{title}</span><input type="range" data-input="{part}" min="{low}" max="{high}" '
        f'step="{step}" value="{value}" {QUIET}><output data-part="value-{part}">{text or fixed(value, 2)}</output>'
        "</label>"
    )


def menu(part: str, title: str, options: dict[str, str], chosen: str) -> str:
    """Return a labelled menu; `options` gives each key its words."""
    inner = "".join(
        f'<option value="{key}"{" selected" if key == chosen else ""}>{text}</option>' for key, text in options.items()
    )
    return f'<label><span>{title}</span><select data-input="{part}" {QUIET}>{inner}</select></label>'


def tiles(caption: str, shown: list[tuple[str, str, str]]) -> str:
    """Return the large numbers under a picture, each (part, title, text)."""
    inner = "".join(f'<div class="w-tile">{title}<b data-part="{part}">{text}</b></div>' for part, title, text in shown)
    return f'<p class="w-caption">{caption}</p><div class="w-tiles">{inner}</div>'


def legend(layers: dict[str, tuple[str, str]], moves: bool) -> str:
    """Return a legend of layers, each key with (words, marks in an SVG 34 by 18), with boxes that hide them."""
    box = f'<input type="checkbox" data-layer="%s" checked {QUIET}>' if moves else ""
    inner = "".join(
        f"<label>{box.replace('%s', key)}"
        f'<svg viewBox="0 0 34 18" aria-hidden="true">{mark}</svg><span>{text}</span></label>'
        for key, (text, mark) in layers.items()
    )
    return f'<div class="w-legend">{inner}</div>'


def readout(lines: list[tuple[str, str, str]]) -> str:
    """Return the state in words, each line (part, title, text)."""
    inner = "".join(f'<dt>{title}</dt><dd data-part="{part}">{html.escape(text)}</dd>' for part, title, text in lines)
    return f'<div data-readout aria-live="polite"><dl>{inner}</dl></div>'


def page(
    name: str, state: dict[str, Any], picture: str, controls: str, said: str, data: dict[str, str], moves: bool
) -> str:
    """Return a widget's HTML: with `moves` its controls and script too, else the picture and the read-out alone.

    `name`: the widget's, and that of its files NAME.css and NAME.js. `state`: what its script starts from. `data`: more
    data attributes of its outermost element, that its style depends on.
    """
    start = json.dumps(state, separators=(",", ":"))
    identity = hashlib.sha256(start.encode()).hexdigest()[:8]
    more = "".join(f' data-{key}="{value}"' for key, value in data.items())
    script = f"<script>\n(() => {{\n{shipped('widget.js')}{shipped(f'{name}.js')}}})();\n</script>" if moves else ""
    controls = f'<div class="w-controls">{controls}</div>' if moves else ""
    return (
        f'<div id="{name}-{identity}" data-widget="{name}" data-state="{html.escape(start)}"{more}>'
        f"<style>\n{shipped('widget.css')}{shipped(f'{name}.css')}</style>"
        f'<div class="w-row"><div class="w-picture">{picture}</div>'
        f'<div class="w-panel">{controls}{said}</div></div></div>{script}'
    )


def live_slider(description: str, low: float, high: float, step: float, value: float) -> Any:
    """Return a slider of ipywidgets."""
    ipywidgets = _ipywidgets()
    wide = ipywidgets.Layout(width="min(26rem, 100%)")
    return ipywidgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=description, readout_format=".2f", layout=wide
    )


def live_menu(description: str, options: dict[str, str], chosen: str) -> Any:
    """Return a menu of ipywidgets; `options` gives each key its words."""
    ipywidgets = _ipywidgets()
    return ipywidgets.Dropdown(
        options=[(text, key) for key, text in options.items()],
        value=chosen,
        description=description,
        layout=ipywidgets.Layout(width="min(26rem, 100%)"),
    )


def live_box(controls: list[Any], markup: Callable[..., str]) -> Any:
    """Return the controls with the picture under them, which `markup(*values)` draws again at each move."""
    ipywidgets = _ipywidgets()
    picture = ipywidgets.HTML()

    def show(_change: Any = None) -> None:
        picture.value = markup(*(control.value for control in controls))

    for control in controls:
        control.observe(show, names="value")
    show()
    return ipywidgets.VBox([*controls, picture])


def _ipywidgets() -> Any:
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "a live widget needs ipywidgets: pip install ipywidgets. Its page version does not."
        ) from error
    return ipywidgets
