"""The built book as the browser tests see it: its folder, its pages, and a server on loopback."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]
BOOK = Path(os.environ.get("BOOK_HTML") or ROOT / "_build" / "html").resolve()
ABSENT = f"the built book is not at {BOOK}: run `make book SERVE=0`, or name its folder in the variable BOOK_HTML"
SUB_PATH = "/course/book/"


def is_page(file: Path) -> bool:
    """Tell a page from a template of the theme and from the page that only sends the reader on."""
    with file.open(encoding="utf-8") as text:
        return "_static" not in file.parts and 'http-equiv="refresh"' not in text.read(1000).lower()


def pages() -> list[str]:
    """Return the addresses of all pages, relative to the site's root."""
    if not BOOK.is_dir():
        return []
    return [str(file.relative_to(BOOK)) for file in sorted(BOOK.rglob("*.html")) if is_page(file)]


def page_parameters() -> list[str]:
    """Return what the tests of each page run over; without a book one entry, which fails with the reason."""
    return pages() or ["(no built book)"]


def pages_with(mark: str) -> list[str]:
    """Return the pages whose HTML holds the mark; reading is quicker than parsing."""
    return [page for page in pages() if mark in (BOOK / page).read_text(encoding="utf-8")]


def listed(found: list[str] | dict[str, list[str]]) -> str:
    """Write a finding a line, for a message that is not cut short."""
    if isinstance(found, dict):
        found = [f"{where}: {line}" for where, lines in found.items() for line in lines]
    return "\n  ".join(["", *map(str, found)])


@functools.cache
def soup(page: str) -> BeautifulSoup:
    """Parse a page as it lies on the disk, before any script has run."""
    return BeautifulSoup((BOOK / page).read_text(encoding="utf-8"), "html.parser")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve the book under a prefix, and its 404 page for everything else, as a static host does."""

    prefix = "/"
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""

    def translate_path(self, path: str) -> str:
        """Cut the prefix off; what lies outside it is nowhere."""
        if not path.startswith(self.prefix):
            return str(BOOK / "outside-the-prefix")
        return super().translate_path("/" + path[len(self.prefix) :])

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a missed address with the book's own page."""
        text = (BOOK / "404.html").read_bytes() if code == 404 and (BOOK / "404.html").is_file() else b"missing"
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


@contextmanager
def serving(prefix: str) -> Iterator[str]:
    """Serve the book on a free port of 127.0.0.1 under the prefix; yields the site's address."""
    handler = type("Prefixed", (Handler,), {"prefix": prefix})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(BOOK)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
