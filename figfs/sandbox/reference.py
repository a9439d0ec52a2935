"""Fixed lists: licences, categories, item types."""

from __future__ import annotations

from typing import Any

LICENSES: tuple[dict[str, Any], ...] = (
    {"value": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"},
    {"value": 2, "name": "CC0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"},
    {"value": 3, "name": "MIT", "url": "https://opensource.org/licenses/MIT"},
    {"value": 4, "name": "GPL", "url": "https://www.gnu.org/licenses/gpl-3.0.html"},
    {"value": 5, "name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0.html"},
)
DEFAULT_LICENSE = 1

#: Name, number. Numbers as in public listings; names as ``defined_type`` takes them.
ITEM_TYPES = {
    "figure": 1,
    "media": 2,
    "dataset": 3,
    "poster": 5,
    "journal contribution": 6,
    "presentation": 7,
    "thesis": 8,
    "software": 9,
    "online resource": 11,
    "preprint": 12,
    "book": 13,
    "conference contribution": 14,
}
ITEM_TYPE_NAMES = {number: name for name, number in ITEM_TYPES.items()}
DEFAULT_ITEM_TYPE = "dataset"


def _category(number: int, title: str, parent: int = 0, source: str = "") -> dict[str, Any]:
    return {
        "parent_id": parent,
        "id": number,
        "title": title,
        "path": f"/{parent}/{number}" if parent else f"/{number}",
        "source_id": source or str(number),
        "taxonomy_id": 100,
        "is_selectable": bool(parent),
        "has_children": not parent,
    }


CATEGORIES: tuple[dict[str, Any], ...] = (
    _category(23000, "Biological sciences", source="31"),
    _category(23001, "Zoology not elsewhere classified", 23000, "310999"),
    _category(23002, "Ecology not elsewhere classified", 23000, "310399"),
    _category(24000, "Earth sciences", source="37"),
    _category(24001, "Atmospheric sciences not elsewhere classified", 24000, "370199"),
    _category(24002, "Glaciology", 24000, "370902"),
    _category(25000, "Information and computing sciences", source="46"),
    _category(25001, "Software engineering not elsewhere classified", 25000, "461299"),
    # In the public list, but not in the account's: writing it is refused (quirk P5).
    _category(26000, "Philosophy and religious studies", source="50"),
    _category(26001, "History of philosophy", 26000, "500202"),
)
ACCOUNT_CATEGORIES = tuple(entry for entry in CATEGORIES if entry["id"] < 26000)


def category(number: int) -> dict[str, Any]:
    """A category as items show it. KeyError if there is none."""
    for entry in CATEGORIES:
        if entry["id"] == number:
            return {
                key: entry[key] for key in ("parent_id", "id", "title", "path", "source_id", "taxonomy_id")
            }
    raise KeyError(number)


def license_entry(value: int) -> dict[str, Any]:
    """A licence. KeyError if there is none."""
    for entry in LICENSES:
        if entry["value"] == value:
            return entry
    raise KeyError(value)
