"""One running sandbox, as its endpoints see it."""

from __future__ import annotations

import dataclasses
import json

import trio

from figfs.sandbox.blobs import Blobs
from figfs.sandbox.clock import Clock
from figfs.sandbox.faults import FaultPlan
from figfs.sandbox.requestlog import RequestLog
from figfs.sandbox.settings import Settings
from figfs.sandbox.store import Store


@dataclasses.dataclass(slots=True)
class Sandbox:
    """``base_url`` is scheme, host and port, no slash at its end: all addresses in answers begin with it.

    ``background`` is for the assembly of uploads; it ends with the sandbox.
    """

    store: Store
    blobs: Blobs
    clock: Clock
    background: trio.Nursery
    token: str
    account: Account
    storage_secret: bytes
    settings: Settings
    base_url: str
    faults: FaultPlan = dataclasses.field(default_factory=FaultPlan)
    requests: RequestLog = dataclasses.field(default_factory=RequestLog)
    locked_parts: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    def save_settings(self) -> None:
        self.store.set_meta("settings", json.dumps(self.settings.as_dict()))


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The person whose token it is."""

    id: int
    user_id: int
    first_name: str
    last_name: str
    email: str
    institution_id: int
    group_id: int
    created: str

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}"
