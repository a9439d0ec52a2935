"""What can be set while the sandbox runs (``/_sandbox/settings``). Times are seconds, sizes bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

GIB = 1024**3


@dataclasses.dataclass(slots=True)
class Settings:
    """
    | key | default | means |
    |---|---|---|
    | `quota` | 20 GiB | storage of the account |
    | `group_quota` | 50 GiB | storage of the group, which group projects use |
    | `maximum_file_size` | 20 GiB | larger files are refused when announced |
    | `max_files` | 500 | files an article may have |
    | `part_size` | 10 MiB | size of the parts of an upload (all but the last) |
    | `upload_timeout` | 2 | how long a part may stall before the server gives up |
    | `upload_record_delay` | 0 | how long a file just announced answers 404 |
    | `assembly_delay` | 0.05 | from the completion of an upload to `available` |
    | `assembly_ends_at` | `available` | `moving_to_final`: assembly stays there for ever |
    | `compute_md5` | true | false: `computed_md5` stays empty |
    | `max_parts_at_once` | 32 | more parts being sent at once get 429 (quirk U4) |
    | `search_lag` | 2 | how far the search index is behind |
    | `presign_seconds` | 10 | life of a presigned URL, checked when a request arrives |
    | `stream_private` | false | true: `/ndownloader/` sends files that are not public itself (quirk D9) |
    | `max_depth` | null | a listing page that starts at this offset or beyond is refused |
    | `ignore_paging` | false | true: listings come whole, whatever page is asked for |
    | `validators` | `none` | `etag`, `last_modified`, `both`: the API sends them, and 304 if unchanged |
    | `list_project_articles` | true | whether `GET /account/articles` shows articles of projects too |
    | `doi_stem` | `10.6084/m9.figshare` | what DOIs given from now on have before the id |
    | `institution_admin` | false | true: the account administers its institution, and may impersonate |
    | `feed_pause` | 86400 | how long after an HR feed the next is refused |
    | `fields_pause` | 3600 | the same for the values of custom fields |
    | `resourcesync` | true | false: the portal has no ResourceSync, 404 |
    | `resourcesync_entries` | 50000 | lists of more are an index of lists |
    | `changes_kept` | null | how far back the Change List goes; null: to the beginning |
    | `oauth_seconds` | 3600 | life of an access token given from now on |
    | `oauth_consent` | true | false: the person who is asked to let an application in says no |
    """

    quota: int = 20 * GIB
    group_quota: int = 50 * GIB
    maximum_file_size: int = 20 * GIB
    max_files: int = 500
    part_size: int = 10 * 1024**2
    upload_timeout: float = 2.0
    upload_record_delay: float = 0.0
    assembly_delay: float = 0.05
    assembly_ends_at: str = "available"
    compute_md5: bool = True
    max_parts_at_once: int = 32
    search_lag: float = 2.0
    presign_seconds: int = 10
    stream_private: bool = False
    max_depth: int | None = None
    ignore_paging: bool = False
    validators: str = "none"
    list_project_articles: bool = True
    resourcesync: bool = True
    resourcesync_entries: int = 50_000
    changes_kept: int | None = None
    oauth_seconds: int = 3600
    oauth_consent: bool = True
    doi_stem: str = "10.6084/m9.figshare"
    institution_admin: bool = False
    feed_pause: float = 86400.0
    fields_pause: float = 3600.0

    def change(self, changes: dict[str, Any]) -> None:
        """Set some keys. All or nothing; ValueError names what is wrong."""
        for key, value in changes.items():
            if key not in _KINDS:
                raise ValueError(f"no setting {key!r}")
            if not _fits(value, _KINDS[key]):
                raise ValueError(f"{key}: {value!r} is not {_KINDS[key]}")
            if key == "assembly_ends_at" and value not in ("moving_to_final", "available"):
                raise ValueError(f"{key}: available or moving_to_final, not {value!r}")
            if key == "validators" and value not in ("none", "etag", "last_modified", "both"):
                raise ValueError(f"{key}: none, etag, last_modified or both, not {value!r}")
            if key == "doi_stem" and not (value.startswith("10.") and "/" in value):
                raise ValueError(f"{key}: 10.<prefix>/<beginning of the suffix>, not {value!r}")
            if key == "part_size" and value < 1:
                raise ValueError(f"{key}: at least 1")
        for key, value in changes.items():
            setattr(self, key, value)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_KINDS = {field.name: str(field.type) for field in dataclasses.fields(Settings)}


def _fits(value: object, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if value is None:
        return kind.endswith("None")
    numbers = int | float if kind == "float" else int
    return isinstance(value, numbers) and not isinstance(value, bool) and value >= 0
