"""What the API answers, as typed records. Reading them is lenient, because the real answers are.

The API's description says little about null, and the real one (and other servers that speak it) sends null,
``""``, numbers as strings and dates without a zone (api.md §1, quirks L12). So every field is read by its
type, from the one table ``_READERS`` below: what cannot be understood becomes the field's default. A field
*without* a default is one that the record is useless without (an id, a part's offsets): lacking it is
``BadAnswer``.

Times are POSIX seconds (a date without a zone is UTC), sizes bytes, ids what ``Id`` says. Unknown fields are
ignored.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import msgspec

from figfs.errors import BadAnswer

log = logging.getLogger(__name__)

#: Figshare's ids are integers from 1, of 63 bits (SQLite's, and enough); another server's may be strings. A
#: numeric string is the integer.
Id = int | str

LONGEST_ID = 255  #: characters of one that is a string: what a name can have
LONGEST_NUMBER = 1000  #: digits; JSON has no limit


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: made from parsed JSON by ``from_json``."""

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """The record in ``raw`` (parsed JSON). ``BadAnswer`` if it is no object or lacks what is required."""
        if not isinstance(raw, Mapping):
            raise BadAnswer(f"{cls.__name__} expected, got {_kind(raw)}")
        values: dict[str, object] = {}
        for name, key, required, read in _plan(cls):
            value = read(raw.get(key))
            if value is None and key == "id":
                value = read(raw.get("uuid"))  # djehuty, which speaks this API, has "id": null
            if value is not None:
                values[name] = value
            elif required:
                raise BadAnswer(f"{cls.__name__} without a usable {key}")
        return cls(**values)


class Item(Record, frozen=True, kw_only=True):
    """What listings consist of."""

    id: Id


class Unread(Item, frozen=True, kw_only=True):
    """Any item, with all that Figshare says of it."""

    said: Mapping[str, Any]

    @classmethod
    def from_json(cls, raw: object) -> Self:
        item = Item.from_json(raw)
        assert isinstance(raw, Mapping)
        return cls(id=item.id, said=raw)


class Account(Item, frozen=True, kw_only=True):
    """``GET /account``. A quota of None is unknown, not unlimited."""

    user_id: Id | None = None
    email: str = ""
    first_name: str = ""
    last_name: str = ""
    institution_id: Id | None = None
    institution_user_id: str = ""
    group_id: Id | None = None
    quota: int | None = None
    used_quota: int | None = None
    used_quota_private: int | None = None
    used_quota_public: int | None = None
    maximum_file_size: int | None = None


class CustomField(Item, frozen=True, kw_only=True):
    """A field that an institution has added to its items' metadata."""

    name: str = ""
    field_type: str = ""  #: only values of a ``dropdown_large_list`` can be uploaded


class File(Item, frozen=True, kw_only=True):
    """A file of an article. It has no dates and no folder (api.md §2, File)."""

    name: str = ""
    size: int = 0
    size_known: bool = (
        True  #: False: the server gave no size for a file it holds, so it cannot be read faithfully
    )
    is_link_only: bool = False  #: hosted elsewhere: size 0, ``download_url`` is the external URL
    download_url: str = ""
    supplied_md5: str = ""
    computed_md5: str = ""
    mimetype: str = ""
    upload_url: str = ""
    upload_token: str = ""
    status: str = (
        ""  #: created, ic_checking, moving_to_final, available (quirks U11); "" where the server has none
    )
    is_attached_to_public_version: bool | None = None

    @classmethod
    def from_json(cls, raw: object) -> Self:
        file = super().from_json(raw)
        if not 0 <= file.size < 1 << 63 or (isinstance(raw, Mapping) and _number(raw.get("size")) is None):
            return msgspec.structs.replace(file, size=0, size_known=file.is_link_only)
        return file

    @property
    def md5(self) -> str:
        """Lower-case hex: what Figshare computed, else what the client supplied, else "" (quirks L15)."""
        return (self.computed_md5 or self.supplied_md5).strip().lower()


class Article(Item, frozen=True, kw_only=True):
    """An article as lists show it: no size, no status, no files."""

    title: str = ""
    doi: str = ""
    url: str = ""
    url_public_html: str = ""
    url_private_html: str = ""
    defined_type_name: str = ""
    created_date: float | None = None
    modified_date: float | None = None
    published_date: float | None = None
    project_id: Id | None = None  #: only searches and details tell; None may also mean "not told"


