"""Titles, file names and ids <-> unique, legal, stable names in a directory. Pure: the same after a restart.

A *legal* name is what Linux takes and a person can type: 1 to 255 bytes of UTF-8, not ``.`` or ``..``,
without ``/``, control characters and line ends. Every function that returns a name returns a legal one,
whatever text it is given: real titles hold ``/``, HTML, line ends, control characters, up to 1000
characters (quirks L2-L4).
"""

from __future__ import annotations

import errno
import html
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from html.entities import html5
from types import MappingProxyType

from figfs.figshare.records import Id

#: NAME_MAX of Linux. The kernel passes longer names on (programs.md §1), so it is for us to refuse them.
MAX_NAME_BYTES = 255
UNTITLED = "untitled"  #: stands for what no directory can hold as a name: "", "." and ".."
SLASH = "\u2215"  #: "∕", DIVISION SLASH: stands for "/"

#: Characters of a title that are looked at: far more than a name can show (quirks L2: 1,000 at most).
_LONGEST_TITLE = 20_000

#: Folders in each other. What is deeper is shown in the last of them: nobody has it, no path reaches a
#: tenth of what a server can say, and each level costs a frame of whoever walks the tree.
DEEPEST_FOLDER = 255

MOST_NUMBERED = 3  #: names with its id that are recognized: more than one is hardly ever needed
_MAX_ID_BYTES = 64  # a longer (string) id is cut in a name: the number after it keeps names unique

_BLOCK_TAG = re.compile(
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|figcaption|figure|footer|h[1-6]|header"
    "|hr|html|li|main|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|tr|ul"
)
_INLINE_TAG = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|nobr|q|rp|rt|ruby|s"
    "|samp|small|span|strike|strong|sub|sup|time|tt|u|var|wbr"
    "|math|mi|mn|mo|mrow|mspace|msqrt|mstyle|msub|msubsup|msup|mtext|semantics|bold|italic"  # MathML, JATS
)
# An attribute needs its "=", so that "if a <b and c> d" keeps its words. A name that is no tag of HTML
# stays text ("<gene>"), and so does an unknown or unfinished entity ("AT&T", "R&D;").
_MARKUP = re.compile(
    r"""</?(?:(?:mml|jats|o):)?(?P<tag>[a-zA-Z][a-zA-Z0-9]*)"""
    r"""(?:\s+[^\s"'<>/=]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+))*\s*/?>"""
    r"""|&(?P<entity>\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]*);"""
)

_REMOVED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")  # controls, lone surrogates
_SPACES = re.compile(r"\s+")
_ENTITIES_BEFORE = re.compile(r"\A(?:&#[0-9]{1,5};)+")
_ENTITIES_AFTER = re.compile(r"\A(?:;[0-9]{1,5}#&)+")  # of the text written backwards
_BREAK = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]")  # white space that is no space: tabs, line ends

# An extension has a letter, and no white space: "v1.2" and "Fig 1. Overview" have none. What is before a
# compression's belongs to it: ".tar.gz", ".csv.gz".
_COMPRESSION = re.compile("gz|bz2|xz|zst|lz4|lzma|z|br|gpg")
_EXTENSION = re.compile(r"(?=.*[^\W\d_])[\w+~-]{1,16}")

_INTEGER_ID = re.compile(r"[1-9][0-9]{0,18}")
_STRING_ID = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z-])[0-9A-Za-z][0-9A-Za-z_-]*")


def name_from_title(title: str) -> str:
    """The directory name that shows ``title``.

    Tags and entities of HTML become their text (paragraphs and line breaks a space), "/" becomes ``SLASH``,
    control characters go, white space goes at both ends; white space inside stays, but a run with a line
    end or tab in it is one space. White space written as an entity ("&#32;") at an end stays: it is there on
    purpose (``title_from_name``). What is left empty, "." or ".." is ``UNTITLED``; what is longer than 255
    bytes is cut at a character.
    """
    before, text, after = _kept_ends(title[:_LONGEST_TITLE])
    name = _clean(_reduce(text)).strip()
    if before or after:
        name = before + name + after
    cut = _cut(name)
    if cut != name:
        cut = cut.strip()
    return UNTITLED if cut in ("", ".", "..") else cut


