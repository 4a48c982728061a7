"""Set the repository's address everywhere it must appear, or show where it stands.

    python make/address.py https://github.com/OWNER/REPO   # set it
    python make/address.py none                            # take it away: buttons hidden, cells say what to do
    python make/address.py                                 # show it, and every place that disagrees

The address stands in one place, `repository: url` of `_config.yml`; everything else is written from it.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
VALID = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
EDITIONS = "lablib.teaching.editions"


@dataclass
class Place:
    """One text that follows the address: the pattern's group `text` is replaced."""

    file: str
    pattern: str
    unset: str
    set: str

    def text(self, address: str) -> str:
        """Return what must stand there."""
        if not address:
            return self.unset
        owner, name = urlsplit(address).path.strip("/").split("/")
        pages = f"https://{owner.lower()}.github.io/" + (
            "" if name.lower() == f"{owner.lower()}.github.io" else f"{name}/"
        )
        return self.set.format(address=address, pages=pages)


BADGES = (
    "[![tests]({address}/actions/workflows/test.yml/badge.svg)]({address}/actions/workflows/test.yml) "
    "[Read the book]({pages})"
)
PLACES = (
    Place("_config.yml", r"^repository:\n  url: (?P<text>.*)$", '""', "{address}"),
    Place(
        "CITATION.cff",
        r"^(?P<text>(# )?repository-code: .*)$",
        "# repository-code: written by `make address`",
        'repository-code: "{address}"',
    ),
    Place("README.md", r"^git clone (?P<text>\S+)", "ADDRESS", "{address}"),
    Place("README.md", r'"git\+(?P<text>[^"]+)"', "ADDRESS", "{address}"),
    Place("README.md", r"<!-- address -->(?P<text>.*)<!-- /address -->", "", BADGES),
)


def current(root: Path = ROOT) -> str:
    """Return the address, or an empty string while it is unset."""
    found = re.search(PLACES[0].pattern, (root / "_config.yml").read_text(encoding="utf-8"), flags=re.M)
    return found["text"].strip("\"' ") if found else ""


def rewritten(root: Path, address: str) -> dict[Path, tuple[str, str]]:
    """Return, for each file, its text as it is and as it must be."""
    texts: dict[Path, tuple[str, str]] = {}
    for place in PLACES:
        path = root / place.file
        before, now = texts.get(path, (path.read_text(encoding="utf-8"),) * 2)
        found = re.search(place.pattern, now, flags=re.M)
        if not found:
            sys.exit(f"{place.file} has no place for the address any more: nothing matches {place.pattern}")
        texts[path] = (before, now[: found.start("text")] + place.text(address) + now[found.end("text") :])
    return texts


def disagreements(root: Path = ROOT) -> list[str]:
    """Name every file that does not follow `_config.yml`."""
    found = [str(path.relative_to(root)) for path, (is_, must) in rewritten(root, current(root)).items() if is_ != must]
    labs = subprocess.run([sys.executable, "-m", EDITIONS, "--check"], cwd=root, capture_output=True, text=True)
    return found + ([f"labs: {(labs.stdout + labs.stderr).strip()}"] if labs.returncode else [])


def write(address: str, root: Path = ROOT) -> None:
    """Write the address into every place, then make the labs again, whose first cell holds it."""
    for path, (before, now) in rewritten(root, address).items():
        if before != now:
            path.write_text(now, encoding="utf-8")
            print(f"changed {path.relative_to(root)}", flush=True)
    subprocess.run([sys.executable, "-m", EDITIONS], cwd=root, check=True)


def main(arguments: list[str]) -> int:
    """Do what was asked for."""
    if not arguments or not arguments[0].strip():
        print(f"address: {current() or 'unset; set it with make address URL=https://github.com/OWNER/REPO'}")
        wrong = disagreements()
        print("\n".join(f"disagrees: {line}" for line in wrong) or "every place agrees")
        return 1 if wrong else 0
    address = arguments[0].strip().removesuffix("/").removesuffix(".git")
    if address == "none":
        address = ""
    elif not VALID.fullmatch(address):
        print(f"{arguments[0]!r} is no address of the form https://github.com/OWNER/REPO", file=sys.stderr)
        return 2
    write(address)
    print(f"address: {address or 'unset'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
