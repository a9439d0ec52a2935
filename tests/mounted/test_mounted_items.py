"""``figfs publish``, ``reserve-doi``, ``info``, ``open``, ``refresh``, through a real mount."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import FIGFS, MakeMount, Mount, names, run, wait_until

READY = {"description": "<p>All of it.</p>", "tags": ["ice"], "categories": [24002]}


def figfs(mount: Mount, *words: str | Path, code: int | None = 0, **more: Any) -> str:
    """A command about this mount; what it printed, stderr after stdout."""
    done = run(*FIGFS, *words, "--state-dir", mount.state, code=code, env=mount.environment(), **more)
    return done.stdout + done.stderr


def ready(mount: Mount, title: str = "Ice cores") -> Path:
    """An article with a file and all the metadata that a publication needs."""
    path = mount.articles / title
    path.mkdir()
    (path / "cores.csv").write_text("n,depth\n1,2\n")
    number = mount.sandbox.article(title)["id"]
    mount.sandbox.ask("PATCH", f"/v2/account/articles/{number}", READY)
    return path


def publications(mount: Mount) -> int:
    return len(mount.sandbox.requests("api", "POST", "/publish$"))


def public(mount: Mount, title: str = "Ice cores") -> dict[str, Any]:
    number = mount.sandbox.article(title)["id"]
    answer: dict[str, Any] = mount.sandbox.ask("GET", f"/v2/articles/{number}")
    return answer


def test_publish(make_mount: MakeMount) -> None:
    """The dry run changes nothing; without a terminal only --yes publishes; then the public sees it."""
    mount = make_mount()
    path = mount.articles / "Ice cores"
    path.mkdir()
    (path / "cores.csv").write_text("n,depth\n1,2\n")
    said = figfs(mount, "publish", "--dry-run", path, code=1)
    for what in ("description", "keywords", "categories"):
        assert re.search(rf"NO +{what}", said)
    assert "3 points in the way" in said
    number = mount.sandbox.article("Ice cores")["id"]
    mount.sandbox.ask("PATCH", f"/v2/account/articles/{number}", READY)
    said = figfs(mount, "publish", "--dry-run", path)
    assert "Nothing is in the way." in said
    assert "CC BY 4.0" in said
    assert "1 file, 12 B" in said
    assert "say --yes" in figfs(mount, "publish", path, code=2, stdin=b"y\n")
    assert publications(mount) == 0
    said = figfs(mount, "publish", "--yes", path)
    assert f"Published: version 1\nDOI: 10.6084/m9.figshare.{number}.v1\nURL: http://127.0.0.1" in said
    assert public(mount)["version"] == 1
    assert os.getxattr(path / "cores.csv", "user.figshare.status") == b"public"
    said = figfs(mount, "publish", "--yes", path, code=1)
    assert "nothing has changed since version 1" in said
    (path / "more.csv").write_text("n\n")
    said = figfs(mount, "publish", "--yes", path)
    assert "added more.csv" in said
    assert "Published: version 2" in said
    assert publications(mount) == 2
    assert [file["name"] for file in public(mount)["files"]] == ["cores.csv", "more.csv"]


def test_writing_never_publishes(make_mount: MakeMount) -> None:
    """Whatever is done to the files of a published article, its public version stays."""
    mount = make_mount("--grace", "0")
    path = ready(mount)
    figfs(mount, "publish", "--yes", path)
    before = public(mount)
    (path / "cores.csv").write_text("other\n")
    (path / "new.csv").write_text("new\n")
    (path / "new.csv").rename(path / "renamed.csv")
    (path / "cores.csv").unlink()
    figfs(mount, "wait")
    assert public(mount) == before
    assert publications(mount) == 1


def answered(mount: Mount, path: Path, answer: bytes) -> tuple[int, str]:
    """``figfs publish`` on a terminal, where a person types ``answer``."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*FIGFS, "publish", "--state-dir", str(mount.state), str(path)],
        stdin=slave, stdout=slave, stderr=slave, env=mount.environment(), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(master, 65536):
            said += data
            if b"for good?" in said and answer:
                os.write(master, answer)
                answer = b""
    os.close(master)
    return process.wait(30), said.decode()