def _kept_ends(title: str) -> tuple[str, str, str]:
    """The white space that is written as entities at both ends, and what is between."""
    rest = _ENTITIES_BEFORE.sub("", title, count=1)
    text = _ENTITIES_AFTER.sub("", rest[::-1], count=1)[::-1]
    before, after = (
        "".join(chr(int(number)) for number in re.findall("[0-9]+", part))
        for part in (title[: len(title) - len(rest)], rest[len(text) :])
    )
    if any(not character.isspace() or _BREAK.match(character) for character in before + after):
        return "", title, ""
    return before, text, after


def title_from_name(name: str) -> str:
    """The title to send for a directory made or renamed here.

    ``name_from_title(title_from_name(name)) == name`` for every legal ``name``. ``SLASH`` becomes "/"; only a
    name that would be read as HTML is escaped, and white space at the ends, which would be trimmed.
    """
    text = name.strip()
    before, after = name[: len(name) - len(name.lstrip())], name[len(name.rstrip()) :] if text else ""
    title = text.replace(SLASH, "/")
    if _reduce(title) != title or _kept_ends(title) != ("", title, ""):
        title = html.escape(title, quote=False)
    return _as_entities(before) + title + _as_entities(after)


def _as_entities(text: str) -> str:
    return "".join(f"&#{ord(character)};" for character in text)


def name_from_filename(name: str) -> str:
    """The name that shows a file or folder called ``name`` on Figshare: plain text, so little changes.

    A legal name is returned as it is (case, dots, spaces at the ends and things like HTML included).
    """
    legal = _cut(_clean(name))
    return UNTITLED if legal in ("", ".", "..") else legal


def name_from_id(item_id: Id) -> str:
    """The id as one step of a path: as it is, unless it would lead elsewhere ("a/../b")."""
    return str(item_id) if isinstance(item_id, int) else name_from_filename(item_id)


def assign_names(
    items: Iterable[tuple[Id, str]],
    *,
    extension: bool,
    taken: Collection[str] = (),
    kept: Mapping[Id, str] = MappingProxyType({}),
) -> dict[Id, str]:
    """A unique name for each item of one directory.

    ``items`` are pairs of id and legal name, in any order. Of several with one name the lowest id (integers
    before strings) has it plain; the others bear " [<id>]", with ``extension`` before the extension
    (".csv", ".tar.gz"), else at the end. No name in ``taken`` is given. Names have at most 255 bytes: the
    stem is cut, never the suffix or the extension.

    Stable: names are given in ascending order of ids, so another item with a higher id changes no name; nor
    does any, of those that are ``kept``.
    """
    used = {*taken, *kept.values()}
    names: dict[Id, str] = {}
    for item_id, base in sorted(set(items), key=lambda item: (isinstance(item[0], str), item)):
        if item_id in kept:
            names[item_id] = kept[item_id]
            continue
        name = base
        if name in used:
            name = next(name for name in _with_id(base, item_id, extension) if name not in used)
        used.add(name)
        names[item_id] = name
    return names


def may_be_called(name: str, item: tuple[Id, str], *, extension: bool) -> bool:
    """Whether ``assign_names`` gives that name to ``item``, beside whatever others."""
    item_id, base = item
    return name == base or name in itertools.islice(_with_id(base, item_id, extension), MOST_NUMBERED)


def id_from_name(name: str) -> Id | None:
    """The id that ``name`` is by itself, or None; whether there is such an item, the caller finds out.

    Digits are an integer, as in ``records.Id``. For servers with string ids (UUIDs, for example) a word
    with a digit in it may be one.
    """
    if _INTEGER_ID.fullmatch(name):
        return int(name)
    return name if _STRING_ID.fullmatch(name) else None


