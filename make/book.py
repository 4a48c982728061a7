"""Build the book from the notebooks' stored outputs, and serve it on this machine.

python make/book.py            # build into _build/html, then serve on 127.0.0.1 until Ctrl-C
python make/book.py --no-serve # only build
python make/book.py --into DIR # only build, into DIR/_build/html
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT, LAST_PORT = 8000, 8099


def build(into: Path) -> int:
    """Build into a fresh folder, every warning an error: a second build in a used one would hide failures."""
    shutil.rmtree(into / "_build", ignore_errors=True)
    into.mkdir(parents=True, exist_ok=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ROOT, "--path-output", into, "-W", "-n", "--keep-going"]
    return subprocess.run(command, cwd=ROOT).returncode


class Pages(http.server.SimpleHTTPRequestHandler):
    """Files of the book, its own page for what is missing, and a quiet log."""

    def log_message(self, *_: object) -> None:
        """Keep the terminal for what the reader needs."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Show the book's own 404 page."""
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            return super().send_error(code, message, explain)
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve(folder: Path) -> None:
    """Serve on loopback, on the first free port from 8000 on, until Ctrl-C."""
    handler = functools.partial(Pages, directory=str(folder))
    for port in range(FIRST_PORT, LAST_PORT + 1):
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
            break
        except OSError:
            continue
    else:
        sys.exit(f"Stopped: every port from {FIRST_PORT} to {LAST_PORT} is taken. The book is built: open {folder}")
    with server:
        print(f"\nThe book: http://127.0.0.1:{port}/    (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nEnded. The pages stay in _build/html.")


def main() -> None:
    """Build; swap the new pages in only when they are whole; serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-serve", action="store_true", help="only build")
    parser.add_argument("--into", type=Path, help="build into this folder's _build/html, and do not serve")
    options = parser.parse_args()
    if options.into:
        sys.exit(build(options.into.resolve()))
    fresh, pages = ROOT / "_build" / "fresh", ROOT / "_build" / "html"
    if build(fresh):
        sys.exit("\nThe book was not built: each line with WARNING or ERROR above names a page and a line.")
    shutil.rmtree(pages, ignore_errors=True)
    (fresh / "_build" / "html").rename(pages)
    shutil.rmtree(fresh)
    count = len(list(pages.glob("book/*.html")) + list(pages.glob("labs/*.html")))
    print(f"\n{count} pages in _build/html", flush=True)
    if not options.no_serve:
        serve(pages)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped by you. Run the same command again.")
