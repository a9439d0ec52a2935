"""What is owed to the accounts in ``institution/accounts/``: told together with what is owed to the account
whose mount it is. Each has a journal of its own, so that the number of a row says nothing outside of it:
there a path does, by which the commands find the account (``commandline/mounts.py``).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import trio

from figfs.control.ledger import NOT_OWED, Ledger, figures, is_below, offline_report
from figfs.writing.journal import Deletion, State, Upload, read_journal
from figfs.writing.spool import Spool

log = logging.getLogger(__name__)

_SUMS = ("owed", "parked", "bytes", "sent", "writing", "held", "local_only")
_LISTS = ("uploads", "deletions", "never_closed")


class Reports(Protocol):
    """See ``Ledger``."""

    async def report(self, under: str = "", limit: int | None = None) -> dict[str, Any]: ...


class Inner(NamedTuple):
    """An account that something is owed to. ``place``: of its directory, below the mount point."""

    place: str
    ledger: Reports


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


# ---- accounts that are not open --------------------------------------------------------------------------


class Left:
    """What an earlier mount has left in the state directory of an account, which is not open yet.

    ``rows``: of its journal, and ``owed`` without what is parked. ``stays``: why it cannot be sent, "" if it
    will be: then it is as good as parked, and nobody waits for it.
    """

    def __init__(self, directory: Path, *, rows: int, owed: int) -> None:
        self.directory = directory
        self.rows = rows
        self.owed = owed
        self.stays = ""

    async def report(self, under: str = "", limit: int | None = None) -> dict[str, Any]:
        found = await trio.to_thread.run_sync(offline_report_of, self.directory, under)
        uploads, deletions = ([self._told(entry) for entry in found[name]] for name in _LISTS[:2])
        return figures(uploads, deletions, found["never_closed"], limit)

    def _told(self, entry: dict[str, Any]) -> dict[str, Any]:
        if not self.stays or entry["state"] in NOT_OWED:
            return entry
        return {**entry, "state": State.PARKED.value, "reason": self.stays}


def left_in(directory: Path) -> list[Left]:
    """The state directories below ``directory`` with something that an earlier mount owes, or keeps of what
    was refused or never closed. In a thread.
    """
    found = []
    for place in sorted(directory.glob("*/")):
        try:
            uploads, deletions = read_journal(place / "journal.db")
        except (sqlite3.Error, ValueError) as exc:
            log.warning("%s cannot be read: %s", place / "journal.db", exc)
            continue
        rows: list[Upload | Deletion] = [*uploads, *deletions]
        if rows or any(path.name.isdigit() for path in (place / "spool").glob("*")):
            owed = sum(row.state is not State.PARKED for row in rows)
            found.append(Left(place, rows=len(rows), owed=owed))
    return found


def offline_report_of(directory: Path, under: str = "") -> dict[str, Any]:
    """The report of one state directory that no mount has. Raises what reading it does."""
    rows = read_journal(directory / "journal.db")
    spool = directory / "spool"
    unclosed = Spool(spool).abandoned(rows[0]) if spool.is_dir() else []
    return offline_report(rows, spool, unclosed, under=under)