def test_a_person_is_asked(make_mount: MakeMount) -> None:
    """On a terminal: no is no, yes publishes."""
    mount = make_mount()
    path = ready(mount)
    code, said = answered(mount, path, b"n\n")
    assert (code, publications(mount)) == (130, 0), said
    code, said = answered(mount, path, b"y\n")
    assert (code, publications(mount)) == (0, 1), said
    assert "Published: version 1" in said


def test_what_is_owed_is_in_the_way(make_mount: MakeMount) -> None:
    """A deletion within its grace, a temporary name; an empty file is only named."""
    mount = make_mount("--grace", "2h")
    path = ready(mount)
    (path / "empty.log").touch()
    assert "empty.log" in figfs(mount, "publish", "--dry-run", path)
    (path / ".goutputstream-ABC123").write_text("held")
    said = figfs(mount, "publish", "--yes", path, code=1)
    assert re.search(r"NO +temporary names +.*\.goutputstream-ABC123", said)
    (path / ".goutputstream-ABC123").unlink()
    (path / "cores.csv").unlink()
    said = figfs(mount, "publish", "--yes", path, code=1)
    assert re.search(r"NO +owed +1 change not on Figshare yet: run 'figfs wait'", said)
    assert publications(mount) == 0


def test_a_lost_answer_publishes_once(make_mount: MakeMount) -> None:
    """The answer is lost after the act: one version, one request."""
    mount = make_mount()
    path = ready(mount)
    mount.sandbox.set_faults(
        [{"role": "api", "method": "POST", "path": "/publish$", "action": "lose_answer"}]
    )
    said = figfs(mount, "publish", "--yes", path)
    assert "the answer of Figshare was lost" in said
    assert "Published: version 1" in said
    assert publications(mount) == 1
    mount.sandbox.set_faults([])


def begun(mount: Mount, path: Path) -> subprocess.Popen[str]:
    """``figfs publish --yes``, whose request has arrived; its answer takes two seconds more."""
    mount.sandbox.set_faults(
        [{"role": "api", "method": "POST", "path": "/publish$", "action": "latency", "seconds": 2.0}]
    )
    process = subprocess.Popen(
        [*FIGFS, "publish", "--yes", "--state-dir", str(mount.state), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=mount.environment(),
    )  # fmt: skip
    wait_until(lambda: mount.sandbox.fault_hits() == [1], 30.0, "the request to publish")
    return process


def test_nothing_comes_in_between(make_mount: MakeMount) -> None:
    """What is written between the last look and the answer waits, and is not in the version."""
    mount = make_mount()
    path = ready(mount)
    process = begun(mount, path)
    (path / "never shown.csv").write_text("n\n")  # returns once Figshare has it: after the answer
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, "Published: version 1" in said) == (0, True), said
    assert [file["name"] for file in public(mount)["files"]] == ["cores.csv"]
    assert [name for name, *_ in mount.sandbox.remote_files("Ice cores")] == ["cores.csv", "never shown.csv"]
    assert os.getxattr(path, "user.figshare.status") == b"public, edited"


def test_who_does_not_wait(make_mount: MakeMount) -> None:
    """Ctrl-C before the answer: it is published all the same, and that it may be is said."""
    mount = make_mount()
    path = ready(mount)
    process = begun(mount, path)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: it may have been published, 'figfs info' tells" in said
    wait_until(lambda: len(mount.sandbox.requests("api", "POST", "/publish$")) == 1, 30.0, "the answer")
    mount.sandbox.set_faults([])
    assert public(mount)["version"] == 1
    wait_until(lambda: os.listdir(path) and os.getxattr(path, "user.figshare.status") == b"public")
    (path / "more.csv").write_text("n\n")


def test_a_mount_that_dies_meanwhile(make_mount: MakeMount) -> None:
    """Nobody knows what became of it, and where to look is said."""
    mount = make_mount()
    process = begun(mount, ready(mount))
    mount.kill()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the mount has ended: it may have been published, 'figfs info' tells" in said


