"""What has happened to public items, in order: the memory behind ``api_resourcesync.py``."""

from __future__ import annotations

from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row, Store

#: No portal has older items (OAI-PMH says the same).
EARLIEST = "2010-01-08T00:00:00Z"

_SINCE = "changes_since"


def record(store: Store, kind: str, item_id: int, change: str, date: str) -> None:
    """``kind``: articles, projects, collections; ``change``: created, updated, deleted."""
    store.insert("public_changes", {"kind": kind, "item_id": item_id, "change": change, "date": date})


def begin(sandbox: Sandbox) -> None:
    """At each opening: a folder of an earlier figfs remembers nothing of what happened before now."""
    if sandbox.store.get_meta(_SINCE) is None:
        sandbox.store.set_meta(_SINCE, EARLIEST if sandbox.store.is_new else sandbox.clock.stamp())


def since(sandbox: Sandbox) -> str:
    """From when on all changes are known."""
    return sandbox.store.get_meta(_SINCE) or sandbox.clock.stamp()


def after(sandbox: Sandbox, date: str) -> list[Row]:
    """Changes of that date and later, the oldest first: ``kind``, ``item_id``, ``change``, ``date``."""
    return sandbox.store.rows("SELECT * FROM public_changes WHERE date >= ? ORDER BY date, position", date)
