"""The composition root: opens everything one mount needs, runs it, and takes it down in reverse.

Tasks: ``pyfuse3.main`` answers the kernel; beside it a services nursery runs listings, fetches, uploads and
deletions, the account's figures, and the signals. The services outlive the programs that caused them; the end
of ``pyfuse3.main`` (an unmount, or SIGTERM) is the end of the mount: what is owed gets ``unmount_timeout``
seconds, the rest stays in the journal.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import resource
import signal
import socket
import sys
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import platformdirs
import pyfuse3
import trio

from figfs import kernel
from figfs.assembly import Parts, Shared, assemble, furnish, shown_name, watcher
from figfs.colleagues import Colleagues, journal_of
from figfs.control.commands import Commands
from figfs.control.offline import LISTINGS, Presence, known_account, owner
from figfs.control.server import Control
from figfs.errors import AWAY, ConfigurationError, FigfsError, Forbidden, NotFound, RemoteError, Unauthorized
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client, open_client
from figfs.figshare.institution import find_account, is_administrator
from figfs.figshare.records import Account
from figfs.fuse import MAX_TASKS, Operations, let_go
from figfs.namespace.attributes import Attributes, open_attributes
from figfs.namespace.listingstore import ListingStore, open_listing_store
from figfs.namespace.nodes import Key, inode_of
from figfs.namespace.tree import Tree
from figfs.reading.blockstore import BlockStore, default_cache_size
from figfs.routing import Router
from figfs.settings import Settings
from figfs.statedirectory import ACCOUNTS, claim, locked, socket_path
from figfs.terminal import amount, count, visible
from figfs.tokens.renewing import kept_valid
from figfs.writing.journal import Journal

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  #: seconds for Figshare's first answer, before the mount is given up
KNOWN_TIMEOUT = 5.0  #: the same where the account is known from an earlier mount: the mount starts without
WARM_UP_TIMEOUT = 5.0  #: seconds that the mount waits for the list of projects at the start
STATUS_INTERVAL = 5.0  #: seconds between status lines for systemd
END_TIMEOUT = 10.0  #: seconds for handlers that run while the mount is taken down
#: Seconds after which a thread that has received, hashed or written something gets its turn although the
#: event loop goes on. With Python's 5 ms each piece of 1 MiB waits so long: 200 MiB/s, not 320 (two cores).
SWITCH_INTERVAL = 0.0005
INSTITUTION_PAUSE = 30.0  #: seconds until Figshare is asked again whether there is one
RESTART_PAUSE = 5.0  #: seconds before a service that failed is started again


async def run(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Mount, serve until the unmount or SIGTERM/SIGINT, and return once all is taken down.

    ``on_ready`` is called once, with a line for a person, when the mount answers. Raises
    ``ConfigurationError`` or ``RemoteError`` with such a line if it cannot be mounted.
    """
    _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    async with (
        open_client(
            api=settings.api, token=settings.token, rate=settings.api_rate, burst=settings.api_burst
        ) as client,
        kept_valid(client, settings.token_file) as renewal,
    ):
        presence = Presence()
        account = None if settings.public else await _first_answer(client, settings, presence)
        renewal.account_id, renewal.aloud = account.id if account is not None else None, True
        directory = _state_directory(settings, account)
        store = await _block_store(settings)
        with locked(directory, settings.mountpoint, socket_path(directory)):
            claim(directory, settings.api, str(account.id) if account is not None else "public")
            with (
                open_attributes(directory / "attributes.db") as attributes,
                journal_of(directory) as journal,
                open_listing_store(
                    directory / LISTINGS, owner=owner(settings), account=account.id if account else None
                ) as listings,
            ):
                await _serve(
                    settings, client, account, presence, directory, attributes, journal, listings, store,
                    on_ready,
                )  # fmt: skip


