"""Plant a fault in the built book: an entry of a catalogue with `target = "site"` names a file of the built pages."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copy_book(target: Path, file: str) -> Path:
    """Copy the built book by links, which cost nothing; the file that is to be changed becomes one of its own."""
    book = Path(os.environ.get("BOOK_HTML") or ROOT / "_build" / "html").resolve()
    assert book.is_dir(), f"the built book is not at {book}: run `make book SERVE=0` first"

    def link(source: str, destination: str) -> None:
        try:
            os.link(source, destination)
        except OSError:  # another disk
            shutil.copy2(source, destination)

    copied = target / "html"
    shutil.copytree(book, copied, copy_function=link)
    if (copied / file).is_file():
        (copied / file).unlink()
        shutil.copy2(book / file, copied / file)
    return copied
