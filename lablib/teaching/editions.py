"""Make the learner's edition of each lab from its master, with true outputs; or check that it is fresh and leaks none.

    python -m lablib.teaching.editions             # make labs/NAME.ipynb from labs/masters/NAME.ipynb, run what changed
    python -m lablib.teaching.editions --execute   # the same, and run every notebook again
    python -m lablib.teaching.editions --check     # say what is stale, never run, malformed or leaked; write nothing

A master is an ordinary notebook with nbgrader's cell metadata. What stands between ``### BEGIN SOLUTION`` and
``### END SOLUTION`` becomes a stub inside a function and vanishes elsewhere, so an answer like ``guess = ...`` stands
before its region. What stands between ``### BEGIN HIDDEN TESTS`` and ``### END HIDDEN TESTS`` vanishes. The address
from which a learner's machine installs lablib is the repository's, as ``_config.yml`` has it.

Both editions store what they print. A live widget needs a kernel, so in its place a sentence is stored; and where the
cell's metadata has ``{"lablib": {"page": {"widget": "explorer", ...}}}``, that widget in the state that follows, which
moves in the book with no kernel: the function of that name in the module of that name.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

__all__ = ["address", "check", "learners_edition", "main", "make", "problems_of_master"]

STUB = "...  # your code here"
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")
NBGRADER = {"schema_version", "grade", "grade_id", "solution", "locked", "task"}
SOURCE_LINE = re.compile(r'(?m)^SOURCE = "[^"]*"')
WIDGET = "application/vnd.jupyter.widget-view+json"
IN_PLACE_OF_A_WIDGET = "Run this cell: what it shows moves, and needs a running kernel."


class BadMaster(ValueError):
    """A master whose regions do not close or do not match its metadata; the message names the cell."""


def address(root: Path) -> str:
    """The repository's address as ``_config.yml`` has it, or an empty string."""
    found = re.search(r"(?m)^repository:\n +url: *(.*)$", (root / "_config.yml").read_text(encoding="utf-8"))
    return found[1].strip().strip("\"'") if found else ""


