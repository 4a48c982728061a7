"""The Chromium of all browser tests: where it is found, and what it is started with."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium, or the one that playwright brought, with a home of its own; fail where none is."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as home:
        program = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(program).exists():
            missing = "no Chromium was found: `make env` brings one, or install Debian's package chromium"
            pytest.fail(missing, pytrace=False)
        started = playwright.chromium.launch(executable_path=program, args=FLAGS, env={**os.environ, "HOME": home})
        yield started
        started.close()
