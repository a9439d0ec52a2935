"""The files of an article as the mount shows them, and ``md5sums`` for them. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from figfs.figshare.records import File
from figfs.namespace import naming

_MD5 = re.compile("[0-9a-f]{32}")
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


@dataclasses.dataclass(frozen=True, slots=True)
class ShownFile:
    """A file, and its path inside the article's directory."""

    path: str
    file: File


def shown_files(files: Iterable[File], folder_structure: Mapping[str, str]) -> list[ShownFile]:
    """Each file with its path, in order. The names are those of a directory that shows just these
    (``namespace/merging.py``): folders keep theirs, of files of one name the oldest has it.
    """
    by_folder: dict[tuple[str, ...], list[File]] = {(): []}
    for file in files:
        folder = naming.split_folder_path(folder_structure.get(str(file.id), ""))
        by_folder.setdefault(folder, []).append(file)
    folders = {folder[:depth] for folder in by_folder for depth in range(1, len(folder) + 1)}
    found: list[ShownFile] = []
    for folder, group in by_folder.items():
        names = naming.assign_names(
            [(file.id, base_name(file)) for file in group],
            extension=True,
            taken={path[-1] for path in folders if path[:-1] == folder},
        )
        found += [ShownFile("/".join((*folder, names[file.id])), file) for file in group]
    return sorted(found, key=lambda shown: shown.path)


def base_name(file: File) -> str:
    """A file's legal name, before doubles are told apart. Links often have none (quirks D14)."""
    if file.is_link_only and not file.name:
        return naming.name_from_filename(file.download_url.rstrip("/").rsplit("/", 1)[-1])
    return naming.name_from_filename(file.name)


def md5sums(files: Iterable[ShownFile]) -> str:
    """What ``md5sum -c`` accepts from inside the article's directory.

    Files without an MD5 are left out, as the format has no place for them, and so are links.
    """
    rows = [
        _row(shown.file.md5, shown.path)
        for shown in files
        if not shown.file.is_link_only and _MD5.fullmatch(shown.file.md5)
    ]
    return "".join(f"{row}\n" for row in rows)


def _row(md5: str, path: str) -> str:
    """A line of md5sum: one that begins with a backslash has its backslashes and line ends escaped."""
    path = "./-" if path == "-" else path  # which alone is the standard input
    escaped = "".join(_ESCAPES.get(character, character) for character in path)
    return f"\\{md5}  {escaped}" if escaped != path else f"{md5}  {path}"
