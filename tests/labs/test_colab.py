"""The learner's lab in an environment like Colab's: its first cell installs lablib, and nothing of theirs moves."""

import re
from pathlib import Path

import colab
import nbformat
import pytest

LABS = sorted((colab.ROOT / "labs").glob("*.ipynb"))


@pytest.fixture(scope="module")
def venv() -> Path:
    """The environment that `make env` prepared."""
    found = colab.place()
    if not colab.is_ready(found):
        pytest.fail(colab.ABSENT, pytrace=False)
    return found


def text(notebook) -> str:
    """Everything that a notebook printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize("lab", LABS, ids=lambda path: path.stem)
def test_lab_installs_lablib_and_runs_and_moves_no_package(lab, venv, tmp_path):
    source = colab.repository(tmp_path / "clone")
    env = colab.surroundings(venv, source, tmp_path)
    with colab.borrowed(venv, env):
        before = colab.frozen(venv, env)
        ran = colab.run_lab(venv, nbformat.read(lab, as_version=4), env, tmp_path)
        after = colab.frozen(venv, env)
    added = sorted(set(after) - set(before))
    print("before:", *before, "added:", *added, sep="\n  ")
    assert sorted(set(before) - set(after)) == [], "a package of theirs was moved"
    assert [re.split("[ =]", line)[0] for line in added] == ["lablib"]
    assert f"lablib @ {source}" in added[0]
    printed = text(ran)
    assert "not answered yet" in printed
    assert re.search(r"(?m)^numpy +2\.3\.5 ", printed), "the lab did not run on their packages"


def test_without_an_address_the_first_cell_says_what_to_do(venv, tmp_path):
    env = colab.surroundings(venv, "", tmp_path)
    lab = nbformat.read(LABS[0], as_version=4)
    first = next(index for index, cell in enumerate(lab.cells) if cell.cell_type == "code")
    lab.cells = lab.cells[: first + 1]
    lab.cells[first].source = re.sub('(?m)^SOURCE = ".*"', 'SOURCE = ""', lab.cells[first].source)
    with colab.borrowed(venv, env):
        printed = text(colab.run_lab(venv, lab, env, tmp_path))
    assert "lablib is missing" in printed
    assert "pip install" in printed
