"""What tests share: one thread, fixed seeds, hypothesis without chance, and a chapter's code from scratch."""

import itertools
import json
import os
import random
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=False,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_configure(config):
    """Name the marks that tests carry."""
    config.addinivalue_line("markers", "eq(label): checks the equation with this label in the book")


@pytest.fixture(autouse=True)
def seeds():
    """Start each test from the same random state, whatever ran before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def double():
    """Work in double precision, as the chapters do."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def scratch(request):
    """Return the names that the cell "scratch" of the module's CHAPTER defines, in double precision as there."""
    import numpy as np
    import torch

    cells = json.loads(request.module.CHAPTER.read_text(encoding="utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "scratch"]
    names = {"torch": torch, "np": np, "itertools": itertools}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    exec(compile(source, "scratch", "exec"), names)
    yield names
    torch.set_default_dtype(before)
