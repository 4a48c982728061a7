"""One Chromium for the widgets' tests, which need no built book: a widget is a page of its own here."""

import pytest
from browser import chromium

PAGE = (
    '<!doctype html><html lang="en"{theme}><head><meta charset="utf-8"><title>widget</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    '<body{body} style="margin: 16px"><main><h1>Widget</h1>{widget}</main></body></html>'
)


@pytest.fixture(scope="module")
def browser():
    """Start Chromium once."""
    with chromium() as started:
        yield started


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
