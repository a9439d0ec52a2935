"""Puts this directory on the path, for ``inprocess.py``, and gives the clock of the tests that use it."""

from __future__ import annotations

import pytest
from inprocess import fast_clock
from trio.testing import MockClock


@pytest.fixture
def clock() -> MockClock:
    """Trio's clock, faster than the wall's. pytest-trio takes it from a test's own arguments only."""
    return fast_clock()
