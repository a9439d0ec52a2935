"""The token of a running client: renewed before it expires, and read again when a login has brought another.

``Renewal`` is what a client asks (``wire.TokenSource``). At most one renewal runs, in a task of its own: who
needs it waits for its event, and may leave. Mounts of one account in other processes are kept out by a lock
on the account's file, the only lock of figfs that is held across a request; who gets it next finds the new
token in the file. The answer to a renewal may hold the only refresh token there is (Figshare may rotate
them), so that the task is shielded, and the file is written before the token is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from figfs.errors import ConfigurationError, RemoteError, ServerError, TooSlow, Unauthorized, UnknownOutcome
from figfs.figshare import oauth
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client
from figfs.figshare.records import Id
from figfs.settings import Token
from figfs.tokens import credentials
from figfs.tokens.credentials import Credential

log = logging.getLogger(__name__)

EARLY = (
    60.0  #: seconds before its end from which on a token is renewed, or a tenth of its life if that is less
)
#: Seconds that who needs it waits for a renewal, and that this waits for those of other processes. The
#: request itself has what the client gives it.
PATIENCE = 25.0
REST = 5.0  #: seconds until the next try after one that failed for now


class Renewal:
    """Of one client, whose token is in the file ``path``; None: it is in no file, so there is no other."""

    def __init__(
        self,
        client: Client,
        path: Path | None,
        nursery: trio.Nursery,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._path = path
        self._nursery = nursery
        self._now = now
        self._is_oauth = False
        self._expires_at: float | None = None
        self._early = EARLY
        #: Set when the renewal that runs has ended; None: none runs.
        self._running: trio.Event | None = None
        #: Why the last one brought nothing, if trying again may help.
        self._problem: RemoteError | None = None
        #: Trio's clock: no further try before then.
        self._rests_until = -math.inf
        #: What could not be written into the file, and what that was like.
        self._unwritten: tuple[Credential, tuple[object, ...]] | None = None
        #: The account that is mounted: no token of another one is taken up. None: any is.
        self.account_id: Id | None = None
        #: Whether a token that is refused is told in the log: not while a mount begins, which tells itself.
        self.aloud = False
        #: What the file was like when it was of no use: no second look before it changes.
        self._useless: tuple[object, ...] | None = None
        self._trouble = ""  #: what a person was told then
        #: The answer to a renewal was lost: the refresh token may be used up.
        self._lost = False

    def know(self, credential: Credential) -> None:
        """Of the client's token: when it expires."""
        kept = credential.oauth
        self._is_oauth = kept is not None
        self._expires_at = None if kept is None else kept.expires_at
        self._early = min(EARLY, (kept.lifetime if kept and kept.lifetime else 10 * EARLY) / 10)

    # -- what the client asks ------------------------------------------------------------

    async def ready(self) -> None:
        """Have the token renewed if it is about to expire; wait for that only if it has expired."""
        if self._expires_at is None:
            return
        left = self._expires_at - self._now()
        if left > self._early or (left > 0 and self._lost) or self.hopeless:
            return
        if trio.current_time() < self._rests_until:
            return
        running = self._start()
        if left <= 0:
            await _for_a_while(running)

    async def refused(self, token: Token) -> bool:
        """Whether there is another token by now than ``token``, which was answered by 401.

        Raises the RemoteError that kept it from being renewed, if trying again may help.
        """
        if self._client.token == token and not self.hopeless:
            if trio.current_time() >= self._rests_until:
                await _for_a_while(self._start())
            if self._client.token == token and self._problem is not None:
                raise ServerError(f"the token cannot be renewed now: {self._problem}") from self._problem
        return self._client.token != token

    @property
    def hopeless(self) -> bool:
        return self._useless is not None and self._useless == self._look()

    @property
    def trouble(self) -> str:
        return self._trouble if self.hopeless else ""

    def _look(self) -> tuple[object, ...]:
        return (None if self._path is None else credentials.signature(self._path),)

    # -- the one renewal ------------------------------------------------------------

    def _start(self) -> trio.Event:
        if self._running is None:
            self._running = trio.Event()
            self._nursery.start_soon(self._run, self._running)
        return self._running

    async def _run(self, ended: trio.Event) -> None:
        self._problem = TooSlow(f"not within {PATIENCE:.0f} s")
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE) as scope:
                self._problem = await self._renew(scope)
            if self._problem is not None:
                self._rests_until = trio.current_time() + REST
        except Exception:  # a bug here must not end the mount
            log.exception("the token could not be renewed")
        finally:
            self._running = None
            ended.set()

    async def _renew(self, scope: trio.CancelScope) -> RemoteError | None:
        """What kept it from having another token, if trying again may help. ``scope``: of all this."""
        seen = self._look()
        try:
            if self._path is None:
                raise ConfigurationError("Figshare refuses the token, which is in no file")
            credential = await self._read()
            if credential.token != self._client.token and await self._is_good(credential):
                self._use(credential)
            elif credential.oauth is None or credential.oauth.refresh_token is None:
                raise ConfigurationError(f"Figshare refuses the token in {self._path}")
            else:
                async with _locked(self._path):
                    seen, before = self._look(), credential
                    credential = await self._read()
                    if credential.token != before.token and await self._is_good(credential):
                        self._use(credential)
                    else:
                        # Where an answer is given up, or not written, the only refresh token may be lost. The
                        # client gives up by itself what is not answered.
                        scope.deadline = math.inf
                        await self._ask(self._path, credential)
        except RemoteError as exc:
            log.info("the token cannot be renewed now: %s", exc)
            return exc
        except credentials.KeyringRefuses as exc:
            log.info("the token cannot be renewed now: %s", exc)
            return ServerError(str(exc))
        except ConfigurationError as exc:
            self._useless, self._trouble = seen, f"{exc}; {self._advice()}"
            log.log(logging.ERROR if self.aloud else logging.DEBUG, "%s", self._trouble)
        return None

    async def _read(self) -> Credential:
        assert self._path is not None
        if self._unwritten is not None and self._unwritten[1] == self._look():
            return self._unwritten[0]
        credential = await trio.to_thread.run_sync(credentials.read, self._path)
        if credential.api and credential.api != self._client.api:
            raise ConfigurationError(f"the token in {self._path} is one of {credential.api}")
        return credential

    async def _ask(self, path: Path, credential: Credential) -> None:
        """Ask for the next token. The file is locked."""
        kept = credential.oauth
        if kept is None or kept.refresh_token is None:
            raise ConfigurationError(f"Figshare refuses the token in {path}")
        brought = credential.token != self._client.token  # by a login or another mount
        before = self._look()
        # If the refresh token is used up by an answer that is lost, nothing is made worse by trying it once
        # more when the access token has expired; before that, a server may end both for it.
        self._lost = True
        try:
            tokens = await oauth.refresh(
                self._client, kept.refresh_token, client_id=kept.client_id, client_secret=kept.client_secret
            )
        except UnknownOutcome:
            raise
        except Unauthorized as exc:
            raise ConfigurationError(f"Figshare does not renew the token in {path} ({exc})") from exc
        except RemoteError:
            self._lost = False
            raise
        renewed = following(credential, tokens, self._now())
        if self._look() != before:  # a login or a logout, which count more
            newer = await self._read()
            if not await self._is_good(newer):
                raise ConfigurationError(f"Figshare refuses the token in {path}")
            self._use(newer)
            return
        try:
            await trio.to_thread.run_sync(credentials.write, renewed, path)
            self._unwritten = None
        except ConfigurationError as exc:
            log.error("%s; this mount goes on with the renewed one, others cannot", exc)
            self._unwritten = renewed, before
        if not brought or await self._is_good(renewed):
            self._use(renewed)

    async def _is_good(self, credential: Credential) -> bool:
        """Whether Figshare takes what a login or another mount has put into the file. ConfigurationError if
        it is of another account: what is owed here would be uploaded there.
        """
        if self.account_id is None:
            return True
        try:
            account = await get_account(self._client.with_token(credential.token))
        except Unauthorized:
            return False
        if account.id != self.account_id:
            raise ConfigurationError(f"the token in {self._path} is of another account than this mount")
        return True

    def _use(self, credential: Credential) -> None:
        self._client.token = credential.token
        self.know(credential)
        if self._useless is not None:
            log.warning("the token in %s is another now: going on with it", self._path)
        self._useless = None
        self._lost = False

    def _advice(self) -> str:
        if self._path is None:
            return "mount again with a new one"
        command = credentials.how_to_log_in(self._path, oauth=self._is_oauth)
        return f"run '{command}', and the mount goes on with what that keeps"


