"""One Chromium for the widgets' tests, which need no built book: a widget is a page of its own here."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PAGE = (
    '<!doctype html><html lang="en"{theme}><head><meta charset="utf-8"><title>widget</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    '<body{body} style="margin: 16px"><main><h1>Widget</h1>{widget}</main></body></html>'
)


def chromium(playwright):
    """Return the system's Chromium, or the one that playwright brought."""
    for name in ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    own = playwright.chromium.executable_path
    if not Path(own).exists():
        pytest.fail("no Chromium was found: `make env` brings one, or install Debian's package chromium", pytrace=False)
    return own


@pytest.fixture(scope="module")
def browser():
    """Start Chromium once."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def show(browser):
    """Return the function that opens a widget's HTML in a fresh window; console noise or a request fails the test."""
    contexts, troubles = [], []

    def open_widget(widget, *, width=1000, height=900, scheme="light", script=True, touch=False, theme="", body=""):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=script,
            has_touch=touch,
            offline=True,
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"page error: {error}"))
        page.on("request", lambda request: troubles.append(f"request: {request.url}"))
        page.set_content(PAGE.format(theme=theme, body=body, widget=widget))
        return page

    yield open_widget
    for context in contexts:
        context.close()
    assert not troubles
