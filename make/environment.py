"""Make what every other command needs: the only step that uses the network.

Runs on a bare Python 3.11 or later, before anything is installed, and can be run again at any time:
what is already there is left alone, and what Ctrl-C cut short is done anew.

    python3 make/environment.py            # the environment, a browser, the Colab-like environment
    python3 make/environment.py python     # the environment alone: enough to read and to run the labs
    python3 make/environment.py bench      # the peers that `make bench` measures against
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BENCH = ROOT / ".bench-venv"
OLDEST = (3, 11)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def say(line: str) -> None:
    """Print at once, so that progress shows in a log too."""
    print(line, flush=True)


def stop(problem: str, remedy: str) -> None:
    """Say what is missing and what to type, and leave."""
    sys.exit(f"\nStopped: {problem}\n  {remedy}\n  Then run the same command again.")


def check_machine() -> None:
    """Name everything that the machine itself lacks, before anything is downloaded."""
    if sys.version_info < OLDEST:
        stop(
            f"this is Python {sys.version.split()[0]}, and {OLDEST[0]}.{OLDEST[1]} or later is needed.",
            "Name another one: make env PYTHON=python3.11",
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            f"{sys.executable} has no venv module.",
            "On Debian or Ubuntu: sudo apt-get install python3-venv",
        )
    if shutil.which("git") is None:
        stop("git is missing.", "On Debian or Ubuntu: sudo apt-get install git")


def stamp_of(*files: str) -> str:
    """Return what an environment was made from, so that a change of it makes it anew."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(str(ROOT).encode())
    for file in files:
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()


def make_venv(folder: Path, requirements: str, what: str) -> None:
    """Create the environment and install into it; the stamp is written last, so a cut-short run shows."""
    stamp, wanted = folder / "made-from", stamp_of(requirements, "pyproject.toml")
    if stamp.is_file() and stamp.read_text() == wanted:
        say(f"{what}: ready in {folder.name}")
        return
    python = folder / "bin" / "python"
    works = python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
    if not works:
        say(f"{what}: creating {folder.name} with Python {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    stamp.unlink(missing_ok=True)
    say(f"{what}: installing {requirements} (about 1.6 GB with a CPU-only PyTorch; a minute or more)")
    done = subprocess.run([python, "-m", "pip", "install", "-r", requirements], cwd=ROOT)
    if done.returncode:
        stop(
            f"pip could not install {requirements}; its own message stands above.",
            "Is the network reachable, and is there disk space? (df -h .)",
        )
    stamp.write_text(wanted)


def starts(command: str | Path) -> bool:
    """Say whether this browser really runs: Ubuntu's package may be a stub that only asks for a snap."""
    try:
        return subprocess.run([command, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def system_browser() -> str | None:
    """Return the machine's own Chromium or Chrome, or the one that `CHROMIUM` names."""
    for name in filter(None, (os.environ.get("CHROMIUM"), *BROWSERS)):
        found = shutil.which(name)
        if found and starts(found):
            return found
    return None


def own_browser() -> str | None:
    """Return the path of the browser that playwright keeps for itself, if it is there and runs."""
    ask = "from playwright.sync_api import sync_playwright as p\nwith p() as q: print(q.chromium.executable_path)"
    asked = subprocess.run([VENV / "bin" / "python", "-c", ask], capture_output=True, text=True)
    found = asked.stdout.strip()
    return found if found and starts(found) else None


def make_browser() -> None:
    """Find a Chromium, or bring one: Debian's package when root, else playwright's own."""
    record = VENV / "browser"
    if record.is_file() and starts(record.read_text().strip()):
        say(f"browser: {record.read_text().strip()}")
        return
    found = system_browser() or own_browser()
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        say("browser: installing Debian's package chromium")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=quiet)
        packages = ["chromium", "fonts-dejavu-core"]
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], env=quiet)
        found = system_browser()
    if not found:
        say("browser: downloading playwright's own Chromium")
        subprocess.run([VENV / "bin" / "playwright", "install", "chromium"])
        found = own_browser()
    if not found:
        stop(
            "no Chromium that runs, and none could be brought. The book can be built and read without one; "
            "the browser tests cannot run.",
            "On Debian: sudo apt-get install chromium    Elsewhere: make env CHROMIUM=/path/to/chrome",
        )
    record.write_text(found + "\n")
    say(f"browser: {found}")


def make_colab() -> None:
    """Prepare the environment that resembles Colab's, in which the labs' first cell is tried."""
    script = ROOT / "tests" / "labs" / "colab.py"
    if script.is_file():
        done = subprocess.run([VENV / "bin" / "python", script, "--prepare"], cwd=ROOT)
        if done.returncode:
            stop("the Colab-like environment could not be made; the message stands above.", "Is the network reachable?")


def main(parts: list[str]) -> None:
    """Make the parts asked for; all but the peers' when none is named."""
    check_machine()
    if not parts or "python" in parts:
        make_venv(VENV, "requirements.txt", "environment")
    if not parts or "browser" in parts:
        make_browser()
    if not parts or "colab" in parts:
        make_colab()
    if "bench" in parts:
        make_venv(BENCH, "requirements-bench.txt", "benchmark environment")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nStopped by you. Run the same command again to go on.")
    except subprocess.CalledProcessError as error:
        sys.exit(f"\nStopped: {' '.join(map(str, error.cmd))} failed; its own message stands above.")
