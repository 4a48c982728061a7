"""The generator of the learners' editions: nothing leaks, nothing goes stale, stored outputs are those of the code."""

import importlib
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lablib.teaching import editions

ROOT = Path(__file__).resolve().parents[2]
MASTERS = sorted((ROOT / "labs" / "masters").glob("*.ipynb"))
EXERCISES = importlib.import_module("lablib.teaching.exercises").EXERCISES

ANSWER = '''def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    twice_as_much = x + x
    return twice_as_much
    ### END SOLUTION'''
GUESS = "guess = ...\n### BEGIN SOLUTION\nguess = 12345678\n### END SOLUTION"
TEST = "print(double)\n### BEGIN HIDDEN TESTS\nassert double(21) == 42\n### END HIDDEN TESTS"


def grader(name, **changes):
    base = {"schema_version": 3, "grade": False, "grade_id": name, "solution": False, "locked": False, "task": False}
    return {"nbgrader": base | changes}


def master():
    """A small master with one of each kind of cell."""
    cells = [
        new_markdown_cell("A lab", id="title"),
        new_code_cell('SOURCE = ""  # where to install from', id="install"),
        new_code_cell(ANSWER, id="answer", metadata=grader("answer", solution=True)),
        new_code_cell(GUESS, id="guess", metadata=grader("guess", solution=True)),
        new_code_cell(TEST, id="test", metadata=grader("test", grade=True, locked=True, points=1)),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def source(notebook, name):
    return next(cell.source for cell in notebook.cells if cell.id == name)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A tree with one master, whose notebooks are not run but marked as run."""

    def instead_of_running(notebook, folder):
        for count, cell in enumerate([cell for cell in notebook.cells if cell.cell_type == "code"], start=1):
            cell.execution_count = count
            cell.outputs = [new_output("stream", name="stdout", text=f"output {count}\n")]
        notebook.metadata.language_info = {"name": "python"}
        notebook.metadata.lablib = {"executed": editions.digest(notebook)}
        ran.append(folder)

    ran = []
    monkeypatch.setattr(editions, "execute", instead_of_running)
    (tmp_path / "labs" / "masters").mkdir(parents=True)
    (tmp_path / "_config.yml").write_text('title: A book\nrepository:\n  url: ""\n  branch: main\n')
    nbformat.write(master(), tmp_path / "labs" / "masters" / "small.ipynb")
    editions.make(tmp_path)
    assert len(ran) == 2
    return tmp_path


def rewrite(path, change):
    """Read a notebook, change it, write it."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def test_solution_in_a_function_becomes_a_stub_and_elsewhere_vanishes():
    learner = editions.learners_edition(master(), "")
    assert source(learner, "answer") == 'def double(x):\n    """Twice x."""\n    ...  # your code here'
    assert source(learner, "guess") == "guess = ..."
    assert source(learner, "test") == "print(double)"
    assert source(learner, "title") == "A lab"


def test_learner_keeps_ids_and_graders_metadata():
    made = editions.learners_edition(master(), "")
    assert [cell.id for cell in made.cells] == [cell.id for cell in master().cells]
    assert [cell.metadata for cell in made.cells] == [cell.metadata for cell in master().cells]


def test_address_is_written_into_the_learners_edition_alone():
    made = editions.learners_edition(master(), "https://github.com/a/b")
    assert source(made, "install") == 'SOURCE = "git+https://github.com/a/b"  # where to install from'
    assert source(editions.learners_edition(master(), ""), "install") == source(master(), "install")


def test_a_new_address_changes_the_lab_and_keeps_its_outputs(root, monkeypatch):
    lab = root / "labs" / "small.ipynb"
    before = lab.read_text()
    (root / "_config.yml").write_text("repository:\n  url: https://github.com/a/b\n")
    assert "STALE" in "".join(editions.check(root))
    monkeypatch.setattr(editions, "execute", None)  # running anything would fail
    assert editions.make(root) == [lab]
    assert editions.check(root) == []
    (root / "_config.yml").write_text('repository:\n  url: ""\n')
    editions.make(root)
    assert lab.read_text() == before


def test_making_twice_runs_and_changes_nothing(root, monkeypatch):
    monkeypatch.setattr(editions, "execute", None)
    assert editions.make(root) == []
    assert editions.check(root) == []


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (
            "masters/small",
            lambda nb: nb.cells[0].update(source="Another title"),
            "STALE, differs from its master at title",
        ),
        ("masters/small", lambda nb: nb.cells.append(new_markdown_cell("More", id="more")), "STALE"),
        ("small", lambda nb: nb.cells[2].update(source=ANSWER), "LEAK, cell answer shows '### BEGIN SOLUTION'"),
        ("small", lambda nb: nb.cells[0].update(source="use guess = 12345678"), "LEAK, cell title shows"),
        ("small", lambda nb: nb.cells[4].outputs[0].update(text="assert double(21) == 42"), "LEAK, cell test shows"),
        ("small", lambda nb: nb.cells[4].update(execution_count=None), "small.ipynb: its outputs are not those"),
        ("masters/small", lambda nb: nb.metadata.update(widgets={}), "small.ipynb: holds the state of live widgets"),
        (
            "masters/small",
            lambda nb: nb.cells[4].update(source=TEST + "\n"),
            "masters/small.ipynb: its outputs are not",
        ),
        ("masters/small", lambda nb: nb.cells[2].metadata.clear(), "cell answer has a region and no nbgrader metadata"),
        ("masters/small", lambda nb: nb.cells[2].metadata.nbgrader.pop("task"), "cell answer: nbgrader metadata needs"),
        (
            "masters/small",
            lambda nb: nb.cells[3].metadata.nbgrader.update(grade_id="answer"),
            "grade_id answer is taken",
        ),
        ("masters/small", lambda nb: nb.cells[3].metadata.nbgrader.update(solution=False), "solution: true belong"),
        ("masters/small", lambda nb: nb.cells[4].metadata.nbgrader.update(grade=False), "hidden tests and grade: true"),
        ("masters/small", lambda nb: nb.cells[4].metadata.nbgrader.update(points=0), "locked and has points"),
        (
            "masters/small",
            lambda nb: nb.cells[3].update(source=GUESS[:-20]),
            "cell guess: a solution region does not close",
        ),
    ],
)
def test_check_names_what_is_wrong(root, name, change, says):
    rewrite(root / "labs" / f"{name}.ipynb", change)
    found = "\n".join(editions.check(root))
    assert says in found