def following(credential: Credential, tokens: oauth.Tokens, now: float) -> Credential:
    """What to keep after a renewal: the same with the new tokens, of the same login."""
    kept = credential.oauth
    assert kept is not None
    lifetime = tokens.lifetime
    return dataclasses.replace(
        credential,
        token=Token(tokens.access_token),
        login=credential.login or credentials.new_login(),
        oauth=dataclasses.replace(
            kept,
            refresh_token=Token(tokens.refresh_token) if tokens.refresh_token else kept.refresh_token,
            expires_at=None if lifetime is None else now + lifetime,
            lifetime=None if lifetime is None else float(lifetime),
        ),
    )


async def _for_a_while(running: trio.Event) -> None:
    """Wait for a renewal; who has waited long enough leaves it behind."""
    with trio.move_on_after(PATIENCE):
        await running.wait()


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    while (descriptor := credentials.try_lock(path)) is None:  # noqa: ASYNC110 (another process has it)
        await trio.sleep(credentials.LOCK_PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def kept_valid(client: Client, path: Path | None) -> AsyncIterator[Renewal]:
    """Have the token of ``client``, found in the file ``path``, renewed and read again as needed."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        renewal = Renewal(client, path, nursery)
        if path is not None:
            with contextlib.suppress(ConfigurationError):  # it was read a moment ago; a 401 will tell
                renewal.know(await trio.to_thread.run_sync(credentials.read, path))
        client.token_source = renewal
        try:
            yield renewal
        except Exception as exc:  # noqa: BLE001 - raised below, not as a group
            failure = exc
        finally:
            client.token_source = None
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
