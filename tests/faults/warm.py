"""Run pytest for many faults without importing torch for each of them.

Most of a fault's time is the import of torch and of the browser's driver. So one process imports what the tests have
in common, and forks for each check. It never imports lablib or a test: every copy of the tree has its own.
"""

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHARED = ("hypothesis", "numpy", "scipy.optimize", "torch", "torch.func", "matplotlib.pyplot", "nbformat")
SHARED += ("playwright.sync_api", "axe_playwright_python.sync_playwright")
START = ["python", "-m", "pytest"]


def takes(check: str) -> bool:
    """Tell whether a check is one plain run of pytest, which a fork can do; the network's own tests start afresh."""
    words = shlex.split(check)
    return words[:3] == START and not {"&&", "|", ";", "-n", "--nbval"} & set(words) and "tests/network" not in words


class Runner:
    """The process that forks: start it once, run checks, close it."""

    def __init__(self, env: dict[str, str]):
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, check: str, tree: Path, env: dict[str, str], output: Path, longest: float) -> tuple[int, str]:
        """Run a check in the tree; return its exit code and what it printed."""
        words = shlex.split(check)[3:]
        request = {"words": words, "tree": str(tree), "env": env, "output": str(output), "longest": longest}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return code, output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the process: it stops when its input does."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def child(request: dict) -> None:
    """Become a fresh pytest in the tree, as far as it can see."""
    os.setsid()
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, request["output"], os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(path, flags, 0o600), number)
    os.dup2(1, 2)
    os.chdir(request["tree"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = [request["tree"], *request["env"]["PYTHONPATH"].split(os.pathsep)]
    sys.argv = ["pytest", *request["words"]]
    code = pytest.main(request["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


def wait(pid: int, longest: float) -> int:
    """Wait for a child, and stop it and all it started once it takes too long."""
    end = time.monotonic() + longest
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve() -> None:
    """Import once, then fork for each request."""
    sys.path.remove(str(Path(__file__).parent))
    for name in SHARED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(request)
        print(wait(pid, request["longest"]), flush=True)


if __name__ == "__main__":
    serve()
