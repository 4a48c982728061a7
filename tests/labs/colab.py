"""An environment like Colab's, and a lab run in it as Colab runs it.

    python tests/labs/colab.py --prepare     # the networked part, which `make env` calls

The environment lies in `.colab-venv` and holds real installs of `colab.txt`, but no lablib. A run copies the package
and the labs into a fresh repository, lets the lab install lablib from it, offline, and takes it away again.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
WANTED = Path(__file__).with_name("colab.txt")
PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "lablib", "labs")
ABSENT = "the Colab-like environment is missing or stale: run make env, or python tests/labs/colab.py --prepare"


def place() -> Path:
    """Where the environment is: in this tree, or beside the one that runs this, as for a copy of the tree."""
    own = ROOT / ".colab-venv"
    beside = Path(sys.prefix).parent / ".colab-venv"
    return own if own.is_dir() or not beside.is_dir() else beside


def stamp() -> str:
    """What an environment was made from."""
    return hashlib.sha256(sys.version.encode() + WANTED.read_bytes()).hexdigest()


def is_ready(venv: Path) -> bool:
    """Whether the environment is whole and made from what is wanted now."""
    made_from = venv / "made-from"
    return made_from.is_file() and made_from.read_text() == stamp()


def prepare() -> None:
    """Make the environment, unless it is ready; the stamp is written last, so a cut-short run shows."""
    venv = ROOT / ".colab-venv"
    if is_ready(venv):
        print(f"Colab-like environment: ready in {venv.name}", flush=True)
        return
    print(f"Colab-like environment: installing {WANTED.name} into {venv.name}", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = [
        venv / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    subprocess.run([*install, "--requirement", WANTED], check=True)
    (venv / "made-from").write_text(stamp())


def frozen(venv: Path, env: dict[str, str]) -> list[str]:
    """What pip says is installed."""
    command = [venv / "bin" / "python", "-m", "pip", "freeze", "--all"]
    return sorted(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split("\n"))


def surroundings(venv: Path, source: str, home: Path) -> dict[str, str]:
    """The variables of a machine that is not ours: no path to lablib, no network, and the address to install from."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": os.pathsep.join([str(venv / "bin"), os.environ["PATH"]]),
        "HOME": str(home),
        "PYTHONPATH": str(ROOT / "tests" / "network"),
        "OMP_NUM_THREADS": "1",
        "LABLIB_SOURCE": source,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads 0 as: do not isolate, so setuptools need not be fetched
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def repository(folder: Path) -> str:
    """A repository with the package as it stands in this tree; returns an address that pip can install from."""
    folder.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    for name in PACKAGE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, folder / name)
    author = ["-c", "user.name=labs", "-c", "user.email=labs@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "A clone"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return f"git+file://{folder}"


@contextlib.contextmanager
def borrowed(venv: Path, env: dict[str, str]) -> Iterator[None]:
    """Have the environment for oneself, without lablib at the start, and leave it without lablib."""
    remove = [venv / "bin" / "python", "-m", "pip", "uninstall", "--yes", "--quiet", "lablib"]
    with (venv / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(remove, env=env, check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(remove, env=env, check=True, capture_output=True)


def run_lab(venv: Path, notebook: nbformat.NotebookNode, env: dict[str, str], folder: Path) -> nbformat.NotebookNode:
    """Run a notebook's cells with the environment's own kernel, and return it with what they gave."""
    spec = folder / "kernels" / "colab"
    spec.mkdir(parents=True)
    argv = [str(venv / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    blank, ran = folder / "blank.ipynb", folder / "ran.ipynb"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, blank)
    run = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", ran.name, blank.name]
    kernel = ["--ExecutePreprocessor.kernel_name=colab", "--ExecutePreprocessor.timeout=600"]
    env = {**env, "JUPYTER_PATH": str(folder), "JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run([*run, *kernel], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the lab did not run to its end:\n{done.stderr[-4000:]}")
    return nbformat.read(ran, as_version=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", required=True, help="make the environment")
    parser.parse_args()
    try:
        prepare()
    except subprocess.CalledProcessError as error:
        sys.exit(f"stopped: {error}")