def split_folder_path(path: str) -> tuple[str, ...]:
    """Figshare's folder path ("/a//b/", "a/b") as legal names; () is the article itself.

    Empty components and "." go, and those below ``DEEPEST_FOLDER``. ".." becomes ``UNTITLED``, like
    any name that is not legal: nothing leads up.
    """
    parts = (part for part in path.split("/") if part not in ("", "."))
    return tuple(name_from_filename(part) for part in itertools.islice(parts, DEEPEST_FOLDER))


def join_folder_path(parts: Iterable[str]) -> str:
    """Folder names as Figshare's folder path, no slashes at its ends: ``split_folder_path`` undoes it."""
    return "/".join(parts)


def check_name(raw: bytes) -> str:
    """The name in a request of the kernel.

    ``OSError``: ENAMETOOLONG past 255 bytes; EINVAL if it is empty, not UTF-8, ".", ".." or holds "/" or NUL.
    """
    if len(raw) > MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, "name longer than 255 bytes")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise OSError(errno.EINVAL, "name is not UTF-8") from None
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "not a name")
    return name


def plain_text(text: str) -> str:
    """``text`` with tags and entities of HTML reduced to what they show; line ends and spaces stay."""
    return _reduce(text)


def _reduce(text: str) -> str:
    """Tags and entities of HTML reduced to text, in one pass: what an entity stands for is not read again."""
    return _MARKUP.sub(_text_of, text) if "<" in text or "&" in text else text


def _text_of(match: re.Match[str]) -> str:
    entity = match["entity"]
    if entity is not None:
        return html.unescape(match[0]) if entity[0] == "#" or f"{entity};" in html5 else match[0]
    tag = match["tag"].lower()
    if _BLOCK_TAG.fullmatch(tag):
        return "\n"  # becomes one space together with the white space around it
    return "" if _INLINE_TAG.fullmatch(tag) else match[0]


def _clean(text: str) -> str:
    """``text`` without "/", control characters and line ends."""
    if not text.isprintable():  # most are: no further search then
        text = _REMOVED.sub("", text)
        text = _SPACES.sub(lambda run: " " if _BREAK.search(run[0]) else run[0], text)
    return text.replace("/", SLASH)


def _cut(text: str, limit: int = MAX_NAME_BYTES) -> str:
    """``text`` cut to ``limit`` bytes of UTF-8, between characters and if possible not before a mark."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    plain = raw[:limit].decode(errors="ignore")
    end = len(plain)
    while end and (_combines(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return plain[:end] or plain


def _combines(character: str) -> bool:
    return (
        unicodedata.category(character)[0] == "M" or character == "\u200d"
    )  # marks, zero width joiner (emoji)


def _with_id(base: str, item_id: Id, extension: bool) -> Iterator[str]:
    """``base`` with its id, then with id and number: endless and all different, so one of them is free."""
    stem, ending = _split_extension(base) if extension else (base, "")
    label = _cut(name_from_filename(str(item_id)), _MAX_ID_BYTES)
    for number in itertools.count(1):
        suffix = f" [{label}]" if number == 1 else f" [{label}.{number}]"
        room = MAX_NAME_BYTES - len(suffix.encode()) - len(ending.encode())
        yield f"{_cut(stem, room)}{suffix}{ending}"


def _split_extension(name: str) -> tuple[str, str]:
    """``name`` as stem and extension: ("a", ".csv"), ("a", ".tar.gz"), (".bashrc", ""), ("v1.2", "")."""
    stem, ending = _split_last(name)
    if _COMPRESSION.fullmatch(ending[1:].lower()):
        stem, inner = _split_last(stem)
        ending = inner + ending
    return stem, ending


def _split_last(name: str) -> tuple[str, str]:
    stem, _, last = name.rpartition(".")
    if not stem.strip(".") or not _EXTENSION.fullmatch(last):
        return name, ""
    return stem, f".{last}"
