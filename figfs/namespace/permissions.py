"""What is known to be refused, before Figshare is asked: changes of what is public, or in a project that was
shared for looking at only; another's files under an embargo. From memory; pure.
"""

from __future__ import annotations

from errno import EACCES, EPERM, EROFS

from figfs.figshare.records import ArticleDetails, Id, Project
from figfs.namespace import standing
from figfs.namespace.nodes import ARTICLE_KINDS, Container, FileNode, Kind, Node, is_read_only
from figfs.terminal import visible

VIEWER = "viewer"  #: ``Project.role``, whatever its case

#: What the role in a project is about. ``.figshare`` is not: viewers write notes, and whether Figshare takes
#: what is written there is told by its close.
_OF_PROJECTS = frozenset(
    {Kind.PROJECT, Kind.ARTICLE, Kind.FOLDER, Kind.FILE, Kind.PENDING, Kind.LINK, Kind.HELD_LINK}
)


def viewed_project(node: Node) -> Container | None:
    """The project that ``node`` is, or is in, if the account may only look at it."""
    place: Node | None = node
    while place is not None and place.key.kind in _OF_PROJECTS:
        if isinstance(place, Container) and isinstance(place.record, Project):
            return place if place.record.role.casefold() == VIEWER else None
        place = place.parent
    return None


def is_fixed(node: Node) -> bool:
    """Whether nothing of ``node`` can be changed here: no write permission is shown."""
    return is_read_only(node) or node.key.kind is Kind.ACCOUNTS or viewed_project(node) is not None


def check(node: Node) -> None:
    """``OSError``: EROFS for what is public, EACCES for what the account may only look at, EPERM for the
    list of an institution's accounts.
    """
    if is_read_only(node):
        raise OSError(EROFS, "public items are read-only")
    if node.key.kind is Kind.ACCOUNTS:
        raise OSError(EPERM, "accounts are made and removed by their institution")
    project = viewed_project(node)
    if project is not None:
        raise OSError(
            EACCES, f"the project {visible(project.name, 200)!r} is shared with this account as a viewer only"
        )


def withheld(node: FileNode | Container, account_id: Id | None) -> str:
    """Why Figshare does not hand out the bytes of ``node``, a file or an article's, to the account; "": for
    all that is known, it does.

    Of another's article its details say so: it is published, and its files are not. In a draft an embargo
    hides nothing from those who see it.
    """
    article = node if isinstance(node, Container) else _article_of(node)
    if article is None or article.kind not in ARTICLE_KINDS:
        return ""
    record = article.record
    if not isinstance(record, ArticleDetails):
        return ""
    if article.kind is Kind.ARTICLE and not (record.is_public and _is_anothers(record, account_id)):
        return ""
    return standing.withheld(record)


def _article_of(file: FileNode) -> Container | None:
    """None for what is here, whatever Figshare does with what it has."""
    if file.local_size is not None or file.stored is None or file.parent is None:
        return None
    return file.parent.lister


def _is_anothers(record: ArticleDetails, account_id: Id | None) -> bool:
    """Ids of two kinds cannot be compared: an owner must never be refused."""
    owner = record.account_id
    return owner is not None and type(owner) is type(account_id) and owner != account_id
