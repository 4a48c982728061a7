"""Plant each fault of the catalogues in a copy of the tree, and demand that the named check fails on it.

A catalogue is `tests/faults/AREA.toml`:

    [[fault]]
    name = "simplex-forgets-the-sum"
    file = "lablib/sets.py"
    old = "..."            # occurs exactly once in the file
    new = "..."
    check = "python -m pytest -q -x tests/test_sets.py -k simplex"
    says = "sum"           # a regular expression that the check's output must match

With `target = "site"` the file is one of the built book, and BOOK_HTML names the copy that holds the fault.
The check runs in the root of the copy, whose files win over the installed package. That it passes without the
fault is what the other stages of `make test` prove; `FAULTS_CLEAN=1` runs it on the clean copy as well.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import warm
from pages import copy_book

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
KEYS = {"name", "file", "old", "new", "check", "says"}
TARGETS = {"tree", "site"}
LONGEST = 600  # seconds; this ends what hangs, and a slow machine is no fault
# The shell found no such command, pytest was called wrongly, or it selected no test: nothing was checked.
NOTHING_CHECKED = {4, 5, 126, 127}


def catalogue() -> list[pytest.param]:
    """Read every catalogue."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        for fault in tomllib.loads(path.read_text(encoding="utf-8")).get("fault", []):
            found.append(pytest.param(fault, id=f"{path.stem}-{fault.get('name', 'unnamed')}"))
    return found


def copy_tree(target: Path) -> None:
    """Copy what git tracks or would track, and make it a repository, since some checks ask git for the files."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(asked, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git(target, "init", "-q")
    git(target, "add", "-A")


def git(tree: Path, *arguments: str) -> None:
    """Run git in the copy."""
    subprocess.run(["git", *arguments], cwd=tree, check=True, capture_output=True)


def surroundings(check: str, tree: Path, book: Path | None) -> dict[str, str]:
    """Return the variables of a check: this environment's programs, that tree's modules and, if given, that book."""
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests" / "network")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "LABLIB_FAULT": "1",
        **({"BOOK_HTML": str(book)} if book else {}),
    }
    for name in [name for name in env if name.startswith("PYTEST_") or name == "LABLIB_CLAIMS"]:
        del env[name]
    if "--nbval" not in check and " -n " not in check:  # finding plugins costs more than most checks do
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return env


@pytest.fixture(scope="session")
def runner():
    """The warm process of this worker."""
    found = warm.Runner(dict(os.environ))
    yield found
    found.close()


def run(check: str, tree: Path, book: Path | None = None, runner=None, output: Path | None = None) -> tuple[int, str]:
    """Run a check in the tree, in the warm process where there is one that can."""
    env = surroundings(check, tree, book)
    if runner is not None and warm.takes(check):
        return runner.run(check, tree, env, output, LONGEST)
    child = subprocess.Popen(
        check,
        shell=True,
        cwd=tree,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
    return child.returncode, output.decode("utf-8", "replace")


@pytest.fixture(scope="session")
def copied(tmp_path_factory):
    """A copy of the tree for all the faults of a worker."""
    target = tmp_path_factory.mktemp("copy") / "tree"
    target.mkdir()
    copy_tree(target)
    return target


@pytest.fixture
def tree(copied):
    """The copy, and after the test as it was before."""
    yield copied
    git(copied, "checkout-index", "-a", "-f")
    git(copied, "clean", "-fdxq")


def test_names_are_unique_and_entries_whole():
    entries = [param.values[0] for param in catalogue()]
    assert entries, "there is no catalogue"
    assert [entry for entry in entries if set(entry) - {"target"} != KEYS] == []
    assert {entry.get("target", "tree") for entry in entries} <= TARGETS
    names = [param.id for param in catalogue()]
    assert len(set(names)) == len(names)


def test_the_copy_wins_over_the_installed_package(tree):
    code, output = run("python -c 'import lablib; print(lablib.__file__)'", tree)
    assert code == 0, output
    assert Path(output.strip()).is_relative_to(tree)


@pytest.mark.parametrize("fault", catalogue())
def test_fault_is_caught(fault, tree, tmp_path, runner):
    book = copy_book(tmp_path, fault["file"]) if fault.get("target") == "site" else None
    path = (book or tree) / fault["file"]
    assert path.is_file(), f"there is no {fault['file']}"
    text = path.read_text(encoding="utf-8")
    assert text.count(fault["old"]) == 1, f"`old` occurs {text.count(fault['old'])} times in {fault['file']}, not once"
    if os.environ.get("FAULTS_CLEAN"):
        code, output = run(fault["check"], tree, book, runner, tmp_path / "clean")
        assert code == 0, f"the check fails without the fault:\n{output[-3000:]}"
    path.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")
    code, output = run(fault["check"], tree, book, runner, tmp_path / "output")
    assert code != 0, f"not caught; the check passed:\n{output[-3000:]}"
    assert code not in NOTHING_CHECKED, f"nothing was checked (code {code}):\n{output[-3000:]}"
    assert re.search(fault["says"], output), f"failed, but not with `{fault['says']}`:\n{output[-3000:]}"
