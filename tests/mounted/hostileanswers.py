"""Hostile answers for tests through a mount, and what must hold whatever the answers are.

The mount lives, each step ends, every name is legal, no link leads out of the mount or to an odd scheme, and
nothing that ``figfs`` prints or logs is obeyed by a terminal. The server is that of ``other_server.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from processes import FIGFS, MakeMount, Mount
from test_mounted_other_server import DATES, FOLDERS, IDS, LINKS, SIZES, TITLES, OtherServer, within

EVIL = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066 \x9b2J\r../../etc/passwd\n\0"
EVIL_ID = "x1/../../../../../../etc/passwd"
UUIDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(10_000)]

#: Instead of any field.
VALUES: list[object] = [
    EVIL, "x" * 100_000, None, True, -1, 0, 1e300, 10**300, 10**400, [], {}, [None], [[]], [EVIL], [{}],
    {"a": 1},
    [{"full_name": EVIL, "name": EVIL, "title": EVIL, "id": EVIL_ID, "url_name": "../..", "orcid_id": EVIL}],
    {"title": 5, "name": EVIL, "url": "javascript:alert(1)", "id": -1, "value": []},
]  # fmt: skip

ODD_URLS = ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "https://x/" + EVIL]
ODD_DOIS = ["../../etc", "10.5072/../../../etc/passwd", EVIL, "10.1/x}\n@evil{y"]

FIELDS = (
    "doi", "status", "is_public", "public", "version", "description", "tags", "keywords", "categories",
    "authors", "license", "defined_type_name", "defined_type", "size", "articles_count", "is_embargoed",
    "embargo_date", "embargo_type", "embargo_reason", "role", "storage", "collaborators", "figshare_url",
    "url_public_html", "url_private_html", "url", "references", "related_materials", "funding_list",
    "funding", "custom_fields", "timeline", "created_date", "modified_date", "published_date", "fields",
    "folder_structure", "files", "account_id", "project_id", "group_id", "curation_status", "citation",
    "resource_doi",
)  # fmt: skip

#: Whole records: every field the same odd value, and two of plausible shape.
RECORDS: list[dict[str, object]] = [
    *({"title": value, **dict.fromkeys(FIELDS, value)} for value in VALUES),
    *(
        {
            "title": EVIL, "doi": doi, "figshare_url": url, "url_public_html": url, "url_private_html": url,
            "url": url, "is_public": True, "public": True, "version": 10**30,
            "authors": [{"full_name": EVIL}],
            "license": {"name": EVIL, "url": url, "value": "x"}, "tags": [EVIL] * 50, "keywords": [EVIL],
            "description": EVIL, "categories": [{"id": 1, "title": EVIL}], "size": 10**400, "status": EVIL,
            "defined_type_name": EVIL, "articles_count": 10**400, "embargo_date": "9999-99-99", "role": EVIL,
            "published_date": date, "created_date": date, "modified_date": date, "references": [url],
            "is_embargoed": True, "curation_status": EVIL, "collaborators": [{"name": EVIL}],
        }
        for url, doi, date in zip(ODD_URLS, ODD_DOIS, DATES[:4], strict=True)
    ),
]  # fmt: skip


#: None is called ``.figshare``, which would hide the documents.
NAMES = [title for title in TITLES if title != ".figshare"]

#: What is in items: files of an article, articles of a project or collection, numbers of versions.
FILES: list[dict[str, object]] = [
    {"id": n, "name": title, "size": SIZES[n % len(SIZES)], "is_link_only": n % 3 == 0}
    | {"download_url": LINKS[n % len(LINKS)], "computed_md5": EVIL, "mimetype": EVIL, "status": "available"}
    for n, title in enumerate(NAMES, 1)
]
FILES += [{"id": 900, "name": "link", "is_link_only": True, "download_url": "https://x/" + EVIL}]
FILES += [{"id": 901, "name": EVIL, "size": 3, "computed_md5": "900150983cd24fb0d6963f7d28e17f72"}]
FOLDERS_OF = {str(n): folder for n, folder in enumerate(FOLDERS, 1)} | {"901": "/".join("d" * 5_000)}
INSIDE = [
    {"id": id_, "title": title, "doi": EVIL} for id_, title in zip([*IDS, EVIL_ID], NAMES, strict=False)
]
VERSIONS = [{"version": version, "url": "file:///x"} for version in (*SIZES, 3)]
XML = f'<?xml version="1.0"?><OAI-PMH><GetRecord><t>{EVIL} &amp;</t></GetRecord></OAI-PMH>'

#: What a terminal obeys, or turns the direction of writing.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
TURNS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _walk(place: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``, which looks behind each link: a lookup of a public item for each of 10,000."""
    with contextlib.suppress(OSError):
        folders: list[str] = []
        others: list[str] = []
        with os.scandir(place) as found:
            for entry in found:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        yield place, folders, others
        for name in folders:
            yield from _walk(place / name)


