"""Random operations on one mount against the plain model (``reference.py``): no difference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, note, settings
from known import is_known
from onemount import Operation, run
from operations import operation_lists


def _check(operations: list[Operation]) -> None:
    note("run([\n" + "".join(f"    {operation!r},\n" for operation in operations) + "])")
    run(operations, is_known)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(operation_lists)
def test_random_operations(operations: list[Operation]) -> None:
    """Whatever programs do, each reads what it wrote, and Figshare holds exactly the files in the end."""
    _check(operations)


@pytest.mark.long
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(operation_lists)
def test_ten_thousand_random_operations(operations: list[Operation]) -> None:
    """The same with 10,000 steps and more."""
    _check(operations)
