"""What every test shares: one thread, fixed seeds, and hypothesis without chance."""

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