class ArticleDetails(Article, frozen=True, kw_only=True):
    """``GET /account/articles/{id}``. ``files`` holds ten at most (quirks L5): page the files endpoint."""

    status: str = ""  #: draft or public
    is_public: bool = False
    version: int | None = None
    size: int | None = None
    files: tuple[File, ...] = ()
    files_sent: int | None = None  #: how many there were, usable or not; None: the server shows none here
    folder_structure: dict[
        str, str
    ] = {}  #: file id (as a string) -> folder path, with or without a leading slash
    is_embargoed: bool = False
    embargo_date: float | None = None  #: when it ends; None: never, or not told
    embargo_type: str = ""
    figshare_url: str = ""  #: its web page
    embargo_title: str = ""
    embargo_reason: str = ""
    is_confidential: bool = False
    confidential_reason: str = ""
    is_metadata_record: bool = False
    has_linked_file: bool = False
    download_disabled: bool = False
    curation_status: str = ""
    account_id: Id | None = None

    @classmethod
    def from_json(cls, raw: object) -> Self:
        details = super().from_json(raw)
        sent = raw.get("files") if isinstance(raw, Mapping) else None
        return msgspec.structs.replace(details, files_sent=len(sent) if isinstance(sent, list) else None)


class License(Record, frozen=True, kw_only=True):
    """A licence, as an article shows it."""

    name: str = ""
    url: str = ""


class Titled(Item, frozen=True, kw_only=True):
    """A project or a collection. Institutions with item-type metadata put the title under ``fields``."""

    title: str = ""
    url: str = ""
    created_date: float | None = None
    modified_date: float | None = None
    published_date: float | None = None

    @classmethod
    def from_json(cls, raw: object) -> Self:
        record = super().from_json(raw)
        fields = raw.get("fields") if isinstance(raw, Mapping) else None
        if not record.title.strip() and isinstance(fields, Mapping):
            title = _text(fields.get("title"))
            if title:
                return msgspec.structs.replace(record, title=title)
        return record


class Project(Titled, frozen=True, kw_only=True):
    """A project of the account or shared with it. Quota and description come with the details only."""

    role: str = ""  #: Owner, Collaborator, Viewer
    storage: str = ""  #: individual, group
    description: str = ""
    group_id: Id | None = None
    account_id: Id | None = None
    quota: int | None = None
    used_quota: int | None = None
    used_quota_private: int | None = None
    used_quota_public: int | None = None


class Collection(Titled, frozen=True, kw_only=True):
    """A collection. Lists carry no created or modified date (api.md §2)."""

    doi: str = ""
    description: str = ""
    articles_count: int | None = None
    public: bool | None = None
    version: int | None = None


class Part(Record, frozen=True, kw_only=True, rename="camel"):
    """One part of an upload: bytes from ``start_offset`` to ``end_offset``, both included."""

    part_no: int
    start_offset: int
    end_offset: int
    status: str = ""  #: PENDING, COMPLETE
    locked: bool = False

    @property
    def size(self) -> int:
        return self.end_offset - self.start_offset + 1


class Upload(Record, frozen=True, kw_only=True):
    """``GET upload_url``: how the server cut the file into parts, and which of them it has."""

    token: str = ""
    name: str = ""
    size: int | None = None
    md5: str = ""
    status: str = ""  #: PENDING, COMPLETED, ABORTED
    parts: tuple[Part, ...] = ()


class Location(Record, frozen=True, kw_only=True):
    """What a POST that makes something answers: often only a URL."""

    entity_id: Id | None = None
    location: str = ""

    @property
    def id(self) -> Id:
        """``entity_id``, else the last path segment of ``location``. ``BadAnswer`` if there is neither."""
        found = self.entity_id
        if found is None:
            path = self.location.split("?")[0].split("#")[0].rstrip("/")
            last = path.rpartition("/")[2]
            found = (
                read_id(last) if any(c.isdigit() for c in last) else None
            )  # not the "articles" of ``…/articles``
        if found is None:
            raise BadAnswer("the answer does not tell the new id")
        return found


R = TypeVar("R", bound=Record)


def id_order(id: Id) -> tuple[bool, int, str]:
    """Sort key for ids: integers by value, before strings. Figshare's ids grow with time."""
    return (False, id, "") if isinstance(id, int) else (True, 0, id)


