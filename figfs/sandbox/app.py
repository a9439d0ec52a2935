"""Composition: opens what a sandbox needs and makes the ASGI application of it."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from figfs.sandbox import (
    api_account,
    api_articles,
    api_collections,
    api_institution,
    api_links,
    api_members,
    api_notes,
    api_oai,
    api_oauth,
    api_projects,
    api_public,
    api_public_containers,
    api_publishing,
    api_resourcesync,
    api_stats,
    control,
    files,
    history,
    members,
    search,
    seed,
    storage,
    uploader,
)
from figfs.sandbox.blobs import Blobs
from figfs.sandbox.clock import Clock
from figfs.sandbox.conditional import Conditional
from figfs.sandbox.errors import ApiError
from figfs.sandbox.faults import FaultInjector
from figfs.sandbox.http import error_response
from figfs.sandbox.requestlog import Recorder
from figfs.sandbox.settings import Settings
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Store

SEEDS: dict[str, Callable[[Sandbox], None]] = {"example": seed.example, "empty": seed.empty}

routes = [
    *api_account.routes,
    *api_articles.routes,
    *api_projects.routes,
    *api_collections.routes,
    *api_public.routes,
    *api_publishing.routes,
    *api_public_containers.routes,
    *api_links.routes,
    *api_notes.routes,
    *api_stats.routes,
    *api_oai.routes,
    *api_resourcesync.routes,
    *api_oauth.routes,
    *api_institution.routes,
    *api_members.routes,
    *uploader.routes,
    *storage.routes,
    *control.routes,
]


@contextlib.asynccontextmanager
async def open_sandbox(
    *, directory: Path | None = None, seed: str = "example", base_url: str = "http://127.0.0.1"
) -> AsyncIterator[Sandbox]:
    """A sandbox with its state in ``directory`` (made if missing), or in memory and a temporary folder.

    ``seed`` (``example`` or ``empty``) is what a new one contains; it is ignored where the folder has one
    already. ``base_url`` is scheme, host and port as clients see them. OSError if the folder cannot be used
    or another sandbox uses it. On the way out the assembly of uploads is cancelled; a sandbox in the same
    folder goes on with it.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="figfs-sandbox-")))
            store = Store(None)
        else:
            folder = directory
            folder.mkdir(parents=True, exist_ok=True)
            store = Store(folder / "sandbox.db")
        stack.callback(store.close)
        async with trio.open_nursery() as background:
            sandbox = _make(store, Blobs(folder / "blobs"), background, SEEDS[seed], base_url)
            files.resume_assembly(sandbox)
            yield sandbox
            background.cancel_scope.cancel()


def _make(
    store: Store, blobs: Blobs, background: trio.Nursery, fill: Callable[[Sandbox], None], base_url: str
) -> Sandbox:
    with store.transaction():
        if store.is_new:
            store.set_meta("token", seed.TOKEN)
            store.set_meta("storage_secret", secrets.token_hex(32))
        settings = Settings()
        settings.change(json.loads(store.get_meta("settings") or "{}"))
        sandbox = Sandbox(
            store=store,
            blobs=blobs,
            clock=Clock(),
            background=background,
            token=store.get_meta("token") or "",
            account=members.ACCOUNT,
            storage_secret=bytes.fromhex(store.get_meta("storage_secret") or ""),
            settings=settings,
            base_url=base_url,
        )
        history.begin(sandbox)
        store.function("search_matches", 4, search.matches)
        if store.is_new:
            fill(sandbox)
    return sandbox


def make_app(sandbox: Sandbox) -> ASGIApp:
    """The ASGI application: requests are recorded, then meet the fault plan, then the endpoints."""
    app = Starlette(routes=routes, exception_handlers={ApiError: _refused, HTTPException: _no_such_route})
    app.state.sandbox = sandbox
    return Recorder(FaultInjector(Conditional(app, sandbox.settings), sandbox.faults), sandbox.requests)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "MethodNotAllowed" if error.status_code == 405 else "EntityNotFound"
    return error_response(ApiError(error.status_code, code, error.detail))
