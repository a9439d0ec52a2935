"""Tokens are renewed once, kept before they are used, and read again after a login."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import sys
import time
import types
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from inprocess import BASE, Wire, errno_of, fast_clock
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.errors import ConfigurationError
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client, open_client
from figfs.sandbox import tokens
from figfs.sandbox.app import open_sandbox
from figfs.sandbox.state import Sandbox
from figfs.settings import Token
from figfs.tokens import credentials, renewing
from figfs.tokens.credentials import Credential, OAuth

API = f"{BASE}/v2"


def granted(sandbox: Sandbox, *, left: float = 3600, lifetime: float = 3600) -> Credential:
    """What a login brings."""
    pair = tokens.redeem_code(sandbox, tokens.new_code(sandbox))
    return Credential(
        token=Token(pair.access),
        oauth=OAuth(
            client_id=tokens.CLIENT_ID,
            client_secret=Token(tokens.CLIENT_SECRET),
            refresh_token=Token(pair.refresh),
            expires_at=time.time() + left,
            lifetime=lifetime,
        ),
        api=API,
    )


@dataclasses.dataclass
class Figshare:
    sandbox: Sandbox
    path: Path  #: the file of the account

    @contextlib.asynccontextmanager
    async def mounted(self, wire: Wire | None = None) -> AsyncIterator[Client]:
        """A client as a mount has it, with the token of the file."""
        token = credentials.read(self.path).token
        async with (
            open_client(api=API, token=token, rate=0, transport=wire or Wire(self.sandbox)) as client,
            renewing.kept_valid(client, self.path) as renewal,
        ):
            renewal.account_id, renewal.aloud = self.sandbox.account.id, True
            yield client

    def log_in(self, **more: float) -> Credential:
        credential = granted(self.sandbox, **more)
        credentials.write(credential, self.path)
        return credential

    def asked(self, path: str = "/v2/token") -> list[int]:
        """Statuses of the requests to a path."""
        return [entry["status"] for entry in self.sandbox.requests.entries() if entry["path"] == path]

    def revoke(self, *kinds: str) -> None:
        for kind in kinds:
            tokens.revoke(self.sandbox, kind)


@pytest.fixture
def autojump_clock() -> MockClock:
    return fast_clock()


@pytest.fixture
async def figshare(tmp_path: Path) -> AsyncIterator[Figshare]:
    async with open_sandbox(seed="empty", base_url=BASE) as sandbox:
        yield Figshare(sandbox, tmp_path / "work.json")


def trouble(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_many_refusals_one_renewal(figshare: Figshare) -> None:
    """However many requests meet a 401 at the same moment; all of them succeed, and the file has the pair."""
    before = figshare.log_in()
    async with figshare.mounted() as client:
        figshare.revoke("access")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(get_account, client)
        assert figshare.asked() == [200]
        kept = credentials.read(figshare.path)
        assert client.token == kept.token != before.token
        assert kept.oauth is not None
        assert before.oauth is not None
        assert kept.oauth.refresh_token != before.oauth.refresh_token
        assert kept.oauth.client_secret == before.oauth.client_secret
        assert 3500 < (kept.oauth.expires_at or 0) - time.time() <= 3600
        await get_account(client)
    assert figshare.asked() == [200]


async def test_renewed_before_it_expires(figshare: Figshare) -> None:
    """Behind the request that sees it; no request is refused."""
    figshare.log_in(left=30)
    async with figshare.mounted() as client:
        await get_account(client)
        await wait_all_tasks_blocked()
        with trio.fail_after(10):
            while figshare.asked() != [200]:  # noqa: ASYNC110 (nobody waits for it)
                await trio.sleep(0.01)
        await get_account(client)
    assert set(figshare.asked("/v2/account")) == {200}


async def test_renewals_are_of_one_login(figshare: Figshare) -> None:
    """By which the account is known without a network. Tokens that somebody puts there are of another one."""
    credentials.write(granted(figshare.sandbox), figshare.path)
    assert credentials.read(figshare.path).login == ""  # of an older figfs
    logins = []
    for _ in range(3):
        async with figshare.mounted() as client:
            tokens.revoke(figshare.sandbox, "access")
            await get_account(client)
        logins.append(credentials.read(figshare.path).login)
    assert logins[0]
    assert len(set(logins)) == 1
    text = figshare.path.read_text()
    credential = credentials.read(figshare.path)
    assert credential.oauth is not None
    assert credential.oauth.refresh_token is not None
    for token in (credential.token, credential.oauth.refresh_token):
        figshare.path.write_text(text.replace(token.reveal(), "of-somebody-else"))
        assert credentials.read(figshare.path).login == ""


async def test_waited_for_when_it_has_expired(figshare: Figshare) -> None:
    """Known to have expired: renewed first, without a request that would be refused."""
    figshare.log_in(left=-5)
    figshare.revoke("access")
    async with figshare.mounted() as client:
        await get_account(client)
    assert figshare.asked() == [200]
    assert figshare.asked("/v2/account") == [200]


async def test_two_mounts_renew_once(figshare: Figshare) -> None:
    """The second finds in the file what the first has got."""
    figshare.log_in()
    async with figshare.mounted() as one, figshare.mounted() as two:
        figshare.revoke("access")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get_account, one)
            nursery.start_soon(get_account, two)
        assert one.token == two.token
    assert figshare.asked() == [200]


async def test_a_dead_refresh_token_is_told_once(
    figshare: Figshare, caplog: pytest.LogCaptureFixture
) -> None:
    """EACCES, one line that says what to do, no further asking; a login mends it, without a restart."""
    figshare.log_in()
    async with figshare.mounted() as client:
        figshare.revoke("access", "refresh")
        for _ in range(5):
            with errno_of(errno.EACCES):
                await get_account(client)
        assert figshare.asked() == [400]
        (line,) = trouble(caplog)
        assert f"run 'figfs login --token-file {figshare.path} --oauth'" in line
        figshare.log_in()
        await get_account(client)
    assert len(trouble(caplog)) == 1
    assert figshare.asked() == [400]


async def test_a_personal_token_is_read_again(figshare: Figshare, caplog: pytest.LogCaptureFixture) -> None:
    """Removed on the web page: EACCES and one line; the next 'figfs login' mends it."""
    credentials.write(Credential(token=Token(figshare.sandbox.token)), figshare.path)
    async with figshare.mounted() as client:
        figshare.sandbox.token = "another"
        for _ in range(3):
            with errno_of(errno.EACCES):
                await get_account(client)
        assert len(trouble(caplog)) == 1
        credentials.write(Credential(token=Token("another")), figshare.path)
        await get_account(client)
    assert figshare.asked() == []


async def test_a_token_alone_goes_to_no_other_api(
    figshare: Figshare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A login at Figshare while the default account's mount is one of another API: it is not sent there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(figshare.path.parent))
    path = figshare.path = credentials.token_file()
    credentials.write(Credential(token=Token(figshare.sandbox.token), api=API), path)
    async with figshare.mounted() as client:
        figshare.sandbox.token = "another"
        credentials.write(Credential(token=Token("another")), path)
        with errno_of(errno.EACCES):
            await get_account(client)
    assert [line for line in trouble(caplog) if "is one of https://api.figshare.com/v2" in line]


async def test_a_logout_ends_the_renewals(figshare: Figshare, caplog: pytest.LogCaptureFixture) -> None:
    """The mount goes on while its token lives, and gets no further one."""
    figshare.log_in()
    async with figshare.mounted() as client:
        credentials.forget(figshare.path)
        await get_account(client)
        figshare.revoke("access")
        with errno_of(errno.EACCES):
            await get_account(client)
    assert figshare.asked() == []
    assert len(trouble(caplog)) == 1


async def test_kept_before_it_is_used(figshare: Figshare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in between costs a request, not the login."""
    before = figshare.log_in()
    write, seen = credentials.write, []
    async with figshare.mounted() as client:

        def observed(credential: Credential, path: Path) -> None:
            seen.append(client.token)
            write(credential, path)

        monkeypatch.setattr(credentials, "write", observed)
        figshare.revoke("access")
        await get_account(client)
    assert seen == [before.token]