def parts(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """Each line of a cell with what it is: "public", "solution", "hidden" or "mark"; a region opens with its BEGIN."""
    state = "public"
    for line in cell.source.split("\n"):
        mark = line.strip()
        if mark in (SOLUTION[0], HIDDEN[0]):
            if state != "public":
                raise BadMaster(f"cell {cell.id}: {mark} inside a region that is still open")
            state = "solution" if mark == SOLUTION[0] else "hidden"
            yield "mark", line
        elif mark in (SOLUTION[1], HIDDEN[1]):
            if state != ("solution" if mark == SOLUTION[1] else "hidden"):
                raise BadMaster(f"cell {cell.id}: {mark} closes nothing")
            state = "public"
            yield "mark", line
        else:
            yield state, line
    if state != "public":
        raise BadMaster(f"cell {cell.id}: a {state} region does not close")


def stripped(cell: NotebookNode) -> str:
    """A cell's source without solutions and hidden tests; a solution inside a function leaves a stub."""
    lines = []
    for kind, line in parts(cell):
        if kind == "public":
            lines.append(line)
        elif kind == "mark" and line.strip() == SOLUTION[0] and line[0].isspace():
            lines.append(line[: len(line) - len(line.lstrip())] + STUB)
    return "\n".join(lines).strip("\n")


def learners_edition(master: NotebookNode, url: str) -> NotebookNode:
    """The learner's edition of a master, not yet run."""
    learner = copy.deepcopy(master)
    for cell in learner.cells:
        if cell.cell_type != "code":
            continue
        cell.source = stripped(cell)
        cell.source = SOURCE_LINE.sub(f'SOURCE = "{f"git+{url}" if url else ""}"', cell.source)
        cell.outputs, cell.execution_count = [], None
    learner.metadata.pop("lablib", None)
    return learner


def digest(notebook: NotebookNode) -> str:
    """What a notebook's outputs depend on in the notebook itself: its code, apart from the address."""
    code = [SOURCE_LINE.sub("SOURCE", cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def in_place_of_widget(cell: NotebookNode) -> dict[str, str]:
    """What is stored where a live widget was: a sentence, and the page version that the cell names, if any."""
    data = {"text/plain": IN_PLACE_OF_A_WIDGET}
    page = dict(cell.metadata.get("lablib", {}).get("page", {}))
    if name := page.pop("widget", None):
        module = importlib.import_module(f"lablib.teaching.{name}")
        data["text/html"] = getattr(module, name)(**page)._repr_html_()
    return data


def refresh_widgets(notebook: NotebookNode) -> bool:
    """Store the widgets of pages as they are now; say whether that changed anything."""
    changed = False
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/plain") == IN_PLACE_OF_A_WIDGET:
                now = in_place_of_widget(cell)
                changed |= output.data != now
                output.data = now
    return changed


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run a notebook and store what it prints, without what differs from run to run."""
    from nbclient import NotebookClient

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False, resources=resources)
    client.execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.lablib = {"executed": digest(notebook)}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        outputs: list[NotebookNode] = []
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                output.data = in_place_of_widget(cell)
            if output.output_type == "stream" and outputs and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        cell.outputs = outputs


def adopt_outputs(fresh: NotebookNode, stored: NotebookNode | None) -> bool:
    """Take over the stored outputs where they are those of the same code; say whether that could be done."""
    if stored is None or stored.metadata.get("lablib", {}).get("executed") != digest(fresh):
        return False
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    for cell, old in zip([cell for cell in fresh.cells if cell.cell_type == "code"], code, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    fresh.metadata.lablib = stored.metadata.lablib
    fresh.metadata.language_info = stored.metadata.language_info
    return True


def problems_of_master(master: NotebookNode) -> list[str]:
    """What is wrong with a master's metadata and regions."""
    found, ids = [], set()
    for cell in master.cells:
        kinds = {kind for kind, _ in parts(cell)} if cell.cell_type == "code" else {"public"}
        grader = cell.metadata.get("nbgrader")
        if grader is None:
            if kinds != {"public"}:
                found.append(f"cell {cell.id} has a region and no nbgrader metadata")
            continue
        if not set(grader) >= NBGRADER or grader["schema_version"] != 3:
            found.append(f"cell {cell.id}: nbgrader metadata needs {', '.join(sorted(NBGRADER))}, schema_version 3")
            continue
        if grader["grade_id"] in ids:
            found.append(f"cell {cell.id}: grade_id {grader['grade_id']} is taken")
        ids.add(grader["grade_id"])
        if grader["solution"] != ("solution" in kinds):
            found.append(f"cell {cell.id}: a solution region and solution: true belong together")
        if grader["grade"] != ("hidden" in kinds):
            found.append(f"cell {cell.id}: hidden tests and grade: true belong together")
        if grader["grade"] and not (grader["locked"] and grader.get("points", 0) > 0):
            found.append(f"cell {cell.id}: a graded cell is locked and has points")
    return found


def texts_of(output: NotebookNode) -> list[str]:
    """What can be read in an output."""
    data = output.get("data", {})
    return [output.get("text", ""), *(str(value) for kind, value in data.items() if kind.startswith("text/"))]


def leaks(master: NotebookNode, learner: NotebookNode) -> list[str]:
    """Secret lines of a master, or marks of regions, that the learner's edition shows in a source or an output."""
    lines = [part for cell in master.cells if cell.cell_type == "code" for part in parts(cell)]
    public = {line.strip() for kind, line in lines if kind == "public"}
    secret = {line.strip() for kind, line in lines if kind in ("solution", "hidden")} - public
    secret = {line for line in secret if len(line) > 9} | {*SOLUTION, *HIDDEN}
    found = []
    for cell in learner.cells:
        texts = [cell.source, *(text for output in cell.get("outputs", []) for text in texts_of(output))]
        found += [f"cell {cell.id} shows {line!r}" for line in sorted(secret) if any(line in text for text in texts)]
    return found


def read(path: Path) -> NotebookNode | None:
    """A notebook, or None where there is no file."""
    return nbformat.read(path, as_version=4) if path.is_file() else None


def essence(notebook: NotebookNode) -> list[tuple]:
    """What makes two editions equal: kind, id, source and metadata of each cell."""
    return [(cell.cell_type, cell.id, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def never_run(notebook: NotebookNode) -> bool:
    """Whether a notebook's outputs are missing or those of other code."""
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    return None in counts or notebook.metadata.get("lablib", {}).get("executed") != digest(notebook)


def check(root: Path) -> list[str]:
    """What is wrong with the labs: malformed masters, stale or leaking learners' editions, outputs of other code."""
    found = []
    masters = {path.name: path for path in sorted((root / "labs" / "masters").glob("*.ipynb"))}
    for name in sorted({path.name for path in (root / "labs").glob("*.ipynb")} - set(masters)):
        found.append(f"labs/{name}: has no master in labs/masters")
    for name, path in masters.items():
        master, learner = read(path), read(root / "labs" / name)
        try:
            found += [f"labs/masters/{name}: {problem}" for problem in problems_of_master(master)]
            if learner is None:
                found.append(f"labs/{name}: missing")
                continue
            found += [f"labs/{name}: LEAK, {leak}" for leak in leaks(master, learner)]
            wanted = learners_edition(master, address(root))
        except BadMaster as error:
            found.append(f"labs/masters/{name}: {error}")
            continue
        if essence(learner) != essence(wanted):
            pairs = zip(essence(learner), essence(wanted), strict=False)
            first = next((b[1] for a, b in pairs if a != b), "the number of cells")
            found.append(f"labs/{name}: STALE, differs from its master at {first}")
        for label, notebook in ((f"labs/masters/{name}", master), (f"labs/{name}", learner)):
            if never_run(notebook):
                found.append(f"{label}: its outputs are not those of its code")
            if refresh_widgets(notebook):
                found.append(f"{label}: STALE, a widget has changed since it was stored")
            if "widgets" in notebook.metadata:
                found.append(f"{label}: holds the state of live widgets; drop it from the notebook's metadata")
    return found


def make(root: Path, run_all: bool = False) -> list[Path]:
    """Make every learner's edition, run what has no true outputs yet, and return the files that changed."""
    changed = []
    for path in sorted((root / "labs" / "masters").glob("*.ipynb")):
        master = read(path)
        if problems := problems_of_master(master):
            raise BadMaster(f"{path.name}: " + "; ".join(problems))
        learner = learners_edition(master, address(root))
        target = root / "labs" / path.name
        for notebook, file, kept in (
            (master, path, not never_run(master)),
            (learner, target, adopt_outputs(learner, read(target))),
        ):
            if run_all or not kept:
                print(f"running {file.relative_to(root)}", flush=True)
                execute(notebook, root / "labs")
            refresh_widgets(notebook)
            before = file.read_text(encoding="utf-8") if file.is_file() else ""
            now = nbformat.writes(notebook, version=4) + "\n"
            if now != before:
                file.write_text(now, encoding="utf-8")
                changed.append(file)
    return changed


def main(arguments: list[str] | None = None) -> int:
    """Make or check, as asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m lablib.teaching.editions", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if anything is wrong")
    parser.add_argument("--execute", action="store_true", help="run every notebook again")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root (default: here)")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    if options.check:
        found = check(root)
        print("\n".join(found) if found else "labs: every learner's edition is fresh and holds no solution")
        if found:
            print("Mend with: make labs")
        return bool(found)
    for file in make(root, options.execute):
        print(f"changed {file.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
