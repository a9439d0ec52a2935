"""What is looked at before an item is published: from records to a list of points. Pure.

A published version is for good, so whatever Figshare would refuse, whatever would not be in it although it is
seen in the mount, and whatever would come after it and make it outdated at once, is *in the way*.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from figfs.errors import BadAnswer
from figfs.figshare.cards import Card
from figfs.figshare.records import Article, File, Id
from figfs.namespace import naming, standing
from figfs.terminal import amount, count

NAMED = 5  #: names in one line; the others are counted
MOST_DRAFTS = 50  #: articles of a project that are named, a line each
VIEWER, OWNER = "viewer", "owner"  #: ``Card.role``, whatever its case
SHORTEST_TITLE = 3  #: characters (api.md §3)


class Verdict(enum.StrEnum):
    OK = "ok"
    NOTE = "note"  #: to be known before one says yes
    IN_THE_WAY = "no"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One line of the list."""

    verdict: Verdict
    what: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Local:
    """What this machine has, or owes, of the item. Paths are relative to it."""

    owed: int = 0  #: uploads, moves, deletions that Figshare does not know of yet
    parked: Sequence[str] = ()
    writing: Sequence[str] = ()  #: open, with changes
    held: Sequence[str] = ()  #: closed under a temporary name
    emptied: Sequence[str] = ()  #: empty here, while Figshare keeps the content of before
    only_here: Sequence[str] = ()  #: empty files and folders, lock files: Figshare never gets them
    unclosed: Sequence[str] = ()  #: bytes of before a crash
    #: Size and MD5 of the files as this mount knew them, which is: as they were verified after the upload.
    known: Mapping[Id, tuple[int, str]] = dataclasses.field(default_factory=dict)
    mismatched: frozenset[Id] = frozenset()  #: what was read of them is not what Figshare's MD5 says


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """The last public version. ``files``: None if they cannot be seen, under an embargo for example."""

    card: Card
    files: Sequence[File] | None = None
    articles: Sequence[Article] = ()  #: of a collection


def may_be_published(points: Iterable[Point]) -> bool:
    return all(point.verdict is not Verdict.IN_THE_WAY for point in points)


#: Of an item's details: what changes by itself, or is made from other fields; and the files, asked for apart.
_BESIDES = re.compile(
    r"(created|modified|published)_date|citation|thumb|size|files|articles_count|.*quota.*|.*url.*"
)


def stamp(
    points: Iterable[Point],
    kind: str,
    details: Mapping[str, object],
    *,
    files: Iterable[File] = (),
    articles: Iterable[Article] = (),
) -> str:
    """The same as long as the list, and all that would become public, are the same.

    ``details``: as Figshare sent them, so that what is not in the list, or not known here, counts as well.
    """
    shown = [(str(point.verdict), point.what, point.text) for point in points]
    held = [
        (str(file.id), file.name, file.size, file.md5, file.download_url if file.is_link_only else "")
        for file in files
    ]
    inside = sorted(str(article.id) for article in articles)
    told = {name: value for name, value in details.items() if not _BESIDES.fullmatch(name)}
    try:
        whole = json.dumps([kind, told, shown, held, inside], sort_keys=True)
    except RecursionError:
        raise BadAnswer("its metadata are nested too deeply to be looked at") from None
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def of_article(card: Card, files: Sequence[File], published: Published | None, local: Local) -> list[Point]:
    """The points of an article, in the order in which they are shown."""
    points = [*_metadata(card), _license(card), *_restrictions(card)]
    points += _files(card, files, local)
    points += _local(local)
    points += _changes(card, files, published)
    return points


def of_collection(
    card: Card, articles: Sequence[Article], published: Published | None, local: Local
) -> list[Point]:
    """The points of a collection."""
    points = _metadata(card)
    if articles:
        points.append(Point(Verdict.OK, "articles", str(len(articles))))
    else:
        points.append(Point(Verdict.IN_THE_WAY, "articles", "none: put one in with ln -s"))
    drafts = [article.title for article in articles if article.published_date is None]
    if drafts:
        points.append(Point(Verdict.NOTE, "drafts in it", f"not public themselves: {_named(drafts)}"))
    points += _local(local)
    if published is None:
        return [*points, Point(Verdict.OK, "version", "the first")]
    return [*points, *_next(published, changes_of_collection(card, articles, published))]


