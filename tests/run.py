"""Run every check, stage by stage, with the network blocked: what `make test` calls.

    python tests/run.py                 # all stages, two at a time
    python tests/run.py lint unit       # only these
    python tests/run.py --status        # run the notebooks and write the status page from their claims

Two stages run side by side, so that one works while the other waits for a browser, a kernel or its last test; each line
of output begins with its stage. A stage that fails does not stop the others. The last line counts what passed and what
failed, and the exit code is 0 only if nothing failed. The whole output of each stage is kept in
`_build/test/STAGE.log`.
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "_build" / "test"
CLAIMS = OUT / "claims.jsonl"
SITE = OUT / "book" / "_build" / "html"
PY = sys.executable
LONGEST = 3000
"""Seconds after which a command is stopped and counts as failed."""

SHOWN = 12
"""Failures of a stage that the summary lists; its log has all."""

TOGETHER = 2
"""Stages that run at the same time, each with two workers or one."""

AFTER = {"generated": "notebooks", "site": "book", "faults": "book"}
"""What must have ended before a stage starts: the notebooks write the claims, the book is what a browser looks at."""

START = ("lint", "book", "unit", "faults", "notebooks", "site", "labs", "generated")
"""The order in which stages start: what others wait for, then the longest first."""

# Folders under tests/ that have a stage of their own, and so are no part of the unit tests.
OWN_STAGE = ("site", "labs", "faults", "benchmarks")
IGNORED = [f"--ignore=tests/{name}" for name in OWN_STAGE]


def pytest(*arguments: str) -> list[str]:
    """Return a pytest command that shows dots, reasons for skips, and one line for each failure."""
    plugins = [] if "--nbval" in arguments else ["-p", "no:nbval"]  # it takes seconds to load
    return [PY, "-m", "pytest", "-q", "-rfEs", "--color=no", *plugins, *arguments]


TWO_WORKERS = ("-n", "2", "--dist", "loadfile")
NBVAL = ("-p", "tests.notebooks.stored", "--nbval", "--nbval-sanitize-with", "tests/sanitize.cfg")


def module(name: str, *arguments: str) -> list[str]:
    """Return a command that runs a module."""
    return [PY, "-m", name, *arguments]


STAGES: dict[str, tuple[str, list[list[str]]]] = {
    "lint": (
        "style and spelling",
        [
            module("ruff", "check", "."),
            module("ruff", "format", "--check", "lablib", "tests", "make", "book/_ext"),
            module("codespell_lib"),
        ],
    ),
    "unit": (
        "the package, its doctests, and the house",
        [
            pytest(
                *TWO_WORKERS, "--doctest-modules", *(f"--ignore=tests/{name}" for name in OWN_STAGE), "tests", "lablib"
            ),
        ],
    ),
    "notebooks": (
        "every notebook runs, and its stored outputs are true",
        [pytest(*TWO_WORKERS, *NBVAL, "book", "labs")],
    ),
    "generated": (
        "what is made from other files is fresh",
        [
            module("lablib.teaching.editions", "--check"),
            module("lablib.teaching.equations", "--check"),
            module("lablib.teaching.status", "--check"),
        ],
    ),
    "book": (
        "the book builds in a fresh folder, every warning an error",
        [[PY, "make/book.py", "--into", str(OUT / "book")]],
    ),
    "site": ("every page in a real browser", [pytest(*TWO_WORKERS, "tests/site")]),
    "labs": ("the labs in JupyterLab and as in Colab", [pytest(*TWO_WORKERS, "tests/labs")]),
    "faults": ("every planted fault is caught", [pytest("-n", "2", "tests/faults")]),
}


@dataclass
class Result:
    """What a stage did."""

    stage: str
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def block_network() -> str:
    """Leave the network, where the system allows it, and say how the checks are kept offline.

    As root on Linux this process moves into a network of its own that has loopback alone, which binds browsers
    and other programs too. Elsewhere the guard in `tests/network` binds every Python process.
    """
    clone_newnet, siocgifflags, siocsifflags, up = 0x40000000, 0x8913, 0x8914, 1
    if sys.platform != "linux" or os.geteuid() != 0:
        return "sockets beyond loopback are refused (tests/network)"
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        return "sockets beyond loopback are refused (tests/network); this system gives no network of its own"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        flags = struct.unpack("16sh", fcntl.ioctl(handle, siocgifflags, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(handle, siocsifflags, struct.pack("16sh", b"lo", flags | up))
    return "a network of their own with loopback alone, and sockets beyond it are refused (tests/network)"


def environment() -> dict[str, str]:
    """Return the variables that every check runs with: offline, one thread, nobody's own settings."""
    browser, programs = ROOT / ".venv" / "browser", OUT / "bin"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER_", "PYTEST_"))}
    env = {
        **inherited,
        "PATH": os.pathsep.join([str(Path(PY).parent), os.environ.get("PATH", ""), str(programs)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "tests" / "network"), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(OUT / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(OUT / "ipython"),
        "PIP_NO_INDEX": "1",
        "BOOK_HTML": str(SITE),
        "LABLIB_CLAIMS": str(CLAIMS),
    }
    if browser.is_file():  # found or brought by `make env`, perhaps under another name or off the path
        programs.mkdir(parents=True, exist_ok=True)
        (programs / "chromium").unlink(missing_ok=True)
        (programs / "chromium").symlink_to(browser.read_text().strip())
    return env


children: set[subprocess.Popen] = set()
stopping = threading.Event()


class Teller:
    """Show a stage's output line by line, each with the stage in front; alone, a stage is shown as it comes."""

    def __init__(self, stage: str, alone: bool):
        self.prefix, self.alone, self.rest = f"{stage:<10} ", alone, b""

    def __call__(self, chunk: bytes) -> None:
        if self.alone:
            sys.stdout.buffer.write(chunk)
        else:
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            shown = [self.prefix + line.decode("utf-8", "replace").rstrip() + "\n" for line in lines if line.strip()]
            sys.stdout.write("".join(shown))
        sys.stdout.flush()


def end(child: subprocess.Popen, number: int) -> None:
    """Send a signal to a command and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def run(command: list[str], log, env: dict[str, str], show: Teller | None) -> int:
    """Run one command to its end, into the log and, if asked, to the terminal; 124 if it took too long."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    children.add(child)
    late = threading.Timer(LONGEST, end, [child, signal.SIGKILL])
    late.start()
    try:
        while chunk := child.stdout.read1(4096):
            log.write(chunk)
            if show:
                show(chunk)
        code = child.wait()
    finally:
        late.cancel()
        child.stdout.close()
        children.discard(child)
    return 124 if code == -signal.SIGKILL else code


def stop_children() -> None:
    """Interrupt what runs, and kill what has not ended after twenty seconds."""
    stopping.set()
    left = list(children)
    for child in left:
        end(child, signal.SIGINT)
    for child in left:
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            end(child, signal.SIGKILL)


def read_report(report: Path, result: Result) -> int:
    """Add what pytest counted; return how many tests it knew of."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        skip = case.find("skipped")
        if wrong is not None:
            result.failed += 1
            lines = (wrong.get("message") or wrong.text or "").strip().splitlines() or [""]
            result.failures.append(f"{name}: {lines[0][:160]}")
        elif skip is not None:
            reason = skip.get("message") or "no reason given"
            result.skipped[reason] = result.skipped.get(reason, 0) + 1
        else:
            result.passed += 1
    return len(cases)


def run_stage(name: str, env: dict[str, str], alone: bool = True) -> Result:
    """Run a stage's commands, every one of them, and count."""
    what, commands = STAGES[name]
    print(f"\n== {name}: {what}", flush=True)
    result, start, show = Result(name), time.monotonic(), Teller(name, alone)
    env = {**env, "LABLIB_STAGE": name}
    if name not in ("notebooks", "generated"):
        env.pop("LABLIB_CLAIMS", None)  # only the notebooks' claims are the book's
    with (OUT / f"{name}.log").open("wb") as log:
        for command in commands:
            if stopping.is_set():
                break
            is_pytest = "pytest" in command[:3]
            report = OUT / f"{name}.xml"
            report.unlink(missing_ok=True)
            begun = log.tell()
            extra = [f"--junitxml={report}", "-o", "junit_family=xunit1"] if is_pytest else []
            code = run([*command, *extra], log, env, show if is_pytest else None)
            readable = re.sub(r"\S*/(bin/)?python[\d.]* (-m )?", "", " ".join(command)).replace(f"{ROOT}/", "")
            failed_before = result.failed
            if is_pytest:
                read_report(report, result)
                if code and result.failed == failed_before:
                    result.failed += 1
                    result.failures.append(f"pytest ended with code {code}; see _build/test/{name}.log")
            elif code:
                result.failed += 1
                result.failures.append(readable + (": took too long" if code == 124 else ""))
                log.flush()
                text = (OUT / f"{name}.log").read_bytes()[begun:].decode("utf-8", "replace")
                print("\n".join(text.splitlines()[-40:]), flush=True)
            else:
                result.passed += 1
            if not is_pytest:
                print(f"{'FAILED' if code else 'ok'}: {readable}", flush=True)
    result.seconds = time.monotonic() - start
    print(f"== {name}: {result.passed} passed, {result.failed} failed, {result.seconds:.0f} s", flush=True)
    return result


def summarise(results: list[Result], wanted: list[str], seconds: float) -> int:
    """Print the table, the failures and the counts; return the exit code."""
    print(f"\n{'stage':<11}{'seconds':>8}{'passed':>8}{'failed':>8}{'skipped':>9}")
    for result in results:
        skipped = sum(result.skipped.values())
        print(f"{result.stage:<11}{result.seconds:>8.0f}{result.passed:>8}{result.failed:>8}{skipped:>9}")
    for result in results:
        for reason, count in result.skipped.items():
            print(f"skipped in {result.stage}: {count} x {reason}")
    for name in wanted:
        if name not in {result.stage for result in results}:
            print(f"not run: {name}")
    failures = []
    for result in results:
        failures += [f"  {result.stage}: {line}" for line in result.failures[:SHOWN]]
        if len(result.failures) > SHOWN:
            failures.append(f"  {result.stage}: and {len(result.failures) - SHOWN} more")
    if failures:
        print("\nFailures:\n" + "\n".join(failures))
    passed, failed = sum(r.passed for r in results), sum(r.failed for r in results)
    print(f"\n{seconds / 60:.1f} minutes; the full output of each stage is in _build/test")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def run_all(wanted: list[str], env: dict[str, str]) -> tuple[list[Result], bool]:
    """Run the stages, some side by side; return their results in the usual order, and whether it was broken off."""
    waiting, running, done = sorted(wanted, key=lambda name: START.index(name) if name in START else 0), set(), {}
    turn = threading.Condition()

    def ready() -> str | None:
        return next((name for name in waiting if AFTER.get(name) not in {*waiting, *running}), None)

    def lane() -> None:
        while True:
            with turn:
                turn.wait_for(lambda: stopping.is_set() or not waiting or ready())
                if stopping.is_set() or not waiting:
                    return
                name = ready()
                waiting.remove(name)
                running.add(name)
            try:
                result = run_stage(name, env, alone=len(wanted) == 1)
            except Exception as error:
                result = Result(name, failed=1, failures=[f"the runner itself stopped: {error!r}"])
            with turn:
                running.remove(name)
                if not stopping.is_set():
                    done[name] = result
                turn.notify_all()

    lanes = [threading.Thread(target=lane) for _ in range(min(TOGETHER, len(wanted)))]
    stopping.clear()
    for one in lanes:
        one.start()
    try:
        while any(one.is_alive() for one in lanes):
            lanes[0].join(0.1)
            lanes[-1].join(0.1)
    except KeyboardInterrupt:
        stop_children()
        with turn:
            turn.notify_all()
        for one in lanes:
            one.join()
    return [done[name] for name in wanted if name in done], stopping.is_set()


def write_status(env: dict[str, str]) -> int:
    """Run the notebooks for their claims, and write the status page from them."""
    results, broken_off = run_all(["notebooks"], env)
    code = summarise(results, ["notebooks"], sum(result.seconds for result in results))
    if broken_off or code:
        return code or 130
    return subprocess.run(module("lablib.teaching.status"), cwd=ROOT, env=env).returncode


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all when none is named")
    parser.add_argument("--status", action="store_true", help="write the status page from fresh claims")
    options = parser.parse_args()
    if unknown := [name for name in options.stages if name not in STAGES]:
        parser.error(f"no such stage: {', '.join(unknown)}; there are {', '.join(STAGES)}")
    wanted = [name for name in STAGES if not options.stages or name in options.stages]

    # A shell that starts this in the background has Ctrl-C ignored, which every child would inherit, and some test it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    OUT.mkdir(parents=True, exist_ok=True)
    if "notebooks" in wanted or options.status:
        CLAIMS.unlink(missing_ok=True)
    if "book" in wanted:
        shutil.rmtree(OUT / "book", ignore_errors=True)
    print(f"Offline: {block_network()}", flush=True)
    env = environment()
    if options.status:
        return write_status(env)

    start = time.monotonic()
    results, broken_off = run_all(wanted, env)
    if broken_off:
        print("\nStopped by you; this is what was done.")
    code = summarise(results, wanted, time.monotonic() - start)
    return 130 if broken_off else code


if __name__ == "__main__":
    sys.exit(main())
