"""The commands that everything else stands on: the stage runner, the environment, the server, make."""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(path: str):
    """Load a program of the house by its file."""
    spec = importlib.util.spec_from_file_location(f"command_{Path(path).stem}", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# ---- tests/run.py ----


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """The stage runner, with stages of its own and an output folder of its own."""
    module = load("tests/run.py")
    good = "def test_a(): pass\ndef test_b(): pass\n"
    bad = "import pytest\ndef test_c(): assert 1 == 2\n@pytest.mark.skip('no card')\ndef test_d(): pass\n"
    (tmp_path / "test_good.py").write_text(good)
    (tmp_path / "test_bad.py").write_text(bad)
    alone = ("-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={tmp_path}")
    stages = {
        "bad": ("fails", [module.pytest(*alone, str(tmp_path / "test_bad.py"))]),
        "broken": ("is no test at all", [module.pytest(*alone, str(tmp_path / "absent.py"))]),
        "command": ("fails too", [[sys.executable, "-c", "raise SystemExit('it says why')"]]),
        "good": ("passes", [module.pytest(*alone, str(tmp_path / "test_good.py")), [sys.executable, "-c", ""]]),
        "slow": ("hangs", [[sys.executable, "-c", "import time; time.sleep(60)"]]),
    }
    monkeypatch.setattr(module, "STAGES", stages)
    monkeypatch.setattr(module, "OUT", tmp_path)
    monkeypatch.setattr(module, "CLAIMS", tmp_path / "claims.jsonl")
    monkeypatch.setattr(module, "block_network", lambda: "not here")
    return module


def run_stages(runner, monkeypatch, *stages: str) -> int:
    """Call the runner as the command line would."""
    monkeypatch.setattr(sys, "argv", ["run.py", *stages])
    return runner.main()


def test_a_failing_stage_fails_the_run_but_stops_no_other(runner, monkeypatch, capfd):
    assert run_stages(runner, monkeypatch, "bad", "broken", "command", "good") == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "3 passed, 3 failed"
    table = {
        line.split()[0]: line.split()[2:] for line in lines if line.split()[:1] and line.split()[0] in runner.STAGES
    }
    assert table == {
        "bad": ["0", "1", "1"],
        "broken": ["0", "1", "0"],
        "command": ["0", "1", "0"],
        "good": ["3", "0", "0"],
    }
    assert "skipped in bad: 1 x no card" in lines
    listed = lines[lines.index("Failures:") :]
    assert any("test_bad::test_c" in line and "1 == 2" in line for line in listed)
    assert "it says why" in lines
    assert any(line.startswith("good ") and "[100%]" in line for line in lines), "each line says whose it is"


def test_a_run_without_failure_ends_well(runner, monkeypatch, capfd):
    assert run_stages(runner, monkeypatch, "good") == 0
    assert capfd.readouterr().out.splitlines()[-1] == "3 passed, 0 failed"


def test_a_command_that_hangs_is_stopped_and_fails(runner, monkeypatch, capfd):
    monkeypatch.setattr(runner, "LONGEST", 1)
    assert run_stages(runner, monkeypatch, "slow") == 1
    assert "took too long" in capfd.readouterr().out


def test_two_stages_run_side_by_side_and_one_that_needs_another_waits(runner, monkeypatch, tmp_path, capfd):
    meet = (
        "import pathlib, sys, time; here, there = map(pathlib.Path, sys.argv[1:]); here.touch()\n"
        "end = time.time() + 20\n"
        "while not there.exists(): time.sleep(0.05); assert time.time() < end, 'alone'"
    )
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    stages = {
        "first": ("meets", [[sys.executable, "-c", meet, one, two]]),
        "last": ("waits", [[sys.executable, "-c", "import os, sys; assert os.path.exists(sys.argv[1])", two]]),
        "second": (
            "meets",
            [[sys.executable, "-c", "import time; time.sleep(1)"], [sys.executable, "-c", meet, two, one]],
        ),
    }
    monkeypatch.setattr(runner, "STAGES", stages)
    monkeypatch.setattr(runner, "AFTER", {"last": "second"})
    assert run_stages(runner, monkeypatch) == 0
    table = [line.split()[0] for line in capfd.readouterr().out.splitlines() if line[:6].strip() in stages]
    assert table == ["first", "last", "second"], "the summary keeps its order"


def test_an_unknown_stage_is_named(runner, monkeypatch, capfd):
    with pytest.raises(SystemExit) as stopped:
        run_stages(runner, monkeypatch, "units")
    assert stopped.value.code == 2
    assert "no such stage: units" in capfd.readouterr().err


def test_ctrl_c_ends_the_children_and_says_what_was_done(runner, monkeypatch, capfd):
    real = runner.run

    def interrupted(command, *rest, **named):
        if "time.sleep(60)" in command[-1]:
            signal.setitimer(signal.ITIMER_REAL, 1)
        return real(command, *rest, **named)

    def ctrl_c(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ctrl_c)
    monkeypatch.setattr(runner, "run", interrupted)
    monkeypatch.setattr(runner, "AFTER", {"slow": "good"})
    start = time.monotonic()
    try:
        assert run_stages(runner, monkeypatch, "good", "slow") == 130
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 30
    out = capfd.readouterr().out
    assert "Stopped by you" in out and "not run: slow" in out and out.splitlines()[-1] == "3 passed, 0 failed"


def test_every_check_runs_offline_on_one_thread(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    env = load("tests/run.py").environment()
    assert str(ROOT / "tests" / "network") in env["PYTHONPATH"].split(os.pathsep)
    assert env["OMP_NUM_THREADS"] == "1"
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "NetworkBlocked" in done.stderr


# ---- make/environment.py ----


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The program that makes the environment, in a house of its own, with nothing really installed."""
    module = load("make/environment.py")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.called = []

    def run(command, **_):
        module.called.append([str(part) for part in command])
        code = module.codes.get(command[3] if len(command) > 3 else "", 0)
        return subprocess.CompletedProcess(command, code)

    module.codes = {}
    monkeypatch.setattr(module.subprocess, "run", run)
    return module


@pytest.mark.parametrize(
    ("absent", "says"), [("git", "git is missing"), ("venv", "no venv module"), ("python", "3.11")]
)
def test_what_is_missing_is_said_with_what_to_type(environment, monkeypatch, absent, says):
    if absent == "git":
        monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    elif absent == "venv":
        monkeypatch.setitem(sys.modules, "ensurepip", None)
    else:
        monkeypatch.setattr(environment.sys, "version_info", (3, 10, 9))
    with pytest.raises(SystemExit) as stopped:
        environment.main(["python"])
    assert says in str(stopped.value)
    assert "apt-get install" in str(stopped.value) or "PYTHON=" in str(stopped.value)
    assert environment.called == []


def test_an_environment_is_made_once_and_again_when_its_list_changes(environment, tmp_path):
    folder = tmp_path / ".venv"

    def make():
        environment.called.clear()
        folder.mkdir(exist_ok=True)
        environment.make_venv(folder, "requirements.txt", "environment")
        return [call for call in environment.called if "install" in call]

    assert len(make()) == 1
    assert make() == []
    (tmp_path / "requirements.txt").write_text("torch==1.0\n")
    assert len(make()) == 1


def test_an_environment_that_was_cut_short_is_made_again(environment, tmp_path):
    folder = tmp_path / ".venv"
    folder.mkdir()
    environment.codes["install"] = 1
    with pytest.raises(SystemExit) as stopped:
        environment.make_venv(folder, "requirements.txt", "environment")
    assert "could not install" in str(stopped.value)
    environment.codes.clear()
    environment.called.clear()
    environment.make_venv(folder, "requirements.txt", "environment")
    assert any("install" in call for call in environment.called)


@pytest.mark.parametrize(
    ("system", "own", "root", "package", "expected"),
    [
        (["/usr/bin/chromium"], [], True, False, "/usr/bin/chromium"),
        ([None, "/usr/bin/chromium"], [None], True, True, "/usr/bin/chromium"),
        ([None, None], [None, "/own/chrome"], True, True, "/own/chrome"),
        ([None], [None, "/own/chrome"], False, False, "/own/chrome"),
        ([None], [None, None], False, False, None),
    ],
    ids=["the system's", "Debian's package", "Ubuntu's stub", "not root", "none"],
)
def test_a_browser_is_found_or_brought(environment, monkeypatch, tmp_path, system, own, root, package, expected):
    (tmp_path / ".venv").mkdir()
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(environment, "system_browser", lambda: system.pop(0))
    monkeypatch.setattr(environment, "own_browser", lambda: own.pop(0))
    monkeypatch.setattr(environment.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    if expected is None:
        with pytest.raises(SystemExit) as stopped:
            environment.make_browser()
        assert "no Chromium that runs" in str(stopped.value)
    else:
        environment.make_browser()
        assert (tmp_path / ".venv" / "browser").read_text().strip() == expected
    assert any("apt-get" in call[0] for call in environment.called) is package


def test_make_says_what_to_do_without_python():
    done = subprocess.run(["make", "book", "PYTHON="], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no Python 3.11 or later was found" in done.stdout and "apt-get install" in done.stdout


# ---- make/book.py ----


@pytest.fixture
def site(tmp_path):
    """A site of two pages."""
    (tmp_path / "index.html").write_text("the front page")
    (tmp_path / "404.html").write_text("not here, but there")
    return tmp_path


def start_server(folder: Path) -> tuple[subprocess.Popen, int]:
    """Start the server as `make book` does; return it and the port that it printed."""
    code = f"import book, pathlib; book.serve(pathlib.Path({str(folder)!r}))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "make"), os.environ.get("PYTHONPATH", "")])}
    server = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
    while "http://127.0.0.1:" not in (line := server.stdout.readline()):
        assert server.poll() is None
    return server, int(line.split("127.0.0.1:")[1].split("/")[0])


def get(port: int, address: str) -> tuple[int, str]:
    """Fetch a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", address)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_the_book_is_served_on_a_free_port_until_ctrl_c(site):
    with socket.create_server(("127.0.0.1", 0)):
        first, port = start_server(site)
        second, other = start_server(site)
        try:
            assert port != other, "the second takes the next free port"
            assert get(port, "/") == (200, "the front page")
            assert get(other, "/no/such/page.html") == (404, "not here, but there")
        finally:
            first.send_signal(signal.SIGINT)
            second.send_signal(signal.SIGINT)
        assert first.wait(10) == 0 and second.wait(10) == 0
        assert "Ended" in first.stdout.read() and "Ended" in second.stdout.read()
        first.stdout.close()
        second.stdout.close()


def test_a_failed_build_leaves_the_pages_that_were_there(tmp_path, monkeypatch):
    book = load("make/book.py")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["book.py", "--no-serve"])
    pages = tmp_path / "_build" / "html"
    pages.mkdir(parents=True)
    (pages / "index.html").write_text("old")
    monkeypatch.setattr(book, "build", lambda into: 1)
    with pytest.raises(SystemExit):
        book.main()
    assert (pages / "index.html").read_text() == "old"

    def build(into):
        (into / "_build" / "html").mkdir(parents=True)
        (into / "_build" / "html" / "index.html").write_text("new")
        return 0

    monkeypatch.setattr(book, "build", build)
    book.main()
    assert (pages / "index.html").read_text() == "new"


def test_the_build_is_strict_and_in_a_fresh_folder(tmp_path, monkeypatch):
    book = load("make/book.py")
    (tmp_path / "_build" / "html").mkdir(parents=True)
    (tmp_path / "_build" / "html" / "left-over.html").write_text("")
    seen = []
    monkeypatch.setattr(
        book.subprocess, "run", lambda command, **_: seen.extend(command) or subprocess.CompletedProcess(command, 0)
    )
    book.build(tmp_path)
    assert {"-W", "-n", "--keep-going"} <= set(seen)
    assert not (tmp_path / "_build").exists()
