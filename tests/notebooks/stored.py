"""A pytest plugin for nbval's runs: an output that is not stored is a failure.

nbval passes a notebook whose outputs were stripped, and compares nothing. Here a code cell that was never run, or
whose run gives output while none is stored, fails. Use: `pytest -p tests.notebooks.stored --nbval ...`.
"""

import pytest
from nbval.plugin import IPyNbCell


class NotStored(AssertionError):
    """A cell's output is missing from the notebook."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Let nbval run and compare the cell, then look at what was stored."""
    result = yield
    if isinstance(item, IPyNbCell) and not item.options["skip"] and item.cell.source.strip():
        if item.cell.execution_count is None:
            raise NotStored(f"cell {item.cell_num} was never run; execute the notebook and store its outputs")
        if item.test_outputs and not item.cell.outputs:
            raise NotStored(f"cell {item.cell_num} gives output, but none is stored; execute the notebook again")
    return result
