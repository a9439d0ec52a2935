"""One mount's parts, put together: what stands between a client and FUSE. ``mount.py`` and the tests build on
it.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from figfs import openers
from figfs.content.deletions import Deletions
from figfs.content.journaling import Journaling
from figfs.content.lookahead import Lookahead
from figfs.content.openfiles import OpenFiles, Waiting
from figfs.content.quota import Quota
from figfs.content.renaming import Renaming
from figfs.content.resuming import Resumer
from figfs.content.settling import Settler
from figfs.content.storedfiles import StoredFiles
from figfs.control.commands import Commands
from figfs.control.holding import Holding
from figfs.control.itemcommands import ItemCommands
from figfs.control.ledger import Ledger, Rows
from figfs.control.offline import Presence, watch_account
from figfs.control.parking import Parking
from figfs.control.publishing import Publishing
from figfs.documents.entries import Documents
from figfs.documents.service import FigshareDocuments
from figfs.dotfigshare.directories import DotFigshare
from figfs.dotfigshare.documentfiles import DocumentFiles
from figfs.dotfigshare.shownfiles import shown_files
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client
from figfs.figshare.records import Account
from figfs.filesystem import FileSystem
from figfs.namespace.attributes import Attributes
from figfs.namespace.freshness import Freshness
from figfs.namespace.keeping import Keeping
from figfs.namespace.listings import Listings
from figfs.namespace.listingstore import ListingStore
from figfs.namespace.nodes import Key, inode_of
from figfs.namespace.tree import Tree
from figfs.reading.blockcache import MEMORY, BlockCache
from figfs.reading.blockstore import BlockStore
from figfs.terminal import visible
from figfs.verbs.accounts import InstitutionAccounts
from figfs.verbs.containers import Containers
from figfs.verbs.linkedfiles import LinkedFiles
from figfs.verbs.linking import Linking
from figfs.verbs.membership import Membership
from figfs.verbs.publicitems import PublicItems
from figfs.verbs.searches import Searches
from figfs.verbs.xattrs import ExtendedAttributes
from figfs.writing.journal import Journal, read_journal
from figfs.writing.sending import PARTS_AT_ONCE, Places
from figfs.writing.spool import Spool, path_of
from figfs.writing.uploader import Uploader

log = logging.getLogger(__name__)

LONGEST_PATIENCE = 10.0  #: seconds that a program waits for a fresh listing where an older one can be shown


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What the accounts in a mount share with it: the limits are the mount's, not each one's."""

    cache: BlockCache
    places: Places
    waiting: Waiting


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What the composition root runs and asks. ``services``: each in a task, as long as the mount."""

    filesystem: FileSystem
    tree: Tree
    listings: Listings
    files: OpenFiles
    settler: Settler
    deletions: Deletions
    resumer: Resumer
    uploader: Uploader
    shared: Shared
    journal: Journal
    ledger: Ledger
    parking: Parking
    publishing: Publishing
    items: ItemCommands
    accounts: InstitutionAccounts
    services: tuple[Callable[[], Awaitable[None]], ...]


def furnish(
    parts: Parts,
    *,
    client: Client,
    account: Account | None,
    presence: Presence,
    state_directory: Path,
    mountpoint: Path,
    names: Sequence[str],
    read_only: bool,
    store: BlockStore | None,
    let_go: Callable[[int, str], None],
) -> Commands:
    """Tell a mount's parts where and what it is; what it answers its owner. ``names``: what its mount point
    is called; ``let_go``: see ``fuse.let_go``.
    """
    parts.filesystem.xattrs.state_directory = state_directory
    parts.filesystem.linking.membership.mountpoints = tuple(names)
    parts.publishing.read_only = read_only
    parts.items.let_go = let_go
    return Commands(
        mountpoint=mountpoint,
        state_directory=state_directory,
        account=shown_name(account) if account is not None else "public items only",
        presence=presence,
        read_only=read_only,
        client=client.background(),
        tree=parts.tree,
        ledger=parts.ledger,
        parking=parts.parking,
        items=parts.items,
        store=store,
    )


def watcher(
    parts: Parts, *, client: Client, account: Account, presence: Presence, listings: ListingStore | None
) -> Callable[[], Awaitable[None]]:
    """The service that asks for quota and use now and then (``offline.watch_account``)."""
    return lambda: watch_account(
        lambda: get_account(client.background()),
        account=account,
        presence=presence,
        store=listings,
        heard=parts.filesystem.set_account,
    )


def shown_name(account: Account) -> str:
    """Whose it is, for a person."""
    return visible(account.email or str(account.id), 200)


def assemble(
    *,
    client: Client,
    account: Account | None,
    attributes: Attributes,
    journal: Journal,
    spool_directory: Path,
    journal_path: Path | None = None,
    nursery: trio.Nursery,
    uid: int,
    gid: int,
    umask: int,
    close_timeout: float,
    dir_timeout: float,
    op_timeout: float = 30.0,
    grace: float,
    listing_store: ListingStore | None = None,
    store: BlockStore | None = None,
    memory: int = MEMORY,
    shared: Shared | None = None,
    numbering: Callable[[Key], int] = inode_of,
    inside: bool = False,
    verify: str = "end",
    lookahead: bool = True,
    search_limit: int = 200,
    documents: Documents | None = None,
    show_dotfigshare: bool = False,
    parts_at_once: int = PARTS_AT_ONCE,
    still_open: Callable[[int, int], bool] = openers.still_open_for_writing,
    is_killed: Callable[[int], bool] = openers.is_killed,
    pending_signal: Callable[[int], bool] = openers.pending_signal,
    family_of: Callable[[int], tuple[openers.Process, ...]] = openers.family_of,
    now_ns: Callable[[], int] = time.time_ns,
) -> Parts:
    """Put a mount together; nothing is asked of Figshare yet. ``nursery``: the services nursery. Times in
    seconds. ``account``: None where only public items are shown. ``listing_store``: listings on disk, or
    None. ``store``: the blocks on disk, scanned, or None; ``memory``: bytes of blocks in memory; ``shared``:
    that of the mount around it, instead of all this. ``numbering``, ``inside``: see ``Tree``.
    ``journal_path``: where the status may read ``journal`` beside the event loop; None: in it.
    ``documents``: what is in every ``.figshare``, instead of what Figshare tells.
    """
    background = client.background()
    account_id = account.id if account is not None else None
    limit = account.maximum_file_size if account is not None else None
    own = account is not None
    tree = Tree(attributes=attributes, now_ns=now_ns, own=own, numbering=numbering, inside=inside)
    holding, keeping = Holding(), None
    client.watch_changes(holding.changing)  # the first: who waits there is not under way yet
    writers = () if listing_store is None else (listing_store.run,)
    if listing_store is not None:
        keeping = Keeping(store=listing_store, tree=tree, now=lambda: now_ns() / 1e9)
        client.watch_changes(keeping.changing)
    listings = Listings(
        client=client,
        tree=tree,
        nursery=nursery,
        dir_timeout=dir_timeout,
        patience=min(LONGEST_PATIENCE, op_timeout / 2) if op_timeout > 0 else LONGEST_PATIENCE,
        keeping=keeping,
        freshness=Freshness(client=client, tree=tree, dir_timeout=dir_timeout),
        search_limit=search_limit,
        account_id=account_id,
    )
    spool = Spool(spool_directory)
    unclosed = _unclosed(spool, journal)
    if shared is None:
        shared = Shared(
            cache=BlockCache(nursery=nursery, store=store, max_bytes=memory),
            places=Places(parts=parts_at_once),
            waiting=Waiting(),
        )
    cache = shared.cache
    stored_files = StoredFiles(client=client, cache=cache, verify=verify)
    uploader = Uploader(
        client=background,
        journal=journal,
        spool_directory=spool_directory,
        places=shared.places,
        read_source=stored_files.read_source,
    )
    uploader.on_stored = stored_files.adopt
    deletions = Deletions(tree=tree, journal=journal, delete=uploader.delete, grace=grace)
    rows = Journaling(journal=journal, deletions=deletions, grace=grace)
    ahead = Lookahead(stored_files=stored_files, listings=listings, enabled=lookahead)
    # Would-be cycles: the quota counts what the settler and the resumer have, which come later.
    quota = Quota(
        account=account or Account(id="public"),
        ask=lambda: get_account(client),
        files=lambda: settler.files(),
        resumed=lambda: resumer.uploads(),
    )
    files = OpenFiles(
        tree=tree,
        stored_files=stored_files,
        lookahead=ahead,
        spool=spool,
        deletions=deletions,
        quota=quota,
        waiting=shared.waiting,
        close_timeout=close_timeout,
        maximum_file_size=limit if limit is not None and limit > 0 else None,
        still_open=still_open,
        is_killed=is_killed,
        pending_signal=pending_signal,
        now_ns=now_ns,
    )
    settler = Settler(
        tree=tree,
        rows=rows,
        uploader=uploader,
        deletions=deletions,
        nursery=nursery,
        overlay=files.overlay,
        reopen=spool.reopen,
    )
    # Would-be cycles: the settler makes overlays with the files' help, they settle with its; deletions wake
    # its drain.
    files.settler = settler
    deletions.on_progress = settler.made_progress
    renaming = Renaming(tree=tree, rows=rows, settler=settler, deletions=deletions)
    resumer = Resumer(
        tree=tree,
        rows=rows,
        uploader=uploader,
        deletions=deletions,
        settler=settler,
        renaming=renaming,
        nursery=nursery,
    )
    listings.on_listed = resumer.show
    containers = Containers(
        client=client,
        tree=tree,
        listings=listings,
        files=files,
        renaming=renaming,
        deletions=deletions,
        now_ns=now_ns,
    )
    public = PublicItems(
        client=client, tree=tree, listings=listings, dir_timeout=dir_timeout, keeping=keeping
    )
    linked = LinkedFiles(client=client, tree=tree, deletions=deletions, journal=journal)
    linking = Linking(
        tree=tree,
        listings=listings,
        renaming=renaming,
        membership=Membership(client=client, tree=tree, listings=listings, look_up=public.look_up),
        linked=linked,
        dir_timeout=dir_timeout,
    )
    xattrs = ExtendedAttributes(
        tree=tree,
        account_id=account_id,
        settler=settler,
        stored_files=stored_files,
        progress=lambda: uploader.progress,
        parked=journal.parked,
    )

    async def owed() -> object:
        return await ledger.report()

    if documents is None:
        documents = FigshareDocuments(
            client=client,
            status=owed,
            shown=lambda item: shown_files(tree, listings, item),
            kept=keeping,
        )
        documents.on_changed = lambda item: dot_figshare.item_changed(item)
    document_files = DocumentFiles(
        tree=tree,
        documents=documents,
        nursery=nursery,
        seconds=dir_timeout,
        op_timeout=op_timeout,
        still_open=still_open,
        is_killed=is_killed,
        family_of=family_of,
        now_ns=now_ns,
    )
    dot_figshare = DotFigshare(
        tree=tree,
        files=document_files,
        documents=documents,
        nursery=nursery,
        seconds=dir_timeout,
        listed=show_dotfigshare,
    )
    accounts = InstitutionAccounts(
        client=client, tree=tree, listings=listings, nursery=nursery, own=account, seconds=dir_timeout
    )
    filesystem = FileSystem(
        tree=tree,
        listings=listings,
        files=files,
        settler=settler,
        renaming=renaming,
        containers=containers,
        linking=linking,
        searches=Searches(tree=tree, listings=listings, now_ns=now_ns),
        xattrs=xattrs,
        lookahead=ahead,
        dot_figshare=dot_figshare,
        public=public,
        accounts=accounts,
        resumer=resumer,
        dir_timeout=dir_timeout,
        account_id=account_id,
        quota=quota,
        uid=uid,
        gid=gid,
        umask=umask,
        now_ns=now_ns,
    )

    async def read_rows() -> Rows:
        if journal_path is None:
            return journal.uploads(), journal.deletions()
        return await trio.to_thread.run_sync(read_journal, journal_path)

    ledger = Ledger(
        tree=tree,
        settler=settler,
        read_rows=read_rows,
        progress=lambda: uploader.progress,
        spool_directory=spool_directory,
        unclosed=unclosed,
    )
    parking = Parking(
        client=client,
        tree=tree,
        listings=listings,
        journal=journal,
        settler=settler,
        spool_directory=spool_directory,
        resumer=resumer,
        deletions=deletions,
        linked=linked,
        ledger=ledger,
    )
    publishing = Publishing(
        client=client,
        tree=tree,
        listings=listings,
        ledger=ledger,
        settler=settler,
        stored_files=stored_files,
        holding=holding,
    )
    items = ItemCommands(
        client=client,
        tree=tree,
        listings=listings,
        ledger=ledger,
        publishing=publishing,
        stored_files=stored_files,
        lookup=filesystem.lookup,
        keeping=keeping,
    )
    publishing.on_changed = items.on_changed = dot_figshare.forget
    services = (deletions.run, settler.run, linked.run, *writers)
    return Parts(
        filesystem,
        tree,
        listings,
        files,
        settler,
        deletions,
        resumer,
        uploader,
        shared,
        journal,
        ledger,
        parking,
        publishing,
        items,
        accounts,
        services,
    )


def _unclosed(spool: Spool, journal: Journal) -> list[Path]:
    """Never-closed bytes of an earlier mount; the log says that they are there."""
    rows = journal.uploads()
    spool.sweep(rows)
    found = spool.abandoned(rows)
    for path in found:
        log.warning(
            "never closed before the crash: %s; its bytes are in %s ('figfs recover' copies them out)",
            visible(path_of(path)) or "a file",
            path,
        )
    return found
