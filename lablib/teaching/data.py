"""MNIST for readers: found in a folder, or fetched with progress, resumed where a connection broke, and checked.

    from lablib.teaching import data
    images, labels = data.mnist("test", download=True)

Nothing is fetched unless `download=True` says so. No check of this book needs these files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = {
    "train": (
        ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
}
"""The files of each part, with the SHA-256 of what is in them once they are unzipped."""


def folder() -> Path:
    """Return where the files are kept: `$LABLIB_DATA`, or `~/.cache/lablib/mnist`."""
    return Path(os.environ.get("LABLIB_DATA") or Path.home() / ".cache" / "lablib" / "mnist")


def mnist(
    part: str = "test", *, download: bool = False, where: Path | str | None = None, source: str = SOURCE
) -> tuple[Tensor, Tensor]:
    """Return the images (n, 28, 28), uint8, and the labels (n,), int64, of a part: "train" (60,000), "test" (10,000).

    `where`: the folder with the gzipped IDX files, by default `folder()`. `download`: fetch what is missing from
    `source`. Raises FileNotFoundError where a file is missing, ValueError where it is not the right one.
    """
    if part not in FILES:
        raise ValueError(f"part is {part!r}: expected one of {', '.join(FILES)}")
    place = Path(where) if where is not None else folder()
    arrays = []
    for name, digest in FILES[part]:
        path = place / f"{name}.gz"
        if not path.is_file():
            if not download:
                raise FileNotFoundError(
                    f"{path} is not there: call mnist({part!r}, download=True) to fetch it, or put the file there"
                )
            fetch(f"{source}{path.name}", path, digest)
        arrays.append(read_idx(path, digest))
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels: the files do not belong together")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def read_idx(path: Path, digest: str | None = None) -> np.ndarray:
    """Return the array of bytes that a gzipped IDX file holds.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions, each size as a big-endian 32-bit
    integer, the entries. `digest`: the SHA-256 that the unzipped file must have. Raises ValueError for anything else.
    """
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be unzipped ({error}): delete it and fetch it again") from error
    if digest is not None and (found := hashlib.sha256(raw).hexdigest()) != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, expected {digest}: delete it and fetch it again")
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} begins with {raw[:4].hex(' ')}: expected 00 00 08, an IDX file of unsigned bytes")
    sizes = np.frombuffer(raw, ">u4", raw[3], 4) if len(raw) >= 4 + 4 * raw[3] else None
    expected = None if sizes is None else 4 + 4 * raw[3] + int(np.prod(sizes, dtype=np.int64))
    if sizes is None or len(raw) != expected:
        raise ValueError(f"{path} has {len(raw)} bytes unzipped: its header announces {expected or 'more'}")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes).copy()


def fetch(url: str, path: Path, digest: str, *, tries: int = 5, wait: float = 1.0) -> None:
    """Fetch a gzipped file, show how far it is, go on where a broken connection left it, and check what came.

    What has come so far is kept in `PATH.part`, over calls too. Only a file whose unzipped content has the SHA-256
    `digest` gets its name. `tries`: how often to connect; `wait`: seconds before the second try, twice as many before
    each further one. Raises ConnectionError, or ValueError where the digest differs, both saying what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(1, tries + 1):
        try:
            _go_on(url, part)
            break
        except (OSError, EOFError) as error:  # URLError, timeouts and resets are OSErrors
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise ConnectionError(f"{url} answers {error.code} {error.reason}: is the address right?") from error
            if attempt == tries:
                kept = part.stat().st_size if part.exists() else 0
                raise ConnectionError(
                    f"{url} could not be fetched in {tries} tries (the last one: {error}); {kept} bytes are kept in "
                    f"{part}, and the next call goes on from there. Without a connection, put the file at {path}"
                ) from error
            print(f"{path.name}: {error}; trying again in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
            wait *= 2
    try:
        read_idx(part, digest)
    except ValueError as error:
        part.unlink()
        raise ValueError(f"what came from {url} is not the file it should be, and was deleted: {error}") from error
    part.replace(path)


def _go_on(url: str, part: Path) -> None:
    """Append to `part` what is still missing; raise EOFError where the connection ends too early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with answer:
        if have and answer.status != 206:  # the server sends all of it
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            shown = -1
            while block := answer.read(1 << 16):
                file.write(block)
                have += len(block)
                percent = 100 * have // total if total else -1
                if percent >= shown + 10:
                    shown = percent
                    print(f"{part.stem}: {have / 1e6:.1f} of {total / 1e6:.1f} MB", file=sys.stderr)
    if total and have < total:
        raise EOFError(f"the connection ended after {have} of {total} bytes")
