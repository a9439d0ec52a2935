"""The commands about single items: ``info``, ``cite``, ``open``, ``refresh``.

Part of the command line, beside ``statuscli.py``.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import click

from figfs.commandline.statuscli import find, state_options
from figfs.errors import ConfigurationError
from figfs.terminal import amount, as_json, count, visible

PATIENCE = 120.0  #: seconds for a request or two, with a turn to wait for
LONGEST = 400  #: characters of one line
LONGEST_URL = 2000  #: characters of one that is opened: no browser takes any number

#: What ``figfs cite --format`` prints.
DOCUMENTS = {
    "text": "citation.txt",
    "bibtex": "citation.bib",
    "ris": "citation.ris",
    "cff": "citation.cff",
    "ro-crate": "ro-crate-metadata.json",
}


# ---- info ------------------------------------------------------------------------------------------------


@click.command("info", short_help="What Figshare says of an item.")
@click.argument("path")
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
@state_options
def info_command(*, path: str, in_json: bool, state_dir: str | None, config: str | None) -> int:
    """Show what PATH is (article, project, collection or file), its DOI, dates, licence, and what is owed.

    Figshare is asked. Of a folder, or something else inside an item, the item is shown.
    """
    found = find(path, state_dir, config)
    card = found.ask_one("info", patience=PATIENCE, path=found.inside)
    if in_json:
        print(as_json(card, indent=2))
    else:
        _draw(card)
    return 0


def _draw(card: dict[str, Any]) -> None:
    lines = [*_lines(card)]
    width = max(len(what) for what, _ in lines)
    print(visible(str(card.get("name") or card["title"] or "(no title)"), LONGEST))
    for what, text in lines:
        print(f"  {what:{width}}  {visible(text, LONGEST)}")


def _lines(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value; what is not known is left out."""
    kind = f"{card['kind']} {card['id']}" if card.get("id") else card["kind"]
    parts: list[tuple[str, object]] = [("kind", kind)]
    parts += [
        (what, card.get(key))
        for what, key in (("type", "type"), ("status", "status"), ("version", "version"), ("DOI", "doi"))
    ]
    for what in ("created", "modified", "published"):
        parts.append((what, card.get(what)))
    if card.get("license"):
        parts.append(("licence", " ".join(filter(None, (card["license"], card.get("license_url"))))))
    for what in ("authors", "collaborators", "categories", "keywords"):
        parts.append((what, ", ".join(card.get(what) or ())))
    parts.append(("role", card.get("role")))
    if card.get("files") is not None:
        parts.append(("files", count(card["files"], "file")))
    if card.get("articles") is not None:
        parts.append(("articles", card["articles"]))
    if card.get("size") is not None:
        parts.append(("size", f"{amount(card['size'])} ({card['size']} bytes)"))
    parts += [("MD5", card.get("md5")), ("verified", card.get("verified")), ("target", card.get("target"))]
    if card.get("article"):
        parts.append(("article", f"{card['article']} ({card['article_id']})"))
    parts += [("page", card.get("page")), ("path", card.get("path"))]
    owed = [count(card["owed"], "change")] if card.get("owed") else []
    owed += [f"{card['parked']} parked"] if card.get("parked") else []
    parts.append(("owed", ", ".join(owed) or "nothing"))
    return [(what, str(value)) for what, value in parts if value not in (None, "")]


# ---- cite ------------------------------------------------------------------------------------------------


@click.command("cite", short_help="How an item is cited.")
@click.argument("path")
@click.option("--format", "form", type=click.Choice([*DOCUMENTS]), default="text", show_default=True)
@state_options
def cite_command(*, path: str, form: str, state_dir: str | None, config: str | None) -> int:
    """Print the citation of the article or collection that PATH is, or is in.

    The same as its .figshare/citation.txt, .bib, .ris, .cff, or .figshare/ro-crate-metadata.json.
    """
    found = find(path, state_dir, config)
    item = found.ask_one("item", patience=PATIENCE, path=found.inside)
    document = Path(found.mountpoint, item["path"], ".figshare", DOCUMENTS[form])
    try:
        content = document.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {form} citation of {visible(item['path'])}") from None
    except OSError as exc:
        raise ConfigurationError(f"cannot read {visible(str(document))}: {exc.strerror}") from exc
    if sys.stdout.isatty():
        for line in content.decode("utf-8", "replace").splitlines():
            print(visible(line))
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    return 0


# ---- open ------------------------------------------------------------------------------------------------


@click.command("open", short_help="Open an item's web page.")
@click.argument("path")
@click.option("--print", "only_print", is_flag=True, help="Print its address, open nothing.")
@state_options
def open_command(*, path: str, only_print: bool, state_dir: str | None, config: str | None) -> int:
    """Print the address of the web page of PATH, and open it in a browser where there is a display.

    Of a draft it is its owner's page; of a file that of its article.
    """
    found = find(path, state_dir, config)
    card = found.ask_one("info", patience=PATIENCE, path=found.inside)
    page = card.get("page")
    if not isinstance(page, str) or not is_web_page(page):
        raise ConfigurationError(f"Figshare tells no web page of this {card['kind']}")
    print(page)
    if only_print or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return 0
    import webbrowser

    if not webbrowser.open(page):
        raise ConfigurationError("no browser could be started")
    return 0


def is_web_page(url: str) -> bool:
    """Whether it may be handed to a browser, and to a terminal: http or https, nothing hidden in it."""
    try:
        parts = urllib.parse.urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and url.isprintable()
            and " " not in url
            and len(url) <= LONGEST_URL
        )
    except ValueError:
        return False


# ---- refresh ---------------------------------------------------------------------------------------------


@click.command("refresh", short_help="See at once what was changed elsewhere.")
@click.argument("path")
@state_options
def refresh_command(*, path: str, state_dir: str | None, config: str | None) -> int:
    """Ask Figshare anew what is in PATH, and at the next look what is below it.

    Without this it is seen when the listing is older than --dir-timeout.
    """
    found = find(path, state_dir, config)
    found.ask_one("refresh", patience=PATIENCE, path=found.inside)
    return 0