def walk(mount: Mount, *places: Path, read: bool = True) -> int:
    """Look at all there is, as programs do; errors are fine. How many names were seen. ``read``: content as
    well, which takes its time where the server has none.
    """
    seen = 0
    with within(60):
        for place in places:
            with contextlib.suppress(OSError):
                seen += _look(mount, place, read=read)
            for directory, folders, files in _walk(place):
                assert len(set(folders + files)) == len(folders) + len(files)
                for name in folders + files:
                    assert len(os.fsencode(name)) <= 255
                    assert name.encode("utf-8")
                    assert not any(unicodedata.category(char) == "Cc" for char in name), name
                    seen += _look(mount, Path(directory, name), read=read)
    mount.alive()
    mount.check_log()
    return seen


def _look(mount: Mount, path: Path, *, read: bool) -> int:
    os.lstat(path)
    if path.is_symlink():
        check_target(mount, path)
        return 1
    for attribute in os.listxattr(path):
        value = os.getxattr(path, attribute).decode()
        assert value.isprintable()
        if attribute == "user.figshare.url":
            assert value.startswith(("http://", "https://", "ftp://"))
    if read and path.is_file() and path.stat().st_size < 1 << 20:
        with contextlib.suppress(OSError):
            path.read_bytes()
    return 1


def check_target(mount: Mount, link: Path) -> None:
    """It stays in the mount, or is a URL that may be opened, with nothing hidden in it."""
    try:
        target = os.readlink(link)
    except OSError:  # too long, for example
        return
    assert target.isprintable(), ascii(target)
    if target.startswith(("http://", "https://", "ftp://")):
        assert " " not in target
        return
    assert not target.startswith("/"), target
    place = posixpath.normpath(posixpath.join(str(link.parent), target))
    assert f"{place}/".startswith(f"{mount.path}/"), (link, target)
    # Seen from where it is, no step on the way is above the mount.
    depth = len(link.parent.relative_to(mount.path).parts)
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        assert depth >= 0, target


def walk_documents(mount: Mount, *items: Path) -> int:
    """Read all of ``.figshare``, which no walk meets. How many documents could be read."""
    read = 0
    for item in items:
        inside = item / ".figshare"
        for directory, folders, files in _walk(inside):
            for name in folders + files:
                with within(15), contextlib.suppress(OSError):  # what the server has answered is no document
                    if Path(directory, name).is_symlink():
                        check_target(mount, Path(directory, name))
                    elif name in files:
                        check_document(name, Path(directory, name).read_bytes())
                        read += 1
    mount.alive()
    mount.check_log()
    return read


def check_document(name: str, content: bytes) -> None:
    """It can be shown and parsed, and nothing a terminal obeys is in it."""
    text = content.decode("utf-8")
    # md5sums has the names as they are, for md5sum to find the files; a note is what somebody has written,
    # with its marks of direction and line ends. Other control characters are in none.
    is_note = name.endswith(".txt") and name != "citation.txt"
    odd = CONTROLS if name == "md5sums" or is_note else TURNS
    assert not odd.search(text.replace("\r", "\n") if is_note else text), ascii(text[:2000])
    if name.endswith(".json"):
        json.loads(text)
    elif name.endswith(".xml"):
        assert "<!DOCTYPE" not in text
        ElementTree.fromstring(text)
    elif name == "citation.bib":
        assert text.count("{") == text.count("}")
        assert re.fullmatch(r"@misc\{\w+,\n(  \w+ += .*\n)*\}\n", text), ascii(text[:2000])
    elif name == "citation.ris":
        assert re.fullmatch(r"TY  - \w+\n([A-Z][A-Z0-9]  - .*\n)*ER  - \n", text), ascii(text[:2000])
        assert text.count("\nER  -") == 1
    elif name == "citation.cff":
        for line in text.splitlines():
            _key, _, value = line.strip().removeprefix("- ").partition(": ")
            if value.startswith('"'):
                json.loads(value)  # YAML reads it alike
    elif name == "citation.txt":
        assert text.count("\n") == 1


