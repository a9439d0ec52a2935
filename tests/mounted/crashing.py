"""figfs's command line, in a process that kills itself at a given transaction of its journal.

Run instead of ``python -m figfs.cli``. When the file named by ``FIGFS_TEST_CRASH`` is there, its text says
where: ``before upload stored`` or ``after deletion waiting``: before or after the commit of the first
transaction that puts an upload or deletion into that state (``removed``: takes its row away). SIGKILL: no
handler, no cleaning up, as at the end of the machine but for what the kernel still writes.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

from figfs import cli
from figfs.writing.journal import Deletion, Journal, State, Upload

_written: list[str] = []  #: what the transaction that is open has written
_insert, _write, _remove, _execute = Journal._insert, Journal._write, Journal.remove, Journal._execute


def _die_if(when: str) -> None:
    place = Path(os.environ["FIGFS_TEST_CRASH"])
    if place.exists():
        where, _, what = place.read_text().partition(" ")
        if where == when and what in _written:
            place.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def _note(row: Upload | Deletion, state: str) -> None:
    _written.append(f"{'upload' if isinstance(row, Upload) else 'deletion'} {state}")


def insert(self: Journal, row: Upload | Deletion) -> None:
    _note(row, row.state)
    _insert(self, row)


def write(self: Journal, row: Upload | Deletion) -> None:
    _note(row, row.state)
    _write(self, row)


def remove(self: Journal, row: Upload | Deletion) -> None:
    if isinstance(row, Deletion) or row.state is State.STORED:  # not what is only journaled anew
        _note(row, "removed")
    _remove(self, row)


def execute(self: Journal, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
    if statement != "COMMIT":
        return _execute(self, statement, values)
    _die_if("before")
    done = _execute(self, statement, values)
    _die_if("after")
    _written.clear()
    return done


if __name__ == "__main__":
    Journal._insert, Journal._write, Journal.remove, Journal._execute = (  # type: ignore[method-assign]
        insert,
        write,
        remove,
        execute,
    )
    sys.exit(cli.main())
