"""The figures' colours and descriptions, checked where they are written."""

import importlib.util
import json
import re
from functools import cache
from itertools import combinations
from pathlib import Path

import colour
import pytest

ROOT = Path(__file__).resolve().parents[2]
OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
PAPER = "#ffffff"
LEAST_DIFFERENCE, LEAST_CONTRAST = 15.0, 3.0
"""CIE76 units between any two lines' colours (matplotlib's own cycle has 7), and WCAG's ratio for graphics."""

NOTEBOOKS = sorted(
    str(file.relative_to(ROOT))
    for folder in ("book", "labs")
    for file in (ROOT / folder).rglob("*.ipynb")
    if ".ipynb_checkpoints" not in file.parts and "_build" not in file.parts
)
EVERY_NOTEBOOK = pytest.mark.parametrize("notebook", NOTEBOOKS)


@cache
def figures():
    """Load the figures' module by its path, so that these tests need no torch."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "lablib" / "teaching" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def cells(notebook: str) -> list[dict]:
    return json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]


def pictures(cell: dict) -> int:
    """Count the pictures that a cell's stored output shows."""
    return sum(1 for output in cell.get("outputs", []) for kind in output.get("data", {}) if kind.startswith("image/"))


def line_colours() -> list[str]:
    return [figures().PALETTE[name] for name in figures().ORDER]


def test_palette_is_okabe_and_itos():
    assert {value.upper() for value in figures().PALETTE.values()} <= OKABE_ITO


@pytest.mark.parametrize("eye", [None, "deuteranopia", "protanopia"])
def test_any_two_lines_differ_to_every_eye(eye):
    worst = min(combinations(line_colours(), 2), key=lambda pair: colour.difference(*pair, eye))
    assert colour.difference(*worst, eye) >= LEAST_DIFFERENCE, worst


def test_lines_stand_out_from_the_paper():
    assert [value for value in line_colours() if colour.contrast(value, PAPER) < LEAST_CONTRAST] == []


def test_lines_differ_without_colour():
    """By dash and by marker, each alone, for as many lines as there are dashes."""
    dashes, markers = figures().DASHES, figures().MARKERS
    assert len(set(map(str, dashes))) == len(dashes) >= 5
    assert len(set(markers)) == len(markers) >= 5
    drawn = [figures().line(i) for i in range(min(len(dashes), len(markers)))]
    assert len({str(one["linestyle"]) for one in drawn}) == len({one["marker"] for one in drawn}) == len(drawn)


def test_figures_are_drawn_on_white_paper():
    """The page dims the paper in the dark and keeps it white: a transparent figure would lose its black axes there."""
    import matplotlib

    matplotlib.use("agg")
    with matplotlib.rc_context():
        figures().style()
        assert matplotlib.rcParams["figure.facecolor"] == matplotlib.rcParams["savefig.facecolor"] == "white"
        assert matplotlib.rcParams["savefig.transparent"] is False
        cycle = [one["color"] for one in matplotlib.rcParams["axes.prop_cycle"]]
    assert cycle == line_colours()


def test_the_measure_of_colour_is_right():
    """White and black are 100 and 21:1 apart by definition; red and green lie close without the middle cones."""
    assert colour.difference("#ffffff", "#000000") == pytest.approx(100, abs=1e-3)
    assert colour.contrast("#ffffff", "#000000") == pytest.approx(21)
    ordinary, blind = colour.difference("#cc0000", "#4f7a00"), colour.difference("#cc0000", "#4f7a00", "deuteranopia")
    assert blind < ordinary / 3


@EVERY_NOTEBOOK
def test_every_picture_has_an_alt_text_of_its_own(notebook):
    texts = []
    for cell in cells(notebook):
        if not pictures(cell):
            continue
        assert pictures(cell) == 1, f"cell {cell.get('id')}: one picture a cell, for one alt text describes one"
        text = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        assert 20 <= len(text) <= 250, f"cell {cell.get('id')}: {len(text)} characters: {text!r}"
        texts.append(text)
    assert len(set(texts)) == len(texts)


@EVERY_NOTEBOOK
def test_pictures_in_the_text_are_described(notebook):
    found = [
        text
        for cell in cells(notebook)
        if cell["cell_type"] == "markdown"
        for text in re.findall(r"!\[([^\]]*)\]\(", "".join(cell["source"]))
    ]
    assert [text for text in found if not 20 <= len(text) <= 250] == []


@EVERY_NOTEBOOK
def test_cells_take_their_colours_from_the_palette(notebook):
    allowed = OKABE_ITO | {"BLACK", "WHITE", "NONE"}
    pattern = re.compile(r"""\b(?:color|c|colors|facecolor|edgecolor|ecolor|mfc|mec)\s*=\s*["']([^"']+)["']""")
    found = [
        (cell.get("id"), value)
        for cell in cells(notebook)
        if cell["cell_type"] == "code"
        for value in pattern.findall("".join(cell["source"]))
        if value.upper() not in allowed and value not in figures().PALETTE and not re.fullmatch(r"0?\.\d+", value)
    ]
    assert found == []
