"""A real JupyterLab on a folder of notebooks, and a page of Chromium that drives it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from browser import chromium
from playwright.sync_api import Page, TimeoutError

OVERRIDES = {
    # every cell is drawn, so that a test can see all of them
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(folder: Path, patience: float = 60.0) -> Iterator[str]:
    """Serve a folder with JupyterLab on loopback and give its address; what it prints goes to the error if it fails."""
    with tempfile.TemporaryDirectory() as home:
        settings = Path(home, "settings")
        settings.mkdir()
        (settings / "overrides.json").write_text(json.dumps(OVERRIDES))
        port = free_port()
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
        command += ["--IdentityProvider.token=", "--ServerApp.password=", f"--LabApp.app_settings_dir={settings}"]
        command += [f"--LabApp.user_settings_dir={home}/user", f"--LabApp.workspaces_dir={home}/workspaces"]
        own = {"JUPYTER_CONFIG_DIR": home, "JUPYTER_RUNTIME_DIR": f"{home}/runtime", "IPYTHONDIR": f"{home}/ipython"}
        with Path(home, "log").open("w+") as log:
            server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=log, stderr=log)
            address = f"http://127.0.0.1:{port}"
            try:
                end = time.monotonic() + patience
                while True:
                    try:
                        urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                        break
                    except OSError as error:
                        if server.poll() is not None or time.monotonic() > end:
                            log.seek(0)
                            raise RuntimeError(f"JupyterLab did not start:\n{log.read()[-3000:]}") from error
                        time.sleep(0.2)
                yield address
            finally:
                server.terminate()
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


@contextlib.contextmanager
def window(width: int = 1280, height: int = 1000) -> Iterator[Page]:
    """A page of the Chromium that `make env` found or brought."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(30_000)
        yield page


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook in a fresh workspace and wait until its kernel is idle."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()


PROMPTS = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(p => p.textContent.trim())"


ERRORS = '.jp-OutputArea-output[data-mime-type*="stderr"], .jp-OutputArea-output[data-mime-type*="error"]'


def run_all(page: Page, patience: float = 240.0) -> None:
    """Choose Run, Run All Cells from the menu, and wait until every code cell has run or one has failed."""
    for _ in range(3):  # a menu that is clicked while JupyterLab still arranges itself may do nothing
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(f"{PROMPTS}.some(text => text !== '[ ]:')", timeout=10_000)
            break
    page.wait_for_function(
        f"""{PROMPTS}.length > 0 && {PROMPTS}.every(text => /^\\[\\d+\\]:$/.test(text)) ||
            document.querySelector('{ERRORS}') !== null""",
        timeout=1000 * patience,
    )
