"""The build's own repairs of what the theme writes, one by one; the examples stand in their docstrings."""

import doctest
import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "book" / "_ext" / "accessible.py"


def accessible():
    spec = importlib.util.spec_from_file_location("accessible", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_hold():
    result = doctest.testmod(accessible())
    assert result.attempted >= 3
    assert result.failed == 0


def test_what_is_right_is_left_alone():
    body = (
        '<section id="a"><p>Text with <code>role="list"</code> and <input type="range" aria-label="x">.</p></section>'
    )
    assert accessible().mend(body) == body