async def _serve(
    settings: Settings,
    client: Client,
    account: Account | None,
    presence: Presence,
    directory: Path,
    attributes: Attributes,
    journal: Journal,
    listings: ListingStore | None,
    store: BlockStore | None,
    on_ready: Callable[[str], None],
) -> None:
    async with trio.open_nursery() as services:
        make = functools.partial(_assemble, settings)
        parts = make(
            client=client,
            account=account,
            attributes=attributes,
            journal=journal,
            directory=directory,
            listing_store=listings,
            nursery=services,
            store=store,
        )
        filesystem = parts.filesystem
        router = Router(filesystem)
        colleagues = Colleagues(
            client=client,
            directory=directory / ACCOUNTS,
            mountpoint=settings.mountpoint,
            owner=owner(settings),
            nursery=services,
            router=router,
            place_of=parts.accounts.directory_of,
            make=functools.partial(make, shared=parts.shared, inside=True),
            service=_kept_running,
            store=store,
            read_only=settings.read_only,
            let_go=let_go,
        )
        commands = furnish(
            parts,
            client=client,
            account=account,
            presence=presence,
            state_directory=directory,
            mountpoint=settings.mountpoint,
            names=_names_of(settings.mountpoint),
            read_only=settings.read_only,
            store=store,
            let_go=let_go,
        )
        commands.accounts = colleagues.owing
        await colleagues.look_for_what_is_left()
        services.start_soon(_kept_running, Control(socket_path(directory), commands.table()).run)
        if account is not None:
            with trio.move_on_after(WARM_UP_TIMEOUT):
                await parts.listings.warm_up()
        if not settings.read_only:  # then nothing on Figshare is changed; the journal waits
            parts.resumer.start()
        if parts.resumer.owed():
            log.warning("%d uploads from an earlier mount are taken up again", parts.resumer.owed())
        for service in parts.services:
            services.start_soon(_kept_running, service)
        if account is not None:
            watch = watcher(parts, client=client, account=account, presence=presence, listings=listings)
            services.start_soon(_kept_running, watch)
            if account.institution_id is not None and client.impersonate is None:
                services.start_soon(
                    _look_for_institution, client.background(), parts.tree, colleagues, settings
                )

        operations = Operations(
            router,
            op_timeout=settings.op_timeout,
            close_timeout=settings.close_timeout,
            xattrs=not settings.noxattr,
        )
        with _mounted(operations, settings):
            what = f"public items of {settings.api}"
            if account is not None:
                what = f"Figshare account {shown_name(account)}"
            status = f"{settings.mountpoint}: {what}" + (", offline" if presence.away else "")
            on_ready(f"mounted {status}")
            notify("READY=1", f"STATUS={status}")
            signalled = trio.Event()
            async with trio.open_nursery() as fuse:
                fuse.start_soon(_status_lines, status, commands)
                fuse.start_soon(_end_on_signal, fuse, signalled)
                fuse.start_soon(_tune, operations, settings.mountpoint)
                await pyfuse3.main(max_tasks=MAX_TASKS)
                fuse.cancel_scope.cancel()
        commands.unmounting = True
        filesystem.files.end(all_closed=not signalled.is_set())
        colleagues.end(all_closed=not signalled.is_set())
        owed = filesystem.owed() + colleagues.owed()
        waits = f"{_owed_text(owed)}, waiting at most {settings.unmount_timeout:.0f} s" if owed else "done"
        notify("STOPPING=1", f"STATUS={settings.mountpoint}: unmounted; {waits}")
        if owed:
            log.info("unmounted; %s", waits)
        async with trio.open_nursery() as draining:
            draining.start_soon(colleagues.drain, settings.unmount_timeout)
            await filesystem.drain(settings.unmount_timeout)
        left = filesystem.owed() + colleagues.owed()
        parts.listings.remember()
        if left:
            log.warning("%s; the next mount goes on with them", _left_text(left))
            notify(f"STATUS={settings.mountpoint}: unmounted; {_left_text(left)}")
        services.cancel_scope.cancel()


