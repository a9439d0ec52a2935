"""A sandbox in this process, and clients whose every answer is checked against the API description."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from sandbox_openapi import HOST, client_of

from figfs.sandbox.app import open_sandbox
from figfs.sandbox.state import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """An account with nothing in it."""
    async with open_sandbox(seed="empty", base_url=HOST) as opened:
        yield opened


@pytest.fixture
async def example() -> AsyncIterator[Sandbox]:
    async with open_sandbox(seed="example", base_url=HOST) as opened:
        yield opened


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """With the token of the empty account."""
    async with client_of(sandbox, Authorization=f"token {sandbox.token}") as client:
        yield client


@pytest.fixture
async def anyone(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token."""
    async with client_of(sandbox) as client:
        yield client


@pytest.fixture
async def example_api(example: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(example, Authorization=f"token {example.token}") as client:
        yield client
