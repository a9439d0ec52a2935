"""Time of the sandbox: the calendar's, advancing with Trio's clock, so that a test's mock clock moves it."""

from __future__ import annotations

import datetime
import time

import trio


class Clock:
    """Seconds since 1970. Built inside a Trio run; from then on it moves with ``trio.current_time()``."""

    def __init__(self) -> None:
        self._offset = time.time() - trio.current_time()

    def time(self) -> float:
        return trio.current_time() + self._offset

    def stamp(self) -> str:
        return stamp(self.time())


def stamp(seconds: float) -> str:
    """Seconds since 1970 as most dates of Figshare are written: ``2017-05-18T11:49:03Z``."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_zone(date: str) -> str:
    """The same date as in timelines, accounts and embargoes: without the Z (api.md §1, §2)."""
    return date.removesuffix("Z")