def _assemble(
    settings: Settings,
    *,
    client: Client,
    account: Account | None,
    attributes: Attributes,
    journal: Journal,
    directory: Path,
    listing_store: ListingStore | None,
    nursery: trio.Nursery,
    store: BlockStore | None = None,
    shared: Shared | None = None,
    numbering: Callable[[Key], int] = inode_of,
    inside: bool = False,
) -> Parts:
    """The parts of an account, with its state in ``directory``, as the settings say."""
    return assemble(
        client=client,
        account=account,
        attributes=attributes,
        journal=journal,
        spool_directory=directory / "spool",
        journal_path=directory / "journal.db",
        listing_store=listing_store,
        nursery=nursery,
        uid=settings.uid,
        gid=settings.gid,
        umask=settings.umask,
        close_timeout=settings.close_timeout,
        dir_timeout=settings.dir_timeout,
        op_timeout=settings.op_timeout,
        grace=settings.grace,
        store=store,
        memory=settings.memory,
        shared=shared,
        verify=settings.verify,
        lookahead=settings.lookahead,
        search_limit=settings.search_limit,
        show_dotfigshare=settings.show_dotfigshare,
        parts_at_once=settings.parts,
        numbering=numbering,
        inside=inside,
    )


async def _first_answer(client: Client, settings: Settings, presence: Presence) -> Account:
    """The account, which also tells whether the token is good. Where Figshare is away, the account as an
    earlier mount knew it.
    """
    known = known_account(settings)
    try:
        return await _ask_account(client, settings, START_TIMEOUT if known is None else KNOWN_TIMEOUT)
    except ConfigurationError as exc:
        away = isinstance(exc.__cause__, (*AWAY, trio.TooSlowError))
        if known is None or not away:
            raise
        presence.away = visible(str(exc), 400)
    log.warning("%s: mounted from what is known of the account", presence.away)
    return known


async def _ask_account(client: Client, settings: Settings, timeout: float) -> Account:
    try:
        with trio.fail_after(timeout):
            if settings.impersonate is not None:
                await _impersonate(client, settings.impersonate)
            account = await get_account(client)
    except trio.TooSlowError as exc:
        raise ConfigurationError(
            f"no answer from {settings.api} within {timeout:.0f} s; is the network up?"
        ) from exc
    except Unauthorized:
        raise  # the command line knows where the token came from
    except RemoteError as exc:
        raise ConfigurationError(f"cannot reach the account at {settings.api}: {exc}") from exc
    if client.impersonate not in (None, account.id):
        # Else another account's uploads would be written into this one.
        raise ConfigurationError(
            f"{settings.api} answers for account {account.id}, not for {client.impersonate}:"
            " it does not impersonate"
        )
    return account


async def _impersonate(client: Client, wanted: str) -> None:
    """From now on ``client`` acts for a colleague. ``ConfigurationError`` says why it cannot."""
    try:
        client.impersonate = (await find_account(client, wanted)).id
    except Forbidden as exc:
        raise ConfigurationError(
            "--impersonate is for administrators of an institution, which this token's account is not"
        ) from exc
    except NotFound as exc:
        raise ConfigurationError(f"--impersonate: {exc}") from exc


# -- state ------------------------------------------------------------


def _state_directory(settings: Settings, account: Account | None) -> Path:
    """Where this account's journal, spool and attributes are: one for each account and service, and one for
    public items, unless told otherwise.
    """
    directory = settings.state_dir
    if directory is None:
        host = urllib.parse.urlsplit(settings.api).netloc
        name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{host}-{account.id if account is not None else 'public'}")
        directory = platformdirs.user_state_path("figfs") / name
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigurationError(f"cannot make the state directory {directory}: {exc.strerror}") from exc
    return directory


async def _block_store(settings: Settings) -> BlockStore | None:
    """The blocks on disk, or None where there are to be none, or where there is no place for them."""
    directory = settings.cache_dir or platformdirs.user_cache_path("figfs")
    limit = default_cache_size(directory) if settings.cache_size is None else settings.cache_size
    if not limit:
        if settings.verify == "open":
            raise ConfigurationError("--verify open needs a disk cache: give it a --cache-size")
        return None
    store = BlockStore(directory, limit=limit, min_free=settings.cache_min_free)
    try:
        await trio.to_thread.run_sync(store.scan)
    except OSError as exc:
        problem = f"cannot use the cache directory {directory}: {exc.strerror}"
        if settings.cache_dir is not None or settings.verify == "open":
            raise ConfigurationError(problem) from exc
        log.warning("%s; nothing is kept on disk", problem)
        return None
    return store


def _names_of(mountpoint: Path) -> tuple[str, ...]:
    """What the mount point is called. Not to be asked once it is mounted: the answer would be our own."""
    return os.fspath(mountpoint), os.path.realpath(mountpoint)