def check_output(text: str) -> None:
    """What a person sees: no traceback, and nothing in it that a terminal obeys."""
    assert "Traceback" not in text, text[-3000:]
    odd = {char for char in text if not char.isprintable() and char not in "\n\t"}
    assert not odd, (odd, text[:2000])


def figfs(mount: Mount, *words: str | Path) -> str:
    """What a person at a terminal sees of a command, which must end."""
    return at_terminal(mount, [*FIGFS, *map(str, words)], codes={0, 1, 2})


def at_terminal(mount: Mount, command: Sequence[str], *, codes: set[int]) -> str:
    controller, terminal = pty.openpty()
    with within(60):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=mount.environment() | {"TERM": "dumb", "LC_ALL": "C.UTF-8"},  # dumb: no colours of our own
        )
        os.close(terminal)
        out = bytearray()
        with contextlib.suppress(OSError), os.fdopen(controller, "rb", 0) as reader:
            while data := reader.read(65536):
                out += data
        assert process.wait(30) in codes
    text = out.decode().replace("\r\n", "\n")
    check_output(text)
    return text


#: The program itself, several commands after one another: its start takes longer than most of them.
ONE_BY_ONE = """
import json, sys
from figfs.cli import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    sys.stderr.flush()
    print(f"[exit {code}]", flush=True)
"""


def figfs_all(mount: Mount, *commands: Sequence[str | Path]) -> list[str]:
    """What each of several commands says, at a terminal; and again into a pipe, which is checked only."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    program = [sys.executable, "-P", "-c", ONE_BY_ONE, words]
    said = re.split(r"\[exit \d+\]\n", at_terminal(mount, program, codes={0}))
    assert len(said) == len(commands) + 1, said[-1]
    done = subprocess.run(
        program,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
        env=mount.environment() | {"LC_ALL": "C.UTF-8"},
    )
    for stream in (done.stdout, done.stderr):
        # Documents go into a pipe as they are: a joiner in somebody's name stays.
        text = stream.decode()
        assert "Traceback" not in text, text[-3000:]
        assert not re.search(TURNS, text), ascii(text[:2000])
    return said[:-1]


def any_item(kind: str, body: object, status: int = 200) -> dict[str, object]:
    return {"path": rf"/v2/{kind}/[^/]+(/versions/[^/]+)?", "body": body, "status": status}


def public_answers(kind: str, number: int, record: dict[str, object]) -> list[dict[str, object]]:
    """Everything that a mount asks about a public item and its ``.figshare``."""
    details = {"files": FILES, "folder_structure": FOLDERS_OF, **record, "id": number}
    return [
        {"path": rf"/v2/{kind}/\d+(/versions/\d+)?/articles", "body": INSIDE},
        {"path": rf"/v2/{kind}/\d+(/versions/\d+)?/files", "body": FILES},
        {"path": r"/v2/.*/versions", "body": VERSIONS},
        any_item(kind, details),
        {"path": "/v2/oai", "text": XML},
        {"path": "/stats/.*", "body": {"totals": record.get("size")}},
    ]


@contextlib.contextmanager
def hostile_server(make_mount: MakeMount, errors: Path, *options: str) -> Iterator[tuple[OtherServer, Mount]]:
    """A server that is to be told what to answer, and its mount, which is to be started. Warnings are no
    surprise there; at the end its log is found fit for a terminal.
    """
    server = OtherServer(errors, "--dialect", "uuid", "--plain-ids")
    mount = make_mount("--op-timeout", "5", "--grace", "0.5", *options, sandbox=server, start=False)
    mount.claim("WARNING")
    try:
        yield server, mount
        mount.end()
        log = mount.log()
        assert log.replace("\n", "").isprintable(), {c for c in log if not c.isprintable()}
        records = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ [a-z0-9_.]+: ")
        assert all(records.match(line) for line in log.splitlines()), "a record has more than a line"
    finally:
        mount.end()
        server.stop()