def of_project(
    card: Card, articles: Sequence[tuple[str, Article]], local: Local, *, edited: Sequence[str] = ()
) -> list[Point]:
    """The points of a project: it is published once, and only when every article in it is public.

    ``articles``: each with its path in the mount. ``edited``: those that were changed since their last
    version, as far as that is known.
    """
    points = [_title(card)]
    description = _plain(card.description)  # not required, for all that is described
    points.append(Point(Verdict.OK if description else Verdict.NOTE, "description", description or "none"))
    points += _role(card)
    if articles:
        points.append(Point(Verdict.OK, "articles", str(len(articles))))
    else:
        points.append(Point(Verdict.NOTE, "articles", "none: it would be public, and empty"))
    drafts = sorted(path for path, article in articles if article.published_date is None)
    points += [Point(Verdict.IN_THE_WAY, "not public", path) for path in drafts[:MOST_DRAFTS]]
    if len(drafts) > MOST_DRAFTS:
        more = len(drafts) - MOST_DRAFTS
        points.append(Point(Verdict.IN_THE_WAY, "not public", f"and {more} more"))
    if edited:
        points.append(Point(Verdict.NOTE, "edited", f"not public as they are now: {_named(edited)}"))
    points += _local(local)
    if card.is_published:
        points.append(
            Point(Verdict.IN_THE_WAY, "status", "public already, and what is changed in it is so at once")
        )
    return points


def _role(card: Card) -> list[Point]:
    """Only an owner may publish, as far as is known; of a group's project perhaps its administrators."""
    role = card.role.casefold()
    if role == VIEWER:
        return [Point(Verdict.IN_THE_WAY, "role", "it is shared with this account as a viewer only")]
    if role and role != OWNER:
        return [Point(Verdict.NOTE, "role", f"{card.role}: Figshare may want its owner to do it")]
    return []


def changes_of_collection(card: Card, articles: Iterable[Article], published: Published) -> list[str]:
    """What the next version of a collection would change for the public: drafts in it are not seen."""
    return _changed_fields(card, published.card) + _come_and_gone(
        {article.id: article.title for article in articles if article.published_date is not None},
        {article.id: article.title for article in published.articles},
    )


# ---- metadata --------------------------------------------------------------------------------------------


def _metadata(card: Card) -> list[Point]:
    return [
        _title(card),
        _required("description", _plain(card.description)),
        _required("keywords", ", ".join(card.all_keywords)),
        _required("categories", ", ".join(card.categories)),
        _required("authors", ", ".join(card.authors)),
    ]


def _title(card: Card) -> Point:
    """As a person reads it."""
    title = " ".join(naming.plain_text(card.title).split())
    return _required("title", title if len(title) >= SHORTEST_TITLE else "")


def _required(what: str, value: str) -> Point:
    if value.strip():
        return Point(Verdict.OK, what, value)
    return Point(Verdict.IN_THE_WAY, what, "none, and Figshare requires it")


def _plain(text: str) -> str:
    """Without tags and entities: ``<p></p>`` is no description."""
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", text)).split())


def _license(card: Card) -> Point:
    if card.license is None or not card.license.name:
        return _required("licence", "")
    return Point(Verdict.OK, "licence", " ".join(filter(None, (card.license.name, card.license.url))))


def _restrictions(card: Card) -> list[Point]:
    found = []
    if card.is_embargoed:
        what = "its files" if card.embargo_type == "file" else "all of it"
        until = f"until {standing.day(card.embargo_date)}" if card.embargo_date else "for good"
        found.append(Point(Verdict.NOTE, "embargo", f"hides {what} {until}"))
    if card.is_confidential:
        found.append(Point(Verdict.NOTE, "confidential", "its files are not public"))
    if card.curation_status:
        found.append(Point(Verdict.NOTE, "review", card.curation_status))
    return found


# ---- files -----------------------------------------------------------------------------------------------


def _files(card: Card, files: Sequence[File], local: Local) -> list[Point]:
    if not files:
        if card.is_metadata_record:
            return [Point(Verdict.OK, "files", "none: a metadata record")]
        return [Point(Verdict.IN_THE_WAY, "files", "none")]
    linked = [file for file in files if file.is_link_only]
    hosted = [file for file in files if not file.is_link_only]
    size = amount(sum(file.size for file in hosted))
    text = f"{count(len(files), 'file')}, {size}" + (f", {len(linked)} linked" if linked else "")
    points = [Point(Verdict.OK, "files", text)]
    points += [Point(Verdict.OK, "linked", file.download_url) for file in linked]
    unfinished = [file.name for file in hosted if file.status not in ("available", "")]
    if unfinished:
        points.append(_in_the_way("unfinished", "Figshare does not have all of", unfinished))
    changed = [file.name for file in hosted if _is_another(file, local.known.get(file.id))]
    if changed:
        points.append(_in_the_way("changed", "not what was verified here", changed))
    wrong = [file.name for file in hosted if _is_wrong(file) or file.id in local.mismatched]
    if wrong:
        points.append(_in_the_way("MD5", "what Figshare holds is not what was sent", wrong))
    unknown = [file.name for file in hosted if not file.computed_md5]
    if unknown:
        points.append(Point(Verdict.NOTE, "MD5", f"Figshare has computed none of: {_named(unknown)}"))
    elif hosted and not wrong and not changed:
        points.append(
            Point(Verdict.OK, "MD5", "as sent" if _all_supplied(hosted) else "computed by Figshare")
        )
    gone = [str(file_id) for file_id in local.known if file_id not in {file.id for file in files}]
    if gone:
        text = f"{count(len(gone), 'file')} seen here before: gone on Figshare"
        points.append(Point(Verdict.NOTE, "removed", text))
    return points


