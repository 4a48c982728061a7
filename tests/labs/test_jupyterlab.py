"""Every learner's lab in a real JupyterLab: Run All from the menu, no error, and its sliders move what they should."""

import os
import re
from pathlib import Path

import jupyter
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
LABS = sorted((ROOT / "labs").glob("*.ipynb"))
PATIENCE = 5_000 if os.environ.get("LABLIB_FAULT") else 30_000
"""Milliseconds until a slider that does not answer counts as failed; with a fault planted that is what we wait for."""
READOUT = ".jp-Notebook [data-widget] [data-readout]"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A JupyterLab on copies of the labs without outputs, so that what is seen comes from this run."""
    folder = tmp_path_factory.mktemp("labs")
    for lab in LABS:
        notebook = nbformat.read(lab, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / lab.name)
    with jupyter.jupyterlab(folder) as served:
        yield served


@pytest.fixture(scope="module")
def page():
    """One window for all labs."""
    with jupyter.window() as opened:
        yield opened


@pytest.fixture(scope="module", params=LABS, ids=lambda path: path.stem)
def lab(request, page, address):
    """A lab, opened and run from top to bottom."""
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    jupyter.open_notebook(page, address, request.param.name)
    jupyter.run_all(page)
    return page, nbformat.read(request.param, as_version=4), thrown


def test_run_all_ends_without_an_error_and_shows_each_output(lab):
    page, stored, thrown = lab
    assert thrown == []
    assert page.locator(jupyter.ERRORS).all_inner_texts() == []
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    shown = page.locator(".jp-Notebook .jp-CodeCell").evaluate_all(
        "cells => cells.map(cell => cell.querySelectorAll('.jp-OutputArea-output').length > 0)"
    )
    assert shown == [bool(cell.outputs) for cell in code]
    for cell in code:
        if not cell.outputs and "check(" in cell.source:
            pytest.fail(f"{cell.id} checks an answer and prints nothing")


def test_formulas_are_drawn(lab):
    page, _, _ = lab
    prose = page.locator(".jp-Notebook .jp-MarkdownCell")
    assert prose.locator("mjx-container, .katex").count() > 20
    assert [text for text in prose.all_inner_texts() if re.search(r"\$[^$]+\$|\{[a-z]+\}`", text)] == []
    assert prose.locator(".katex-error, mjx-merror").count() == 0


def test_a_slider_moves_the_picture_by_keyboard_and_by_pointer(lab):
    page, _, _ = lab
    handle = page.locator(".jp-Notebook .widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()

    def moved(before: list[str]) -> list[str]:
        """Wait until both the slider's number and the picture's words are others than before, and return them."""
        now = page.wait_for_function(
            """([where, before]) => {
                const said = [document.querySelector('.jp-Notebook .widget-readout'), document.querySelector(where)];
                const now = said.map((node) => node.innerText);
                return now.every((text, i) => text !== before[i]) ? now : false;
            }""",
            arg=[READOUT, before],
            timeout=PATIENCE,
        )
        return now.json_value()

    start = moved(["", ""])
    track, box = page.locator(".jp-Notebook .widget-slider .noUi-base").first.bounding_box(), handle.bounding_box()
    inwards = 1 if box["x"] < track["x"] + track["width"] / 2 else -1  # a slider at its end moves one way only
    handle.focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight" if inwards > 0 else "ArrowLeft")
    by_keyboard = moved(start)
    box = handle.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60 * inwards, middle[1], steps=6)
    page.mouse.up()
    moved(by_keyboard)