def test_a_refusal_is_shown(make_mount: MakeMount) -> None:
    """In Figshare's words, without what a terminal obeys; exit code 1."""
    mount = make_mount()
    path = ready(mount)
    body = {"code": "Forbidden", "message": "Not \x1b[31myou"}
    mount.sandbox.set_faults(
        [
            {
                "role": "api",
                "method": "POST",
                "path": "/publish$",
                "action": "status",
                "status": 403,
                "body": body,
            }
        ]
    )
    said = figfs(mount, "publish", "--yes", path, code=1)
    assert "403 Forbidden Not" in said
    assert "\x1b" not in said
    mount.sandbox.set_faults([])


def test_hostile_metadata(make_mount: MakeMount) -> None:
    """A title, a keyword, a name that would turn the terminal upside down are shown harmless."""
    mount = make_mount()
    path = ready(mount)
    number = mount.sandbox.article("Ice cores")["id"]
    mount.sandbox.ask(
        "PATCH", f"/v2/account/articles/{number}", {"title": "Evil\x1b[2J\u202e", "tags": ["a\x07\nb"]}
    )
    said = figfs(mount, "publish", "--dry-run", path) + figfs(mount, "info", path)
    assert "Evil␛[2J\\u202e" in said
    assert not re.search("[\x07\x1b\u202e]", said)