async def test_a_full_disk(
    figshare: Figshare, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be kept is used all the same, and renewed again from memory."""
    figshare.log_in()
    write = credentials.write

    def full(credential: Credential, path: Path) -> None:
        raise ConfigurationError("cannot keep the token: No space left on device")

    async with figshare.mounted() as client:
        monkeypatch.setattr(credentials, "write", full)
        figshare.revoke("access")
        await get_account(client)
        assert len(trouble(caplog)) == 1
        monkeypatch.setattr(credentials, "write", write)
        figshare.revoke("access")
        await get_account(client)
        assert credentials.read(figshare.path).token == client.token
    assert figshare.asked() == [200, 200]


@pytest.mark.parametrize(("locked", "answered"), [(0.0, renewing.PATIENCE + 2), (renewing.PATIENCE - 1, 3.0)])
async def test_a_late_answer_counts(
    figshare: Figshare, autojump_clock: MockClock, locked: float, answered: float
) -> None:
    """Who waits may give up; the renewal goes on, however long it waited for its turn: the pair is kept."""
    before = figshare.log_in()
    wire = Wire(figshare.sandbox)
    gate = wire.hold("POST", "/v2/token$", carried_out=True)
    async with figshare.mounted(wire) as client:
        figshare.revoke("access")
        other = credentials.try_lock(figshare.path)
        assert other is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get_account, client)  # asks again when its patience is over
            await trio.sleep(locked)
            os.close(other)
            await gate.reached.wait()
            await trio.sleep(answered)
            gate.open()
        await get_account(client)
        assert client.token == credentials.read(figshare.path).token != before.token
    assert figshare.asked() == [200]


async def test_who_leaves_does_not_lose_it(figshare: Figshare) -> None:
    """The program that needed it is interrupted while the answer is on its way: the pair is kept."""
    before = figshare.log_in()
    wire = Wire(figshare.sandbox)
    gate = wire.hold("POST", "/v2/token$", carried_out=True)
    async with figshare.mounted(wire) as client:
        figshare.revoke("access")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get_account, client)
            await gate.reached.wait()
            nursery.cancel_scope.cancel()
        assert client.token == before.token
        gate.open()
        await get_account(client)
        assert credentials.read(figshare.path).token == client.token
    assert figshare.asked() == [200]


async def test_an_unmount_does_not_lose_it(figshare: Figshare) -> None:
    """The mount ends while the answer is on its way: it is waited for, and kept."""
    before = figshare.log_in()
    wire = Wire(figshare.sandbox)
    gate = wire.hold("POST", "/v2/token$", carried_out=True)

    async def mounted() -> None:
        async with figshare.mounted(wire) as client, trio.open_nursery() as nursery:
            nursery.start_soon(get_account, client)
            await gate.reached.wait()
            nursery.cancel_scope.cancel()

    figshare.revoke("access")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mounted)
        await gate.reached.wait()
        await wait_all_tasks_blocked()
        gate.open()
    kept = credentials.read(figshare.path)
    assert kept.token != before.token
    async with figshare.mounted() as client:
        await get_account(client)
    assert figshare.asked() == [200]


@pytest.mark.parametrize("expired", [False, True])
async def test_another_account_is_not_taken_up(
    expired: bool, figshare: Figshare, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody logs in as another person, into the same file: what is owed here must not go there."""
    before = figshare.log_in()
    async with figshare.mounted() as client:
        figshare.revoke("access", "refresh")
        figshare.log_in()
        if expired:
            figshare.revoke("access")
        other = {"path": "/v2/account$", "action": "status", "status": 200, "body": {"id": 7}}
        figshare.sandbox.faults.replace(
            [{"path": "/v2/account$", "action": "status", "status": 401, "times": 1 + expired}, other]
        )
        with errno_of(errno.EACCES):
            await get_account(client)
        assert client.token == before.token
    (line,) = trouble(caplog)
    assert "of another account than this mount" in line
    assert len(figshare.asked()) == expired


async def test_refused_whatever_the_token(figshare: Figshare) -> None:
    """A server that answers 401 to the renewed one, too: once more is enough."""
    figshare.log_in()
    figshare.sandbox.faults.replace([{"path": "/v2/account$", "action": "status", "status": 401}])
    async with figshare.mounted() as client:
        with errno_of(errno.EACCES):
            await get_account(client)
    assert figshare.asked("/v2/account") == [401, 401]
    assert figshare.asked() == [200]


async def test_a_login_meanwhile_counts_more(figshare: Figshare) -> None:
    """What a person has just brought is not overwritten by a renewal of what was there before."""
    figshare.log_in()
    wire = Wire(figshare.sandbox)
    gate = wire.hold("POST", "/v2/token$", carried_out=True)
    async with figshare.mounted(wire) as client:
        figshare.revoke("access")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get_account, client)
            await gate.reached.wait()
            newer = figshare.log_in()
            gate.open()
        assert client.token == newer.token
    assert credentials.read(figshare.path) == newer