def test_check_names_missing_and_orphaned_labs(root):
    shutil.move(root / "labs" / "small.ipynb", root / "labs" / "other.ipynb")
    assert editions.check(root) == ["labs/other.ipynb: has no master in labs/masters", "labs/small.ipynb: missing"]


def test_a_bad_master_is_not_made(root):
    rewrite(root / "labs" / "masters" / "small.ipynb", lambda nb: nb.cells[2].metadata.clear())
    with pytest.raises(editions.BadMaster, match="cell answer"):
        editions.make(root)


def test_command_says_what_is_stale_and_how_to_mend_it(root, capsys):
    assert editions.main(["--check", "--root", str(root)]) == 0
    rewrite(root / "labs" / "masters" / "small.ipynb", lambda nb: nb.cells[0].update(source="Another title"))
    assert editions.main(["--check", "--root", str(root)]) == 1
    assert "make labs" in capsys.readouterr().out


def test_running_stores_true_outputs_and_nothing_that_changes(tmp_path):
    code = ["print('one')\nprint('two')", "import ipywidgets\nipywidgets.IntSlider()", "1 + 1"]
    notebook = new_notebook(cells=[new_code_cell(text, id=f"cell-{n}") for n, text in enumerate(code)])
    editions.execute(notebook, tmp_path)
    printed, widget, number = (cell.outputs for cell in notebook.cells)
    assert [output.text for output in printed] == ["one\ntwo\n"]
    assert widget[0].data == {"text/plain": editions.IN_PLACE_OF_A_WIDGET}
    assert number[0].data == {"text/plain": "2"}
    assert not editions.never_run(notebook)
    assert "widgets" not in notebook.metadata
    assert all("execution" not in cell.metadata for cell in notebook.cells)


def test_a_live_widget_is_stored_as_one_that_needs_no_kernel_and_kept_fresh(root, monkeypatch):
    def add_widget(notebook):
        notebook.cells.append(
            new_code_cell("live()", id="live", metadata={"lablib": {"page": {"widget": "explorer", "set": "box"}}})
        )
        notebook.cells[-1].execution_count = 5
        shown = {"data": editions.in_place_of_widget(notebook.cells[-1]), "execution_count": 5}
        notebook.cells[-1].outputs = [new_output("execute_result", **shown)]
        notebook.metadata.lablib.executed = editions.digest(notebook)

    for name in ("masters/small", "small"):
        rewrite(root / "labs" / f"{name}.ipynb", add_widget)
    assert editions.check(root) == []
    explorer, widget = (importlib.import_module(f"lablib.teaching.{name}") for name in ("explorer", "widget"))
    before = explorer.explorer(set="box")._repr_html_()
    assert before in [
        o["data"].get("text/html") for o in nbformat.read(root / "labs" / "small.ipynb", 4).cells[-1].outputs
    ]
    monkeypatch.setattr(widget.Widget, "_repr_html_", lambda self: "<p>new</p>")
    assert [line.split(":")[1] for line in editions.check(root)] == [
        " STALE, a widget has changed since it was stored"
    ] * 2
    monkeypatch.setattr(editions, "execute", None)
    assert len(editions.make(root)) == 2
    assert editions.check(root) == []


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_labs_are_fresh_and_leak_nothing(path):
    assert [line for line in editions.check(ROOT) if path.name in line] == []


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_lab_is_plain_markdown_and_checks_every_exercise(path):
    lab = nbformat.read(path, as_version=4)
    prose = "\n".join(cell.source for cell in lab.cells if cell.cell_type == "markdown")
    for sign in ("```{", ":::", "{ref}", "{eq}", "{cite", "<div", "<img", r"\begin{align"):
        assert sign not in prose, f"{sign} shows raw in Colab"
    module = importlib.import_module(f"lablib.teaching.exercises.{path.stem.replace('-', '_')}")
    code = "\n".join(cell.source for cell in lab.cells if cell.cell_type == "code")
    assert [e.name for e in module.EXERCISES if f'check("{e.name}",' not in code] == []
    assert "LABLIB_SOURCE" in code and editions.SOURCE_LINE.search(code)


def test_every_lab_has_exercises():
    assert MASTERS and EXERCISES
