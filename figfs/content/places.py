"""Where Figshare has a file, and where it should have it. Decisions over names only: no requests, no state.

Temporary names (``tempnames.py``) are looked through: rsync's ``.NAME.XXXXXX`` is wanted as NAME already, so
that its rename is a local switch; a name that will be renamed to what nobody can tell is wanted nowhere until
then.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from figfs.figshare.records import Id
from figfs.namespace import naming
from figfs.namespace.nodes import FileNode, Key, Kind, Stored, empty_file_key
from figfs.writing import tempnames
from figfs.writing.journal import Upload


class Place(NamedTuple):
    """Article, folder path, and the name that Figshare has."""

    article_id: Id
    folder: str
    name: str


def of_stored(stored: Stored) -> Place:
    return Place(stored.article_id, stored.folder, stored.file.name)


def of_upload(upload: Upload) -> Place:
    return Place(upload.article_id, upload.folder, upload.name)


def shown(upload: Upload) -> Place:
    """Where the file of ``upload`` is here: under a temporary name, perhaps."""
    return Place(upload.article_id, upload.folder, upload.shown_as or upload.name)


def own(node: FileNode) -> Place | None:
    """Where Figshare would have ``node`` if its name were not looked at; None outside of articles."""
    parent = node.parent
    if parent is None or parent.lister.kind is not Kind.ARTICLE:
        return None
    stored, name = node.stored, node.name
    if stored is not None and naming.name_from_filename(stored.file.name) == name:
        name = stored.file.name  # it may hold a character that no name here can have
    return Place(parent.lister.key.id, naming.join_folder_path(parent.folder), name)


def empty_key(node: FileNode) -> Key | None:
    """The key by which ``node``, empty, is kept over remounts; None under a temporary name."""
    place = wanted(node)
    if place is None or naming.name_from_filename(place.name) != node.name:
        return None
    path = naming.join_folder_path((*naming.split_folder_path(place.folder), place.name))
    return empty_file_key(place.article_id, path)


def is_litter(node: FileNode) -> bool:
    """Whether ``node`` is of the files that stay here for good."""
    if node.parent is not None and node.parent.local:
        return True
    return tempnames.classify(node.name).kind is tempnames.Kind.LOCAL


def wanted(node: FileNode, *, hold_is_over: bool = False) -> Place | None:
    """Where Figshare should have ``node``; None if it should have no such file (now).

    ``hold_is_over``: its temporary name has turned out to be the name it is to keep.
    """
    place = own(node)
    if place is None or (node.parent is not None and node.parent.local):
        return None
    stored = node.stored
    kept = stored is not None and naming.name_from_filename(stored.file.name) == node.name
    if not kept and not hold_is_over:
        temporary = tempnames.classify(node.name)
        if temporary.kind is tempnames.Kind.PREDICTED and temporary.final:
            place = place._replace(name=temporary.final)
        elif temporary.kind is tempnames.Kind.HOLD:
            return None
    if tempnames.classify(place.name).kind is tempnames.Kind.LOCAL:
        return None
    return place


def is_misplaced(node: FileNode, *, hold_is_over: bool = False) -> bool:
    """Whether a stored file was renamed here, to where Figshare does not have it."""
    if node.stored is None or node.changed_at != math.inf:
        return False
    place = wanted(node, hold_is_over=hold_is_over)
    return place is not None and place != of_stored(node.stored)


def same_content(node: FileNode, place: Place, size: int, md5: str) -> Stored | None:
    """What Figshare has at ``place`` already, if it is the very content: then nothing need be uploaded."""
    candidates = node.replaces if node.stored is None else [node.stored, *node.replaces]
    for stored in candidates:
        if of_stored(stored) == place and (stored.file.size, stored.file.md5) == (size, md5):
            return stored
    return None


def has_twin(node: FileNode, place: Place, size: int, md5: str) -> bool:
    """Whether ``node`` bears a temporary name, and Figshare has these bytes under the final one already.

    So ``rsync -a`` from another machine, which knows no times, uploads nothing: the file waits for its
    rename.
    """
    if node.parent is None:
        return False
    temporary = tempnames.classify(node.name)
    if temporary.kind is not tempnames.Kind.PREDICTED or temporary.final is None:
        return False
    twin = node.parent.children.get(temporary.final)
    if not isinstance(twin, FileNode) or twin.stored is None or twin.local_size is not None:
        return False
    stored = twin.stored
    return of_stored(stored) == place and (stored.file.size, stored.file.md5) == (size, md5)