async def test_a_lost_answer(figshare: Figshare, clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The refresh token may be used up: not tried again while the access token lives, once after that."""
    figshare.log_in(left=30)
    lose = {"method": "POST", "path": "/v2/token$", "action": "lose_answer", "times": 1}
    figshare.sandbox.faults.replace([lose])
    async with figshare.mounted() as client:
        for _ in range(5):
            await get_account(client)
            await trio.sleep(2 * renewing.REST)
        assert len(figshare.asked()) == 1
        assert trouble(caplog) == []
        figshare.revoke("access")
        with errno_of(errno.EACCES):
            await get_account(client)
        assert len(figshare.asked()) == 2
        assert len(trouble(caplog)) == 1


async def test_trouble_that_passes(
    figshare: Figshare, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The service is down: no refusal of the token, so EIO; asked again, but not by each request."""
    figshare.log_in()
    figshare.sandbox.faults.replace([{"path": "/v2/token$", "action": "status", "status": 500}])
    async with figshare.mounted() as client:
        figshare.revoke("access")
        for _ in range(3):
            with errno_of(errno.EIO):
                await get_account(client)
        assert 1 <= len(figshare.asked()) <= 4
        figshare.sandbox.faults.replace([])
        await trio.sleep(renewing.REST)
        await get_account(client)
    assert trouble(caplog) == []


async def test_secrets_are_not_repeated(figshare: Figshare, caplog: pytest.LogCaptureFixture) -> None:
    """A server that echoes what it was sent: blotted out, in the log and in the error."""
    caplog.set_level(logging.DEBUG)
    credential = figshare.log_in()
    assert credential.oauth is not None
    assert credential.oauth.refresh_token is not None
    secrets = [credential.token.reveal(), credential.oauth.refresh_token.reveal(), tokens.CLIENT_SECRET]
    echo = {"message": " ".join(secrets), "code": "Echo"}
    figshare.sandbox.faults.replace([{"path": "/v2/token$", "action": "status", "status": 400, "body": echo}])
    async with figshare.mounted() as client:
        figshare.revoke("access")
        with errno_of(errno.EACCES):
            await get_account(client)
    assert "Echo" in caplog.text
    for secret in secrets:
        assert secret not in caplog.text
        assert secret not in repr(credential)


async def test_a_keyring_that_is_locked(
    figshare: Figshare,
    clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trouble that passes: the token is not given up, and what it keeps is used once it is open again."""
    entries: dict[str, str] = {}
    locked = False

    def get(service: str, name: str) -> str | None:
        if locked:
            raise RuntimeError("locked")
        return entries.get(name)

    keyring = types.SimpleNamespace(
        get_password=get, set_password=lambda service, name, text: entries.__setitem__(name, text)
    )
    monkeypatch.setitem(sys.modules, "keyring", keyring)  # type: ignore[arg-type]
    credentials.write(dataclasses.replace(granted(figshare.sandbox), in_keyring=True), figshare.path)
    async with figshare.mounted() as client:
        locked = True
        figshare.revoke("access")
        with errno_of(errno.EIO):
            await get_account(client)
        locked = False
        await trio.sleep(renewing.REST)
        await get_account(client)
        assert client.token is not None
        assert client.token.reveal() in entries[str(figshare.path)]
        assert client.token.reveal() not in figshare.path.read_text()
    assert trouble(caplog) == []
