"""What a mount answers on its control socket: ``server.py`` brings the requests, the parts do the work."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import trio

from figfs.control.inside import Inner, report_of_all
from figfs.control.itemcommands import ItemCommands
from figfs.control.ledger import Ledger, parked_in
from figfs.control.offline import Presence
from figfs.control.orphans import find_orphans
from figfs.control.parking import Parking
from figfs.control.server import Answer, Request, Send, describe
from figfs.errors import FigfsError, Unauthorized
from figfs.figshare.client import Client
from figfs.namespace.nodes import Container, Kind, Node
from figfs.namespace.tree import Tree
from figfs.reading.blockstore import BlockStore

WAIT_PAUSE = 0.3  #: seconds between looks while somebody waits
WAIT_SHARE = 10  #: and so many times what a look takes: a long list is looked at less often
HEARTBEAT = 5.0  #: seconds after which it hears from us though nothing has changed
STATISTICS_TIMEOUT = 2.0  #: seconds for counting what is in the cache; then it is left out


class Commands:
    """Of one mount. ``mountpoint``, ``account``: for the person who reads the status."""

    def __init__(
        self,
        *,
        mountpoint: Path,
        state_directory: Path,
        account: str,
        presence: Presence,
        read_only: bool,
        client: Client,
        tree: Tree,
        ledger: Ledger,
        parking: Parking,
        items: ItemCommands,
        store: BlockStore | None,
    ) -> None:
        self._about: dict[str, Any] = {
            "mountpoint": str(mountpoint),
            "state_directory": str(state_directory),
            "pid": os.getpid(),
            "account": account,
            "read_only": read_only,
        }
        self._presence = presence
        self._client = client
        self._tree = tree
        self._ledger = ledger
        self._parking = parking
        self._items = items
        self._store = store
        self.unmounting = False
        #: The accounts in it that something is owed to; told by the root.
        self.accounts: Callable[[], Iterable[Inner]] = lambda: ()

    def table(self) -> Mapping[str, Answer]:
        """Every command, by its name."""
        answers = {
            "hello": self._hello,
            "status": self._status,
            "wait": self._wait,
            "retry": self._retry,
            "discard": self._discard,
            "orphans": self._orphans,
            **self._items.table(),
        }
        return {name: functools.partial(self._advised, answer) for name, answer in answers.items()}

    async def _advised(self, answer: Answer, request: Request, send: Send) -> None:
        """A token that is refused is told with what can be done, in words that the log has, too."""
        try:
            await answer(request, send)
        except Unauthorized as exc:
            if trouble := self._client.token_trouble:
                raise Unauthorized(trouble, status=exc.status) from exc
            raise

    def _said(self) -> dict[str, Any]:
        return {
            **self._about,
            "mounted": not self.unmounting,
            "away": self._presence.away or None,
            "token_trouble": self._client.token_trouble or None,
        }

    async def _hello(self, request: Request, send: Send) -> None:
        await send(self._said())

    async def _status(self, request: Request, send: Send) -> None:
        """``under``: a path below the mount point; ``limit``: entries of each kind; ``brief``: no cache."""
        limit = request.get("limit")
        report = await self.report(self._under(request), limit if isinstance(limit, int) else None)
        cache = None if request.get("brief") else await self._cache()
        await send({**self._said(), **report, "cache": cache})

    async def report(self, under: str = "", limit: int | None = None) -> dict[str, Any]:
        """See ``Ledger.report``; with what is owed to the accounts in it."""
        return await report_of_all(self._ledger, self.accounts(), under, limit)

    def _under(self, request: Request) -> str:
        return self._ledger.canonical(str(request.get("under") or ""))

    async def _cache(self) -> dict[str, Any] | None:
        if self._store is None:
            return None
        with trio.move_on_after(STATISTICS_TIMEOUT):
            found = await trio.to_thread.run_sync(self._store.statistics, abandon_on_cancel=True)
            return {"directory": str(self._store.directory), "used": found.used}
        return None

    async def _wait(self, request: Request, send: Send) -> None:
        """A line for each change, the last when nothing is owed below ``under``, with what is parked there;
        or a line that says ``late``, after ``timeout`` seconds.
        """
        under, said, timeout = self._under(request), None, request.get("timeout")
        deadline = trio.current_time() + (timeout if isinstance(timeout, int | float) else math.inf)
        while True:
            began = time.perf_counter()
            report = await self.report(under)
            took = time.perf_counter() - began
            now = (report["owed"], report["sent"], int(began / HEARTBEAT))
            if not report["owed"]:
                await send({"owed": 0, "parked": parked_in(report)})
                return
            late = trio.current_time() >= deadline
            if now != said or late:
                said = now
                await send({key: report[key] for key in ("owed", "bytes", "sent")} | {"late": late})
            if late:
                return
            with trio.move_on_at(deadline):
                await trio.sleep(max(WAIT_PAUSE, WAIT_SHARE * took))

    async def _retry(self, request: Request, send: Send) -> None:
        """``rows``: numbers; ``replace``: also where something newer bears the name."""
        replace = request.get("replace") is True
        for number in _numbers(request):
            await _report(send, number, functools.partial(self._parking.retry, number, replace=replace))

    async def _discard(self, request: Request, send: Send) -> None:
        """``rows``: numbers; ``unclosed``: names of never-closed bytes."""
        for number in _numbers(request):
            await _report(send, number, functools.partial(self._parking.discard, number))
        for name in map(str, request.get("unclosed") or []):

            async def discard(name: str = name) -> None:
                self._parking.discard_unclosed(name)

            await _report(send, name, discard)

    async def _orphans(self, request: Request, send: Send) -> None:
        article = self._article(self._under(request))
        async with contextlib.aclosing(find_orphans(self._client, self._ledger, article)) as found:
            async for looked in found:
                orphans = [
                    {"article": looked.article_id, "title": looked.title, "file": file.id, "name": file.name,
                     "size": file.size}
                    for file in looked.orphans
                ]  # fmt: skip
                await send({"orphans": orphans, "done": looked.done, "total": looked.total})

    def _article(self, path: str) -> int | str | None:
        """The article that a path is in; None for one above all articles."""
        node: Node = self._tree.root
        for name in path.split("/") if path else []:
            child = node.children.get(name) if isinstance(node, Container) else None
            if child is None:
                break
            node = child
            if node.key.kind is Kind.ARTICLE:
                return node.key.id
        if node.key.kind in (Kind.ROOT, Kind.ARTICLES):
            return None
        raise ValueError("name an article, or nothing for all of them")


def _numbers(request: Request) -> list[int]:
    rows = request.get("rows") or []
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise ValueError("rows are numbers")
    return rows


async def _report(send: Send, what: int | str, act: Callable[[], Awaitable[None]]) -> None:
    try:
        await act()
    except (FigfsError, OSError) as exc:
        await send({"what": what, "failed": describe(exc)})
    else:
        await send({"what": what})
