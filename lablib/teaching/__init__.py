"""What the book and the labs use beside the package itself: claims, checks for learners, figures, widgets.

Nothing in `lablib` outside this folder imports it. Its parts are imported when first used, so `import lablib.teaching`
needs neither matplotlib nor Jupyter.

    from lablib.teaching import claim, check, doctor, figures, explorer
"""

import importlib
import sys
from types import ModuleType

_FUNCTIONS = {"claim": "claims", "check": "checks", "doctor": "doctor"}
_MODULES = (
    "candidates",
    "columns",
    "figures",
    "explorer",
    "gap",
    "halfplanes",
    "multiplier",
    "rollout",
    "widget",
    "claims",
    "checks",
    "data",
    "editions",
    "equations",
    "status",
)

__all__ = ["check", "claim", "doctor", "explorer", "figures", "multiplier"]


class _Teaching(ModuleType):
    """A package in which a function may bear the name of the file that holds it."""

    def __setattr__(self, name: str, value: object) -> None:
        """Keep `doctor` the function when Python, on loading doctor.py, sets it to the module."""
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Teaching


def __getattr__(name: str) -> object:
    """Import the part that holds `name`."""
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f".{_FUNCTIONS[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"lablib.teaching has no {name!r}; it has {', '.join(sorted({*_FUNCTIONS, *_MODULES}))}")


def __dir__() -> list[str]:
    """Name what can be had, loaded or not."""
    return sorted({*globals(), *_FUNCTIONS, *_MODULES})
