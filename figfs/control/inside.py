"""What is owed to the accounts in ``institution/accounts/``: told together with what is owed to the account
whose mount it is. Each has a journal of its own, so that the number of a row says nothing outside of it:
there a path does, by which the commands find the account (``commandline/mounts.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from figfs.control.ledger import Ledger, is_below

_SUMS = ("owed", "parked", "bytes", "sent", "writing", "held", "local_only")
_LISTS = ("uploads", "deletions", "never_closed")


class Inner(NamedTuple):
    """An account that something is owed to. ``place``: of its directory, below the mount point."""

    place: str
    ledger: Ledger


async def report_of_all(
    own: Ledger, accounts: Iterable[Inner], under: str = "", limit: int | None = None
) -> dict[str, Any]:
    """``Ledger.report``, with the accounts' below ``under``."""
    found = await own.report(under, limit)
    for place, ledger in accounts:
        if is_below(place, under):
            found = merged(found, place, await ledger.report(limit=limit), limit)
    return found


def merged(
    report: dict[str, Any], place: str, other: dict[str, Any], limit: int | None = None
) -> dict[str, Any]:
    """``report``, with that of the account at ``place``. Neither is changed."""
    found = dict(report)
    for name in _SUMS:
        found[name] = report[name] + other[name]
    for name in _LISTS:
        found[name] = [*report[name], *(_seen_from_outside(entry, place) for entry in other[name])][:limit]
    found["counts"] = {name: number + other["counts"][name] for name, number in report["counts"].items()}
    return found


def _seen_from_outside(entry: dict[str, Any], place: str) -> dict[str, Any]:
    """An entry by its path in the mount, without the number or name that it has in the account's journal."""
    number = "row" if "row" in entry else "name"
    return {**entry, number: None, "path": f"{place}/{entry['path'] or '?'}"}