def _raise_descriptor_limit() -> None:
    """Each file that waits for its upload has a descriptor, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# -- the mount ------------------------------------------------------------


@contextlib.contextmanager
def _mounted(operations: Operations, settings: Settings) -> Iterator[None]:
    """The kernel's mount. After a failure in here the dead mount point stays.

    Programs then get ENOTCONN instead of an empty directory, which a backup would take for "all was deleted".
    """
    fuse_options = {option for option in pyfuse3.default_options if not option.startswith("fsname")}
    fuse_options |= {f"fsname={settings.fsname}", "subtype=figfs", *settings.fuse_options}
    if settings.allow_other:
        fuse_options.add("allow_other")
    if settings.read_only and not settings.public:  # queries are made in search/, by mkdir; all else refuses
        fuse_options.add("ro")
    try:
        pyfuse3.init(operations, os.fspath(settings.mountpoint), fuse_options)
    except RuntimeError as exc:
        raise ConfigurationError(f"cannot mount on {settings.mountpoint}: {exc}") from exc
    try:
        yield
    except BaseException:
        pyfuse3.close(unmount=False)
        raise
    pyfuse3.close(unmount=True)


async def _end_on_signal(fuse: trio.Nursery, signalled: trio.Event) -> None:
    """SIGTERM and SIGINT end the mount; handlers that run get a little time."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            signalled.set()
            pyfuse3.terminate()
            fuse.cancel_scope.deadline = trio.current_time() + END_TIMEOUT
            break
    await trio.sleep_forever()


async def _kept_running(service: Callable[[], Awaitable[None]]) -> None:
    """A bug in a service must not end the mount: it is logged, and the service started again."""
    while True:
        try:
            await service()
        except Exception:
            log.exception("a service failed; it is started again")
        await trio.sleep(RESTART_PAUSE)


async def _look_for_institution(
    client: Client, tree: Tree, colleagues: Colleagues, settings: Settings
) -> None:
    """One request: whether the account administers its institution. Then what an earlier mount owes to
    colleagues is sent.
    """
    try:
        while True:
            try:
                found = await is_administrator(client)
                break
            except AWAY as exc:
                log.info("whether the account administers an institution is not known yet: %s", exc)
                await trio.sleep(INSTITUTION_PAUSE)
        if found:
            tree.show_institution()
        if settings.read_only:  # then nothing is sent
            return
        if found:
            colleagues.resume()
        else:
            colleagues.nothing_is_sent()
    except FigfsError as exc:
        log.info("whether the account administers an institution is not known: %s", exc)
    except Exception:
        log.exception("what is owed to colleagues is not known: a bug in figfs")


async def _tune(operations: Operations, mountpoint: Path) -> None:
    """Tell the kernel, once it has our answer to INIT: that sets the read-ahead back to what it offered."""
    await operations.initialised.wait()
    kernel.tune(mountpoint)


async def _status_lines(status: str, commands: Commands) -> None:
    """Tell systemd what is owed and what is parked, when that changes."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    said = status
    pause = STATUS_INTERVAL
    while True:
        await trio.sleep(pause)
        began = trio.current_time()
        try:
            report = await commands.report(limit=0)
        except Exception:
            log.exception("the status is not known")
            continue
        pause = max(STATUS_INTERVAL, 20 * (trio.current_time() - began))  # a long journal takes its time
        more = []
        if report["owed"]:
            more.append(f"{_owed_text(report['owed'])} ({amount(report['bytes'] - report['sent'])})")
        if report["parked"]:
            more.append(f"{report['parked']} parked, see 'figfs status'")
        text = "; ".join([status, *more])
        if text != said:
            notify(f"STATUS={text}")
            said = text


def _owed_text(number: int) -> str:
    return f"{count(number, 'file')} owed to Figshare"


def _left_text(number: int) -> str:
    return f"{count(number, 'file')} {'is' if number == 1 else 'are'} not on Figshare yet"


def notify(*lines: str) -> None:
    """Tell systemd (``sd_notify(3)``); nothing happens where it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.sendto("\n".join(lines).encode(), address)
