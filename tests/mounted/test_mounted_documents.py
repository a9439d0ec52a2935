"""The documents of ``.figshare`` through a real mount, as md5sum, jq, cat, cp and rm use them."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import MakeMount, Mount, Sandbox, errno_of, names, run, shell

FROGS = "articles/Frog calls of the Atlantic forest"
DRAFT = "articles/Results of run 12"
PROJECT = "projects/Glacier mass balance 2019–2023"
PHOTOS = f"{PROJECT}/氷河の写真 ∕ Photographs of the ablation area"
BALANCE = f"{PROJECT}/Mass balance of Storglaciären, 2019–2023"
COLLECTION = "collections/Ice and climate: selected data"


@pytest.fixture
def mount(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> Mount:
    """The example account."""
    return make_mount(sandbox=make_sandbox("example"))


def _metadata(mount: Mount, item: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((mount / item / ".figshare/metadata.json").read_bytes())
    return found


@pytest.mark.parametrize("item", [FROGS, DRAFT, PHOTOS, BALANCE])
def test_md5sum_accepts_them(item: str, mount: Mount) -> None:
    """All files, from inside the article: folders, two of one name, more than ten."""
    done = run("md5sum", "--strict", "-c", ".figshare/md5sums", cwd=mount / item, timeout=120)
    files = [path for path in (mount / item).rglob("*") if path.is_file()]
    assert len(done.stdout.splitlines()) == len(files) > 0
    assert "FAILED" not in done.stdout


@pytest.mark.parametrize("item", [".", FROGS, DRAFT, PHOTOS, PROJECT, COLLECTION])
def test_cat_of_each(item: str, mount: Mount) -> None:
    """``cat .figshare/*``: every document can be read, as long as ``stat`` says it is."""
    directory = mount / item / ".figshare"
    files = [path for path in directory.iterdir() if path.is_file()]
    assert len(files) >= 5
    for path in files:
        assert len(run("cat", path).stdout.encode()) == path.stat().st_size > 0, path
    for path in directory.iterdir():
        if path.is_dir():
            list(path.iterdir())


def test_jq_and_a_copy(mount: Mount, tmp_path: Path, needs: Callable[..., None]) -> None:
    """A title and keywords, edited as the README shows; one PATCH with nothing else in it."""
    needs("jq")
    mount.sandbox.clear_requests()
    script = """
        jq '.title = "Results of run 12, corrected" | .keywords += ["corrected"]' "$1" > "$2" && cp "$2" "$1"
    """
    document = mount / DRAFT / ".figshare/metadata.json"
    inode = (mount / DRAFT).stat().st_ino
    shell(script, document, tmp_path / "new.json")
    [patch] = [request for request in mount.sandbox.requests("api") if request["method"] == "PATCH"]
    assert patch["bytes"] < 100
    [article] = mount.sandbox.articles("Results of run 12, corrected")
    renamed = f"{DRAFT}, corrected"
    assert "Results of run 12, corrected" in names(mount.articles)
    assert (mount / renamed).stat().st_ino == inode
    shown = _metadata(mount, renamed)
    assert shown["keywords"] == ["example", "corrected"]
    assert shown["id"] == article["id"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"title": "ab"}', "3 to 1,000"),
        ('{"title": }', "line 1, column 11"),
        ('{"license": 99}', "no licence of this account"),
        ('{"categories": [26001]}', "no category of this account"),
        ('{"size": 7}', "cannot be changed here"),
    ],
)
def test_what_is_refused(content: str, reason: str, mount: Mount) -> None:
    """EINVAL at ``close()``; the document stays, and ``last-error`` says what is wrong."""
    mount.claim("EINVAL")
    document = mount / DRAFT / ".figshare/metadata.json"
    before = document.read_bytes()
    assert errno_of(lambda: document.write_text(content)) == errno.EINVAL
    assert reason in (mount / DRAFT / ".figshare/last-error").read_text()
    assert document.read_bytes() == before
    document.write_text('{"title": "Something that will do"}')
    assert "last-error" not in names(mount / "articles/Something that will do/.figshare")


def test_changed_elsewhere(mount: Mount) -> None:
    """ESTALE; nothing is overwritten."""
    mount.claim("ESTALE")
    document = mount / DRAFT / ".figshare/metadata.json"
    base = json.loads(document.read_bytes())
    mount.sandbox.ask("PATCH", f"/v2/account/articles/{base['id']}", {"description": "Theirs"})
    new = json.dumps(base | {"title": "Ours, from before"})
    assert errno_of(lambda: document.write_text(new)) == errno.ESTALE
    assert "description" in (mount / DRAFT / ".figshare/last-error").read_text()
    assert mount.sandbox.articles("Ours, from before") == []


def test_what_cannot_be_written(mount: Mount) -> None:
    for name in ("md5sums", "citation.bib", "stats.json", "oai_dc.xml"):
        path = mount / FROGS / ".figshare" / name
        assert errno_of(lambda path=path: path.write_text("x")) in (errno.EACCES, errno.EPERM)
        assert errno_of(path.unlink) == errno.EPERM


def test_notes(mount: Mount) -> None:
    """Made by a redirect, changed by another, removed by ``rm``."""
    notes = mount / PROJECT / ".figshare/notes"
    shell('echo "The stakes of 2021 were read twice." > "$1"/stakes', notes)
    [note] = notes.iterdir()
    assert note.name == "1 The stakes of 2021 were read twice.txt"
    assert note.read_text() == "The stakes of 2021 were read twice.\n"
    shell('echo "Only once, after all." > "$1"', note)
    [note] = notes.iterdir()
    assert (note.name, note.read_text()) == ("1 Only once, after all.txt", "Only once, after all.\n")
    run("rm", note)
    assert names(notes) == set()


@pytest.mark.parametrize("item", [DRAFT, COLLECTION])
def test_private_links(item: str, mount: Mount) -> None:
    links = mount / item / ".figshare/links"
    shell("""echo '{"expires_date": "2100-01-31"}' > "$1"/reviewer; : > "$1"/another""", links)
    every = json.loads((mount / item / ".figshare/links.json").read_bytes())
    assert len(every) == 2
    assert every[0]["expires_date"] == "2100-01-31T00:00:00"
    assert names(links) == {f"{link['id']}.json" for link in every}
    run("rm", links / f"{every[0]['id']}.json")
    assert names(links) == {f"{every[1]['id']}.json"}
    assert json.loads((mount / item / ".figshare/links.json").read_bytes()) == every[1:]


@pytest.mark.parametrize("place", [f"{DRAFT}/.figshare/links", f"{PROJECT}/.figshare/notes"])
def test_lost_answers(place: str, mount: Mount) -> None:
    """What was made though its answer was lost is found, and made once; what was not: EIO, and a reason."""
    mount.claim("WARNING .*(answer lost|UnknownOutcome)")
    directory, before = mount / place, names(mount / place)
    lost = {"role": "api", "method": "POST", "path": "/(private_links|notes)$"}
    mount.sandbox.set_faults([lost | {"action": "lose_answer"}])
    mount.sandbox.clear_requests()
    (directory / "made").write_text('{"expires_date": "2100-03-31"}')
    assert len(names(directory) - before) == 1
    mount.sandbox.set_faults([lost | {"action": "status", "status": 502}])
    assert errno_of(lambda: (directory / "not").write_text('{"expires_date": "2100-04-30"}')) == errno.EIO
    assert "nothing is sent again" in (directory.parent / "last-error").read_text()
    mount.sandbox.set_faults([])
    assert len(mount.sandbox.requests("api", "POST", "/(private_links|notes)$")) == 2
    assert len(names(directory) - before) == 1
    for name in names(directory) - before:
        (directory / name).unlink()


def test_a_crate_beside_its_files(mount: Mount, tmp_path: Path) -> None:
    """Copied into a copy of the article, what it names is there, and as large."""
    copy = tmp_path / "crate"
    shutil.copytree(mount / BALANCE, copy)
    shutil.copy(mount / BALANCE / ".figshare/ro-crate-metadata.json", copy)
    graph = json.loads((copy / "ro-crate-metadata.json").read_bytes())["@graph"]
    files = [entity for entity in graph if entity["@type"] == "File"]
    assert {entity["@id"]: int(entity["contentSize"]) for entity in files} == {
        str(path.relative_to(copy)).replace(" ", "%20"): path.stat().st_size
        for path in copy.rglob("*")
        if path.is_file() and path.name != "ro-crate-metadata.json"
    }


def test_versions_of_a_published_article(mount: Mount, needs: Callable[..., None]) -> None:
    """``diff -r`` of two of them; each has documents of its own, read-only."""
    needs("diff")
    versions = mount / FROGS / ".figshare/versions"
    assert names(versions) == {"1", "2"}
    differences = run("diff", "-r", versions / "1", versions / "2", code=1).stdout
    assert "> Recordings of 2019 and their annotations." in differences
    assert "annotations.csv" in differences
    first = mount / "public/articles/20000005.v1"
    assert run("md5sum", "--strict", "-c", ".figshare/md5sums", cwd=first).stdout.count(": OK") == 2
    assert "figshare.20000005.v1" in (first / ".figshare/citation.txt").read_text()
    document = first / ".figshare/metadata.json"
    assert errno_of(lambda: document.write_text("{}")) == errno.EROFS
    assert errno_of(document.unlink) == errno.EROFS