def test_a_collection_is_published(make_mount: MakeMount, make_sandbox: Any) -> None:
    """With the DOI of a collection; what is in it stays as it is."""
    mount = make_mount(sandbox=make_sandbox(seed="example"))
    [path] = (mount / "collections").iterdir()
    said = figfs(mount, "publish", "--dry-run", path, code=1)
    assert re.search("NO +description", said)
    assert re.search("note +drafts in it +.*Mass balance", said)
    mount.sandbox.ask("PATCH", "/v2/account/collections/6000001", READY)
    before = mount.sandbox.account()["articles"]
    said = figfs(mount, "reserve-doi", path)
    assert said == "10.6084/m9.figshare.c.6000001\n"
    process = subprocess.Popen(
        [*FIGFS, "publish", "--yes", "--state-dir", str(mount.state), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=mount.environment(),
    )  # fmt: skip
    wait_until(lambda: publications(mount) == 1)
    assert process.stdout is not None
    said = process.communicate(timeout=90)[0]
    assert process.returncode == 0, said
    assert "DOI: 10.6084/m9.figshare.c.6000001.v1" in said
    assert mount.sandbox.account()["articles"] == before


def test_a_published_collection_that_is_changed(make_mount: MakeMount, make_sandbox: Any) -> None:
    """``public, edited`` at once, in another mount as well, once it is compared; until it is published."""
    mount = make_mount("--dir-timeout", "2h", sandbox=make_sandbox(seed="example"))
    [path] = (mount / "collections").iterdir()
    mount.sandbox.ask("PATCH", "/v2/account/collections/6000001", READY)
    figfs(mount, "publish", "--yes", path)

    def status() -> bytes:
        return os.getxattr(path, "user.figshare.status")

    assert status() == b"public"
    run("ln", "-sr", mount.articles / "Results of run 12", path)
    assert status() == b"public, edited"
    seen = mount.sandbox.ask("GET", "/v2/collections/6000001/articles")
    assert "Results of run 12" not in {article["title"] for article in seen}
    assert "status      public, edited" in figfs(mount, "info", path)
    mount.remount()
    assert status() == b"public, edited"
    said = figfs(mount, "publish", "--yes", path)
    assert "collection 6000001, public, edited" in said
    assert "DOI: 10.6084/m9.figshare.c.6000001.v2" in said
    assert status() == b"public"
    new = path.with_name("Ice, and climate")
    path.rename(new)
    assert os.getxattr(new, "user.figshare.status") == b"public, edited"


def test_a_project_is_published(make_mount: MakeMount) -> None:
    """Its drafts first, each by its path; then it is public: no version, no DOI, its page; only once."""
    mount = make_mount()
    project = mount / "projects" / "Ice"
    project.mkdir()
    for name in ("Cores", "Maps"):
        (project / name).mkdir()
        (project / name / "data.csv").write_text(f"{name}\n")
        number = mount.sandbox.article(name)["id"]
        mount.sandbox.ask("PATCH", f"/v2/account/articles/{number}", READY)
    said = figfs(mount, "publish", "--yes", project, code=1)
    for name in ("Cores", "Maps"):
        assert re.search(rf"NO +not public +projects/Ice/{name}\n", said)
    assert "2 points in the way" in said
    assert publications(mount) == 0
    for name in ("Cores", "Maps"):
        figfs(mount, "publish", "--yes", project / name)
    assert os.getxattr(project, "user.figshare.status") == b"private"
    mount.sandbox.clear_requests()
    assert "Nothing is in the way." in figfs(mount, "publish", "--dry-run", project)
    assert "say --yes" in figfs(mount, "publish", project, code=2, stdin=b"y\n")
    assert publications(mount) == 0
    mount.sandbox.set_faults(
        [{"role": "api", "method": "POST", "path": "/publish$", "action": "lose_answer"}]
    )
    said = figfs(mount, "publish", "--yes", project)
    mount.sandbox.set_faults([])
    assert "the answer of Figshare was lost" in said
    assert re.search(r"\nPublished\nURL: http://127.0.0.1:\d+/projects/_/\d+\n", said)
    assert "DOI" not in said
    assert publications(mount) == 1
    assert os.getxattr(project, "user.figshare.status") == b"public"
    number = json.loads(figfs(mount, "info", "--json", project))["id"]
    assert names(mount / "public" / "projects" / str(number)) == {"Cores", "Maps"}
    said = figfs(mount, "publish", "--yes", project, code=1)
    assert re.search("NO +status +public already", said)
    assert "a project has no DOI" in figfs(mount, "reserve-doi", project, code=1)


def test_info(make_mount: MakeMount, make_sandbox: Any) -> None:
    """Of every kind, also through the link in a collection, as a card and as JSON."""
    mount = make_mount(sandbox=make_sandbox(seed="example"))
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    said = figfs(mount, "info", frogs)
    for line in ("status      public", "version     2", "DOI         10.6084/m9.figshare.20000005.v2"):
        assert line in said
    card = json.loads(figfs(mount, "info", "--json", frogs))
    link = mount / "collections" / "Ice and climate: selected data" / frogs.name
    assert json.loads(figfs(mount, "info", "--json", link)) == card
    assert (card["files"], card["license"], card["owed"]) == (3, "CC BY 4.0", 0)
    one = json.loads(figfs(mount, "info", "--json", frogs / "README.txt"))
    assert (one["kind"], one["article"], one["size"]) == ("file", frogs.name, 42)
    project = next((mount / "projects").iterdir())
    assert json.loads(figfs(mount, "info", "--json", project))["kind"] == "project"
    radar = mount / "public" / "articles" / "20000013"
    assert json.loads(figfs(mount, "info", "--json", radar))["authors"] == ["Grace Guest"]
    assert "Guest, Grace" in figfs(mount, "cite", radar / "radar.h5")
    assert "name the directory of an own" in figfs(mount, "publish", "--yes", radar, code=1)
    first = mount / "public" / "articles" / "20000005.v1"
    assert json.loads(figfs(mount, "info", "--json", first))["version"] == 1
    linked = mount.articles / "Sea ice extent (held elsewhere)" / "extent.nc"
    assert "target   https://data.example.org/ice/extent.nc" in figfs(mount, "info", linked)


@pytest.mark.parametrize("command", ["info", "publish", "reserve-doi", "open", "refresh", "cite"])
def test_what_cannot_be_meant(make_mount: MakeMount, command: str, tmp_path: Path) -> None:
    """Outside of every mount, not there, nothing mounted: one line, exit code 1, no traceback."""
    mount = make_mount()
    outside = run(*FIGFS, command, tmp_path, code=1, env=mount.environment())
    assert re.fullmatch(r"figfs: .* is in no mount of figfs.*\n", outside.stderr)
    assert "no 'missing' here" in figfs(mount, command, mount.articles / "missing", code=1)
    mount.unmount()
    said = figfs(mount, command, mount.articles / "missing", code=1)
    assert re.fullmatch(r"figfs: no mount has .*: mount it first\n", said)


def test_open(make_mount: MakeMount, tmp_path: Path) -> None:
    """Printed always; handed to a browser where there is a display; a draft's is its owner's page."""
    mount = make_mount()
    path = ready(mount)
    number = mount.sandbox.article("Ice cores")["id"]
    private = f"{mount.sandbox.origin}/account/articles/{number}\n"
    assert figfs(mount, "open", path / "cores.csv") == private
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {seen}\n')
    browser.chmod(0o755)
    shown = {**mount.environment(), "DISPLAY": ":99", "BROWSER": str(browser)}
    words = ["open", path, "--state-dir", mount.state]
    run(*FIGFS, *words, "--print", env=shown)
    assert not seen.exists()
    run(*FIGFS, *words, env=shown)
    assert wait_until(lambda: seen.exists() and seen.read_text()) == private
    figfs(mount, "publish", "--yes", path)
    assert figfs(mount, "open", "--print", path) == f"{mount.sandbox.origin}/articles/_/{number}\n"


def test_cite(make_mount: MakeMount) -> None:
    """In each format what .figshare has; with the DOI as soon as there is one; of a file its article's."""
    mount = make_mount()
    path = ready(mount)
    number = mount.sandbox.article("Ice cores")["id"]
    assert figfs(mount, "cite", path) == (path / ".figshare" / "citation.txt").read_text()
    assert "doi.org" not in figfs(mount, "cite", path)
    figfs(mount, "publish", "--yes", path)
    doi = f"10.6084/m9.figshare.{number}.v1"
    for form, name, sign in (
        ("text", "citation.txt", f"https://doi.org/{doi}"),
        ("bibtex", "citation.bib", f"doi          = {{{doi}}}"),
        ("ris", "citation.ris", f"DO  - {doi}"),
        ("cff", "citation.cff", f'doi: "{doi}"'),
        ("ro-crate", "ro-crate-metadata.json", doi),
    ):
        said = run(
            *FIGFS, "cite", path / "cores.csv", "--format", form, "--state-dir", mount.state,
            env=mount.environment(),
        ).stdout  # fmt: skip
        assert said == (path / ".figshare" / name).read_text()
        assert sign in said
    assert "name an article" in figfs(mount, "cite", mount.articles, code=1)
    (project := mount / "projects" / "A project").mkdir()
    assert figfs(mount, "cite", project).strip()


def test_a_read_only_mount(make_mount: MakeMount, make_sandbox: Any) -> None:
    """It shows the list and the card, and publishes nothing."""
    mount = make_mount("--ro", sandbox=make_sandbox(seed="example"))
    path = mount.articles / "Results of run 12"
    assert "Nothing is in the way." in figfs(mount, "publish", "--dry-run", path)
    assert "read-only" in figfs(mount, "publish", "--yes", path, code=1)
    assert "read-only" in figfs(mount, "reserve-doi", path, code=1)
    assert publications(mount) == 0


def test_refresh(make_mount: MakeMount) -> None:
    """What was changed elsewhere is seen at once, also by name, though the kernel had another answer."""
    mount = make_mount("--dir-timeout", "2h")
    path = ready(mount)
    number = mount.sandbox.article("Ice cores")["id"]
    assert names(path) == {"cores.csv"}
    [file] = mount.sandbox.ask("GET", f"/v2/account/articles/{number}/files")
    assert (path / "cores.csv").stat().st_size == 12
    mount.sandbox.ask("DELETE", f"/v2/account/articles/{number}/files/{file['id']}")
    assert names(path) == {"cores.csv"}
    figfs(mount, "refresh", path)
    wait_until(lambda: not (path / "cores.csv").exists())
    assert names(path) == set()
    mount.sandbox.ask("PATCH", f"/v2/account/articles/{number}", {"title": "Deep ice cores"})
    figfs(mount, "refresh", mount.articles)
    assert names(mount.articles) == {"Deep ice cores"}
    wait_until(lambda: not path.exists())
