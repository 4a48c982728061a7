"""What a stored notebook must be, before it is run: whole, executed from top to bottom, and small."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGEST_OUTPUT = 300_000
TAGS = {
    "nbval-ignore-output",  # prints the environment, times or progress
    "nbval-skip",
    "raises-exception",
    "hide-input",
    "hide-output",
    "hide-cell",
    "remove-input",
    "remove-output",
    "remove-cell",
    "claims",  # holds nothing but checks, so the page folds it whole
}


def notebooks() -> list[str]:
    """Return every notebook of the tree, tracked or about to be."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "book/*.ipynb", "labs/*.ipynb"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(params=notebooks())
def notebook(request):
    """One notebook, read."""
    return nbformat.read(ROOT / request.param, as_version=nbformat.NO_CONVERT)


def code_cells(notebook):
    """Return the code cells that hold anything."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def test_there_are_notebooks():
    assert notebooks()


def test_it_is_a_valid_notebook_of_the_current_format(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


def test_every_cell_has_an_id_set_by_hand(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    by_chance = [name for name in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name)]
    assert not by_chance, f"these ids were made by chance, and change when the notebook is made again: {by_chance}"


def test_every_code_cell_was_run_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom in a fresh kernel, and store that"


def test_outputs_are_stored(notebook):
    cells = code_cells(notebook)
    assert not cells or any(cell.outputs for cell in cells), "nothing is stored, so nothing would be compared"


def test_no_error_is_stored(notebook):
    for cell in code_cells(notebook):
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert all(output.output_type != "error" for output in cell.outputs), f"cell {cell.id} holds an error"


def test_no_warning_is_stored(notebook):
    for cell in code_cells(notebook):
        assert all(output.get("name") != "stderr" for output in cell.outputs), f"cell {cell.id} wrote to stderr"


def test_no_output_is_too_large(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            size = len(nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])))
            assert size < LARGEST_OUTPUT, f"cell {cell.id}: an output of {size // 1000} kB"


def test_every_tag_is_one_that_means_something(notebook):
    for cell in notebook.cells:
        unknown = set(cell.metadata.get("tags", [])) - TAGS
        assert not unknown, f"cell {cell.id}: {sorted(unknown)}"


def test_something_in_it_can_fail(notebook):
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert not source or re.search(r"\bassert\b|\bassert_close\(|\bclaim\(|\bcheck\(", source)