def decode(body: bytes) -> Any:
    """Parsed JSON of ``body``; raises ``BadAnswer`` if it is none.

    Python's own parser is the second try: it takes a lone surrogate, or a number of thousands of digits,
    which would else cost 1000 titles.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError):
        raise BadAnswer("the answer is not JSON") from None


def read_list(cls: type[R], raw: object) -> list[R]:
    """The records of a listing. One without a usable id is left out, with one warning for all of them.

    Raises ``BadAnswer`` if ``raw`` (parsed JSON) is no list, or nothing in it can be used: an account that
    looks empty by a misunderstanding would be taken for deleted.
    """
    if not isinstance(raw, list):
        raise BadAnswer(f"a list of {cls.__name__} expected, got {_kind(raw)}")
    found: list[R] = []
    skipped = 0
    for item in raw:
        try:
            found.append(cls.from_json(item))
        except BadAnswer:
            skipped += 1
    if skipped and not found:
        raise BadAnswer(f"none of {skipped} entries in a list of {cls.__name__} has a usable id")
    if skipped:
        log.warning(
            "%d of %d entries in a list of %s have no usable id: left out", skipped, len(raw), cls.__name__
        )
    return found


def _integer(digits: str) -> int | None:
    """None for one that Python does not read: its time would grow with the square of its length."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else None


# One reader for each type of field: the value, or None for "not there or not to be understood".


def read_id(value: object) -> Id | None:
    """An id from JSON; a number may be a text (quirks L12). None: it is none."""
    if isinstance(value, str):
        value = (_text(value) or "").strip()
        if value.isascii() and value.isdigit() and len(value) < 20 and int(value) < 1 << 63:
            value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 1 <= value < 1 << 63 else None  # 0 stands for "none", in project_id for example
    if isinstance(value, str):
        # An id becomes a segment of a URL's path: "." and ".." would change the path even when quoted.
        return value if value.strip(".") and len(value) <= LONGEST_ID else None
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            value = value.encode("utf-8", "replace").decode()
        return value or None
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _number(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value) if not value.strip().lstrip("+-").isdigit() else int(value)
        except ValueError:
            return None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else None
    # More than 64 bits are no size or count, and overflow what is calculated with them.
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def _time(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e11 else None  # beyond the year 5000: no seconds
    if not isinstance(value, str):
        return None
    try:
        date = datetime.datetime.fromisoformat(value.strip())
        return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _flag(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, int, float)) else None


def _files(value: object) -> tuple[File, ...] | None:
    return tuple(read_list(File, value)) if isinstance(value, list) else None


def _parts(value: object) -> tuple[Part, ...] | None:
    return tuple(Part.from_json(part) for part in value) if isinstance(value, list) else None


def _folders(value: object) -> dict[str, str] | None:
    if not isinstance(value, Mapping):
        return None  # a server written in PHP sends [] for an empty mapping
    return {str(file_id): path for file_id, path in value.items() if isinstance(path, str)}


def _names(value: object) -> tuple[str, ...] | None:
    """Texts, or what people call the objects of a list: authors, categories."""
    if not isinstance(value, list):
        return None
    called = (
        next((text for key in ("full_name", "name", "title") if (text := _text(each.get(key)))), None)
        if isinstance(each, Mapping)
        else _text(each)
        for each in value
    )
    return tuple(name for name in called if name and name.strip())


def _license(value: object) -> License | None:
    return License.from_json(value) if isinstance(value, Mapping) else None


_READERS: dict[object, Callable[[Any], object]] = {
    Id: read_id,
    Id | None: read_id,
    str: _text,
    int: _number,
    int | None: _number,
    float | None: _time,  # every fraction in these records is a time
    bool: _flag,
    bool | None: _flag,
    tuple[File, ...]: _files,
    tuple[Part, ...]: _parts,
    tuple[str, ...]: _names,
    License | None: _license,
    dict[str, str]: _folders,
}


@functools.cache
def _plan(cls: type[Record]) -> tuple[tuple[str, str, bool, Callable[[Any], object]], ...]:
    """Name, key in JSON, whether required, reader: of each field. Cached: it costs more than the reading."""
    fields = msgspec.structs.fields(cls)
    return tuple((field.name, field.encode_name, field.required, _READERS[field.type]) for field in fields)


def _kind(raw: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "nothing", bool: "a truth value"}
    return names.get(type(raw), "a number")
