"""Say what a lab runs on, whether that is what it was tried with, and which device to use."""

from __future__ import annotations

import platform
import re
from importlib import metadata

import torch

__all__ = ["SUPPORTED", "doctor"]

SUPPORTED = {
    "python": ("3.10", "3.13"),
    "torch": ("2.4", "2.13"),
    "numpy": ("1.24", "2.4"),
    "scipy": ("1.10", "1.17"),
}
"""Oldest version that lablib accepts and newest that its checks have run on; a test ties both to pyproject.toml and
requirements.txt."""


def release(version: str) -> tuple[int, int]:
    """The first two numbers of a version: what a range is about."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def installed(name: str) -> str:
    """The installed version of a package, or an empty string."""
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def judgement(name: str, version: str) -> str:
    """What to think of a version, and what to do when it is outside the range."""
    oldest, newest = SUPPORTED[name]
    if not version:
        return f"missing. Do this: pip install {name}"
    if release(version) < release(oldest):
        cure = (
            "Python itself must be newer" if name == "python" else f'Do this: pip install --upgrade "{name}>={oldest}"'
        )
        return f"TOO OLD: lablib needs {oldest} or later. {cure}, then restart the kernel."
    if release(version) > release(newest):
        return f"newer than {newest}, the newest that was tried. It should work; look here first if something does not."
    return f"fine ({oldest} to {newest})"


def doctor() -> torch.device:
    """Print the environment, compare its versions with the supported range, and pick the device.

    Returns:
        The CUDA device if there is one that torch can use, else the CPU.
    """
    lines = [("lablib", installed("lablib") or "not installed as a package", "")]
    lines += [(name, version := installed(name), judgement(name, version)) for name in SUPPORTED]
    if torch.cuda.is_available():
        device = torch.device("cuda")
        lines.append(("device", "cuda", torch.cuda.get_device_name(device)))
    else:
        device = torch.device("cpu")
        lines.append(("device", "cpu", "no CUDA card that torch can use; every lab is made for this"))
    for name, value, remark in lines:
        print(f"{name:<8} {value:<14} {remark}".rstrip())
    return device
