"""Puts this directory on the path, for ``inprocess.py``, and gives the clock of the tests that use it."""

from __future__ import annotations

import hypothesis
import pytest
from inprocess import fast_clock
from trio.testing import MockClock

# How long an example takes says how busy the machine is: four tests run at once. In continuous integration
# Hypothesis takes its own profile "ci", which has no deadline either.
if not hypothesis.settings.default.derandomize:
    hypothesis.settings.register_profile("figfs", deadline=None)
    hypothesis.settings.load_profile("figfs")


@pytest.fixture
def clock() -> MockClock:
    """Trio's clock, faster than the wall's. pytest-trio takes it from a test's own arguments only."""
    return fast_clock()
