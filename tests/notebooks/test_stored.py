"""The plugin catches what nbval lets through."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = nbformat.v4.new_output("stream", name="stdout", text="one\n")


def cell(source, count, outputs=(), tags=()):
    """Return a code cell as a notebook stores it."""
    made = nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs), id=f"cell-{count}")
    made.metadata.tags = list(tags)
    return made


CASES = {
    "true": ([cell("print('one')", 1, [STORED])], None),
    "silent": ([cell("x = 1", 1)], None),
    "false-output": ([cell("print('two')", 1, [STORED])], "mismatch 'stdout'"),
    "stripped": ([cell("print('one')", 1)], "Unexpected output fields"),
    "ignored-and-stripped": ([cell("print('one')", 1, tags=["nbval-ignore-output"])], "none is stored"),
    "never-run": ([cell("x = 1", None)], "was never run"),
    "claim-fails": ([cell("assert 1 > 2", 1)], "AssertionError"),
}


@pytest.fixture(scope="module")
def report(request, tmp_path_factory):
    """Run nbval once, over one notebook for each case that is to be tested."""
    folder = tmp_path_factory.mktemp("notebooks")
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {case["name"] for case in params if case.get("name") in CASES}
    for name, (cells, _) in CASES.items():
        if name not in wanted:
            continue
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "nbval",
        "-p",
        "tests.notebooks.stored",
        "-p",
        "no:cacheprovider",
        "--nbval",
    ]
    options = ["--color=no", "-rA", f"--rootdir={folder}", "-c", "/dev/null", str(folder)]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", CASES)
def test_verdict(report, name):
    _, reason = CASES[name]
    if reason is None:
        assert re.search(rf"^PASSED \S*/{name}\.ipynb::", report, flags=re.M), report
    else:
        failure = re.search(rf"^_+ {name}\.ipynb::Cell 0 _+$(.*?)^[_=]{{5}}", report, flags=re.M | re.S)
        assert failure, report
        assert reason in failure.group(1)
