"""A built wheel works where torch, numpy and scipy are all there is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"matplotlib", "ipywidgets", "sklearn", "IPython", "traitlets", "notebook", "plotly"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Missing())
import lablib, torch
assert lablib.__file__.startswith(sys.argv[1]), lablib.__file__
assert not any(name.startswith("lablib.teaching") for name in sys.modules)
y = torch.tensor([[1.0, 0.5, -2.0]], requires_grad=True)
x = lablib.ProjectionLayer(lablib.Simplex(3))(y)
x[0, 0].backward()
print(x.tolist(), (y.grad + 0.0).tolist())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "lablib").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder / "dist"),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"lablib/__init__.py", "lablib/sets.py", "lablib/threshold.py", "lablib/py.typed"} <= names
    assert not any(name.startswith(("tests/", "book/", "labs/")) for name in names)


def test_the_wheel_projects_without_the_teaching_extras(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")  # a pure wheel is installed by unpacking it
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[0.75, 0.25, 0.0]] [[0.5, -0.5, 0.0]]"