def _is_wrong(file: File) -> bool:
    supplied, computed = file.supplied_md5.strip().lower(), file.computed_md5.strip().lower()
    return bool(supplied and computed and supplied != computed)


def _is_another(file: File, known: tuple[int, str] | None) -> bool:
    return known is not None and (
        file.size != known[0] or bool(known[1] and file.md5 and file.md5 != known[1])
    )


def _all_supplied(files: Iterable[File]) -> bool:
    return all(file.supplied_md5 for file in files)


# ---- this machine ----------------------------------------------------------------------------------------


def _local(local: Local) -> list[Point]:
    points = []
    if local.owed:
        changes = count(local.owed, "change")
        points.append(Point(Verdict.IN_THE_WAY, "owed", f"{changes} not on Figshare yet: run 'figfs wait'"))
    for names, what, text in (
        (local.parked, "parked", "refused by Figshare, see 'figfs status'"),
        (local.writing, "being written", "not closed yet"),
        (local.held, "temporary names", "wait for their rename, some minutes at most"),
        (local.emptied, "emptied", "Figshare keeps the old content: remove them, or write them"),
    ):
        if names:
            points.append(_in_the_way(what, text, names))
    if not any(point.verdict is Verdict.IN_THE_WAY for point in points):
        points.append(Point(Verdict.OK, "owed", "nothing"))
    for names, what, text in (
        (local.only_here, "only here", "empty or never uploaded, so not published"),
        (local.unclosed, "never closed", "left by a crash, see 'figfs recover'"),
    ):
        if names:
            points.append(Point(Verdict.NOTE, what, f"{text}: {_named(names)}"))
    return points


# ---- against what is public ------------------------------------------------------------------------------


def _changes(card: Card, files: Sequence[File], published: Published | None) -> list[Point]:
    if published is None:
        return [Point(Verdict.OK, "version", "the first")]
    number = published.card.version or 1
    found = _changed_fields(card, published.card)
    if published.files is None:
        found.append("its public files cannot be seen")
    else:
        found += _changed_files(files, published.files)
    if not found and card.status == "public":
        return [Point(Verdict.IN_THE_WAY, "version", f"nothing has changed since version {number}")]
    return _next(published, found)


def _next(published: Published, changes: Sequence[str]) -> list[Point]:
    return [
        Point(Verdict.OK, "version", f"the next after {published.card.version or 1}"),
        Point(Verdict.NOTE, "changes", "; ".join(changes) or "nothing that is compared here"),
    ]


def _changed_fields(new: Card, old: Card) -> list[str]:
    pairs = (
        ("title", new.title, old.title),
        ("description", new.description, old.description),
        ("keywords", new.all_keywords, old.all_keywords),
        ("categories", new.categories, old.categories),
        ("authors", new.authors, old.authors),
        ("licence", new.license, old.license),
    )
    return [what for what, one, other in pairs if one != other]


def _come_and_gone(new: Mapping[Id, str], old: Mapping[Id, str]) -> list[str]:
    lists = (
        ("added", [title for number, title in new.items() if number not in old]),
        ("removed", [title for number, title in old.items() if number not in new]),
    )
    return [f"{what} {_named(titles)}" for what, titles in lists if titles]


def _changed_files(new: Sequence[File], old: Sequence[File]) -> list[str]:
    """Files are never changed, only replaced by others: of one name, with another id."""
    gone = [file for file in old if file.id not in {other.id for other in new}]
    come = [file for file in new if file.id not in {other.id for other in old}]
    replaced = {file.name for file in gone} & {file.name for file in come}
    lists = (
        ("added", sorted(file.name for file in come if file.name not in replaced)),
        ("replaced", sorted(replaced)),
        ("removed", sorted(file.name for file in gone if file.name not in replaced)),
    )
    return [f"{what} {_named(names)}" for what, names in lists if names]


# ---- words -----------------------------------------------------------------------------------------------


def _in_the_way(what: str, text: str, names: Sequence[str]) -> Point:
    return Point(Verdict.IN_THE_WAY, what, f"{text}: {_named(names)}")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
