"""``institution/accounts/``: a directory for each account of an institution, found by e-mail address, account
id or institution user id.

It is listed like any other directory, and only then: a name that is looked up before that costs a request
or two, not a listing of thousands. What is in an account is the business of another file system
(``routing.py``): here it has its name and its inode number. A directory has one name, so what else an account
is known by is a link to it.
"""

from __future__ import annotations

import errno

import trio

from figfs.figshare import institution
from figfs.figshare.client import Client
from figfs.figshare.records import Account, Id
from figfs.kept import Kept
from figfs.namespace import naming, sources
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, Key, Kind, LinkNode, Node
from figfs.namespace.tree import Tree

MOST_ASKED = 4096  #: names whose answer is kept
LONGEST = 150  #: characters of an e-mail address, the longest of the names (api.md §7)


class InstitutionAccounts:
    """Those of one mount. ``own``: the account whose mount it is. ``seconds``: for which an answer is taken
    as fresh.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        nursery: trio.Nursery,
        own: Account | None,
        seconds: float,
    ) -> None:
        self._tree = tree
        self._listings = listings
        self._own = own
        self._asked: Kept[str, list[Account]] = Kept(
            nursery=nursery,
            fetch=lambda name: institution.find_accounts(client, name),
            seconds=seconds,
            most=MOST_ASKED,
            size_of=lambda found: 1,
        )
        self._index: dict[str, Node] = {}
        self._indexed: float | None = None  #: of which listing

    async def look_up(self, directory: Container, name: str) -> Node:
        """What is called ``name`` in ``institution/accounts``. ``OSError(ENOENT)`` if there is no such
        account; else what the request for it raises.
        """
        if directory.status.listed_at is None:
            node = self._known(directory, name) or await self._ask(directory, name)
        else:
            node = self._known(directory, name)
            await self._listings.ensure_listed(directory, stale_is_fine=node is not None)
            node = self._known(directory, name) or self._listed(directory, name)
        if node is None:
            raise OSError(errno.ENOENT, f"the institution has no account {name!r}")
        return node

    async def directory_of(self, account_id: Id) -> Container | None:
        """The directory of the account with that id, asked for if need be; None if there is no such
        account.
        """
        key = Key(Kind.ACCOUNT, account_id)
        node = self._tree.by_key(key)
        if node is None:
            await self._ask(self._tree.accounts, str(account_id))
            node = self._tree.by_key(key)
        return node if isinstance(node, Container) else None

    @staticmethod
    def _known(directory: Container, name: str) -> Node | None:
        node = directory.children.get(name)
        if node is None and (found := directory.unlisted.get(name)) is not None:
            # A link to what is not there any more is found anew.
            gone = isinstance(found, LinkNode) and found.target not in directory.children
            node = None if gone and directory.status.listed_at is not None else found
        return node

    async def _ask(self, directory: Container, name: str) -> Node | None:
        """Before anything was listed: ask for the one account. Names of programs' own are not worth it."""
        if name.startswith(".") or len(name) > LONGEST:
            return None
        found = await self._asked.get(name)
        # No await from here on: what is placed is what is returned.
        entries = [sources.account_entry(account, self._own_id) for account in found]
        names = naming.assign_names([(entry.record.id, entry.base) for entry in entries], extension=False)
        for entry in entries:
            node = self._tree.by_key(entry.key) or self._tree.make(entry.key)
            if node.parent is not directory:
                self._tree.place_unlisted(node, directory, names[entry.record.id])
            if isinstance(node, Container) and isinstance(entry.record, Account):
                node.account = entry.record
            elif isinstance(node, LinkNode):
                node.target = entry.place
        if not entries:
            return None
        first = self._tree.by_key(entries[0].key)
        assert first is not None
        return first if first.name == name else self._link(directory, name, first)

    @property
    def _own_id(self) -> Id | None:
        return self._own.id if self._own is not None else None

    def _listed(self, directory: Container, name: str) -> Node | None:
        """A link to the account that is known by ``name``, too. Figshare tells addresses whatever their
        case.
        """
        listed_at = directory.status.listed_at
        if self._indexed != listed_at:
            self._indexed, self._index = listed_at, {}
            # All ids before all others: a number is an account's id before it is an institution's.
            for rank in range(3):
                for node in directory.children.values():
                    account = node.account if isinstance(node, Container) else self._own
                    if account is not None and (other := institution.names_of(account)[rank]):
                        self._index.setdefault(other.casefold(), node)
        found = self._index.get(name.casefold())
        return self._link(directory, name, found) if found is not None and found.parent is directory else None

    def _link(self, directory: Container, name: str, account: Node) -> LinkNode:
        key = Key(Kind.REFERENCE, f"accounts/{name}")
        link = self._tree.by_key(key) or self._tree.make(key)
        assert isinstance(link, LinkNode)
        link.target = account.name
        if link.parent is not directory:
            self._tree.place_unlisted(link, directory, name)
        return link
