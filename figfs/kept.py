"""What was asked for and is kept for a while: asked for once, however many wait for it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import cachetools
import trio

from figfs.errors import FigfsError, RemoteError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Loading(Generic[V]):
    """One request that is under way."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: V | None = None
        self.failure: Exception = RemoteError("the mount has ended")


class Kept(Generic[K, V]):
    """Values by key.

    Args:
        nursery: the services nursery; a request must outlive the program that asked first.
        fetch: asks for a value, never None; it raises ``FigfsError`` or ``OSError``.
        seconds: for which a value is kept. Failures are not kept.
        most: the sum of the sizes of what is kept.
        size_of: the size of a value.
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        fetch: Callable[[K], Awaitable[V]],
        seconds: float,
        most: int,
        size_of: Callable[[V], int],
    ) -> None:
        self._nursery = nursery
        self._fetch = fetch
        self._size_of = size_of
        self._values: cachetools.TTLCache[K, V] = cachetools.TTLCache(
            most, seconds, timer=trio.current_time, getsizeof=size_of
        )
        self._loading: dict[K, _Loading[V]] = {}

    async def get(self, key: K) -> V:
        """The value that is kept, or a new one. Cancellation leaves the request running for the others."""
        known = self.known(key)
        if known is not None:
            return known
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = _Loading()
            self._nursery.start_soon(self._load, key, loading, name=f"make {key}")
        await loading.done.wait()
        if loading.value is None:
            raise copy.copy(loading.failure)  # each waiter its own: see listings.py
        return loading.value

    def known(self, key: K) -> V | None:
        """The value, if one is kept."""
        return self._values.get(key)

    def drop(self, concerns: Callable[[K], bool]) -> None:
        """Nothing that began before now is given out for these keys to who asks from now on."""
        for key in [key for key in self._values if concerns(key)]:
            del self._values[key]
        for key in [key for key in self._loading if concerns(key)]:
            del self._loading[key]

    async def _load(self, key: K, loading: _Loading[V]) -> None:
        try:
            value = await self._fetch(key)
            loading.value = value
            if self._loading.get(key) is loading and self._size_of(value) <= self._values.maxsize:
                self._values[key] = value
        except (FigfsError, OSError) as exc:
            loading.failure = exc
        except Exception as exc:
            log.exception("%s: a bug in figfs", key)
            loading.failure = RemoteError(f"internal error: {exc!r}")
        finally:
            if self._loading.get(key) is loading:
                del self._loading[key]
            loading.done.set()
