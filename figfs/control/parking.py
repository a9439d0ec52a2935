"""Parked rows and never-closed bytes: what a person decides about them.

A parked upload is what Figshare has refused for good: its bytes are here, its name shows what Figshare
has. It is tried again (*retry*), or row and bytes go (*discard*). Both begin with the row as it is in the
journal now, and have no await from there to the change: of two commands for one row the second finds it
gone, or owed.
"""

from __future__ import annotations

import os
from errno import EBUSY, EEXIST, ENOENT
from pathlib import Path

import trio

from figfs.content import places
from figfs.content.deletions import Deletions
from figfs.content.resuming import Resumer
from figfs.content.settling import Settler
from figfs.control.ledger import Ledger, is_attached, unclosed_name
from figfs.figshare import articles, files
from figfs.figshare.client import Client
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, Key, Kind
from figfs.namespace.tree import Tree
from figfs.verbs.linkedfiles import LinkedFiles
from figfs.writing.journal import Deletion, Journal, State, Upload

TAKE_BACK_TIMEOUT = 15.0  #: seconds for what Figshare has of a discarded upload, while somebody waits


class Parking:
    """Of one running mount. Every method raises ``OSError`` with a text for a person where it is not
    done, and ``RemoteError`` where Figshare has to be asked and does not answer.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        journal: Journal,
        settler: Settler,
        spool_directory: Path,
        resumer: Resumer,
        deletions: Deletions,
        linked: LinkedFiles,
        ledger: Ledger,
    ) -> None:
        self._client = client
        self._tree = tree
        self._listings = listings
        self._journal = journal
        self._settler = settler
        self._spool_directory = spool_directory
        self._resumer = resumer
        self._deletions = deletions
        self._linked = linked
        self._ledger = ledger

    async def retry(self, number: int, *, replace: bool = False) -> None:
        """Carry out the parked row ``number``, like one that an earlier mount has left.

        ``FileExistsError`` if something newer bears the name now, unless the upload is to ``replace`` that.
        """
        row = self._parked(number)
        there = await self._on_figshare(row) if isinstance(row, Upload) else None
        row = self._parked(number)  # No await from here: it is parked still.
        if isinstance(row, Deletion):
            (self._linked if row.url else self._deletions).take_up(row)
            return
        if there is not None and there not in row.replaces:
            if not replace:
                raise FileExistsError(EEXIST, "a newer file bears that name on Figshare")
            row.replaces[there] = row.article_id
        self._resumer.take_up(row, replace=replace)

    async def discard(self, number: int) -> None:
        """Give up the parked row ``number``, and its bytes here."""
        row = self._parked(number)  # No await from here to the change of the row.
        _give_up(self._journal, self._spool_directory, row)
        if isinstance(row, Upload) and row.dropped:
            with trio.move_on_after(TAKE_BACK_TIMEOUT):
                await self._settler.forget(row)  # the next mount goes on with it

    def discard_unclosed(self, name: str) -> None:
        """Remove the bytes of a file that was never closed, by their name in the status (``n12``)."""
        path = next((path for path in self._ledger.unclosed.values() if unclosed_name(path) == name), None)
        if path is None:
            raise OSError(ENOENT, "there are no such bytes")
        path.unlink(missing_ok=True)
        del self._ledger.unclosed[path.name]

    def _parked(self, number: int) -> Upload | Deletion:
        return _parked_of([*self._journal.uploads(), *self._journal.deletions()], number)

    async def _on_figshare(self, row: Upload) -> int | str | None:
        """The file that has the row's place on Figshare, as far as the tree would not know of it."""
        article = self._tree.by_key(Key(Kind.ARTICLE, row.article_id))
        if isinstance(article, Container) and is_attached(self._tree, article):
            await self._listings.ensure_listed(article, must_succeed=True)
            return None
        same = [
            file
            for file in await files.list_files(self._client, row.article_id)
            if file.name == row.name and file.status != "created"
        ]
        if not same:
            return None
        folders = (await articles.get(self._client, row.article_id)).folder_structure
        place = places.of_upload(row)
        return next(
            (file.id for file in same if folders.get(str(file.id), "").strip("/") == place.folder), None
        )


def _parked_of(rows: list[Upload | Deletion], number: int) -> Upload | Deletion:
    for row in rows:
        if row.row == number:
            if row.state is not State.PARKED or (isinstance(row, Upload) and row.dropped):
                raise OSError(EBUSY, "it is not parked: what is on its way is stopped by removing the file")
            return row
    raise OSError(ENOENT, "no such row: it was stored, or discarded")


# ---- without a mount -------------------------------------------------------------------------------------


def discard_offline(journal: Journal, spool_directory: Path, number: int) -> None:
    """The same as ``Parking.discard``, for the next mount to take back what Figshare has of it. The caller
    holds the state directory.
    """
    _give_up(journal, spool_directory, _parked_of([*journal.uploads(), *journal.deletions()], number))


def _give_up(journal: Journal, spool_directory: Path, row: Upload | Deletion) -> None:
    """The bytes go, and the row, unless Figshare has something of it that is to be taken back first."""
    if isinstance(row, Upload) and row.file_id is not None:
        row.dropped = True
        journal.update(row)
    else:
        journal.remove(row)
    if isinstance(row, Upload) and row.spool_name:
        (spool_directory / row.spool_name).unlink(missing_ok=True)


def discard_unclosed_offline(abandoned: list[Path], name: str) -> None:
    """The same as ``Parking.discard_unclosed``, of what no row names."""
    for path in abandoned:
        if unclosed_name(path) == name:
            os.unlink(path)
            return
    raise OSError(ENOENT, "there are no such bytes")
