"""Bad input, through a real mount: each has its errno, and a person can find the reason where they look: in
``last-error``, in the log at its usual level, in what a command prints. (Issue 5, "Seen by" 4.)
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import FIGFS, MakeMount, Mount, Sandbox, errno_of, names, run, wait_until

RUN = "articles/Results of run 12"
COLLECTION = "collections/Ice and climate: selected data"
RADAR = 20000013


@pytest.fixture
def mount(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> Mount:
    """The example account, as its log is without --verbose."""
    sandbox = make_sandbox("example")
    sandbox.change_settings(institution_admin=True, search_lag=0)
    return make_mount("--log-level", "warning", "--dir-timeout", "1", sandbox=sandbox)


def said_by(mount: Mount, *words: str | Path) -> str:
    """What a command says that fails: one line."""
    done = run(*FIGFS, *words, "--state-dir", mount.state, env=mount.environment(), code=1)
    assert done.stderr.startswith("figfs: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def refused(mount: Mount, path: Path, content: str) -> str:
    """``cp`` of a file with ``content`` onto a document, which fails; what last-error says."""
    source = mount.base / "source"
    source.write_text(content)
    done = run("cp", source, path, code=1)
    assert "Invalid argument" in done.stderr
    return (path.parent / "last-error").read_text()


def test_a_doi_of_another_repository(mount: Mount) -> None:
    """ENOENT; EINVAL as a link in a collection."""
    mount.claim("has the DOI 10.5281/zenodo.1234567")
    doi = mount / "public/doi/10.5281/zenodo.1234567"
    assert errno_of(doi.stat) == errno.ENOENT
    reason = f"no public item of {mount.sandbox.api} has the DOI 10.5281/zenodo.1234567"
    assert reason in mount.log()
    assert reason in said_by(mount, "info", doi)
    link = mount / COLLECTION / "x"
    assert errno_of(lambda: link.symlink_to(f"../../{doi.relative_to(mount.path)}")) == errno.EINVAL
    assert f"the link /{COLLECTION}/x is refused: {reason}" in mount.log()


@pytest.mark.parametrize(
    "path", ["public/articles/99", "public/articles/20000005.v9", "public/collections/9", "public/projects/9"]
)
def test_an_id_that_is_not_there(mount: Mount, path: str) -> None:
    """ENOENT, which may be a probe: the commands say why."""
    assert errno_of((mount / path).stat) == errno.ENOENT
    for command in ("info", "cite", "open"):
        assert "it is not there, withdrawn, under an embargo, or was never published" in said_by(
            mount, command, mount / path
        )
    assert "no '99' here" in said_by(mount, "info", mount / "articles/99")


def test_a_withdrawn_item(mount: Mount) -> None:
    """What was not read yet is ESTALE; then ENOENT, and the log says that it is gone."""
    mount.claim("is gone", "was public, and is withdrawn")
    article = mount / f"public/articles/{RADAR}"
    assert names(article) == {"radar.h5"}
    mount.sandbox.ask("POST", "/_sandbox/withdraw", {"article": RADAR})
    assert errno_of((article / "radar.h5").read_bytes) in (errno.ESTALE, errno.ENOENT)
    wait_until(lambda: not article.exists(), what="the withdrawn article is gone")
    assert f"/public/articles/{RADAR} was public, and is withdrawn, or under an embargo" in mount.log()
    reason = f"no public article {RADAR}: it is not there, withdrawn, under an embargo"
    assert reason in said_by(mount, "info", article)


@pytest.mark.parametrize(
    ("query", "reason"),
    [(":title: (frog", "a ) is missing"), (":colour: red", "cannot search by :colour:")],
)
def test_a_query_that_figshare_refuses(mount: Mount, query: str, reason: str) -> None:
    """EINVAL, with Figshare's words in the log; no such query is there."""
    mount.claim("422 ValidationError")
    assert errno_of((mount / "search" / query).mkdir) == errno.EINVAL
    [line] = [line for line in mount.log().splitlines() if reason in line]
    assert f"(/search/{query})" in line
    assert names(mount / "search") == set()


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('{"title": ', "metadata.json, line 1, column 11: Expecting value"),
        ('{"title": "A",}', "metadata.json, line 1, column 1"),
        ("[]", "metadata.json"),
        (
            '{"license": 999}',
            "license: 999 is no licence of this account: .figshare/licenses.json at the root",
        ),
        ('{"license": "CC BY"}', "license: a number, or an object with one, expected"),
        ('{"title": "ab"}', "title: has 2 characters, Figshare takes 3 to 1,000"),
    ],
)
def test_metadata_that_cannot_be(mount: Mount, written: str, reason: str) -> None:
    """Broken JSON, a licence that does not exist, a title of two characters: EINVAL at close, the reason in
    ``last-error`` and in the log; the document is as it was.
    """
    mount.claim("flush of inode")
    document = mount / RUN / ".figshare/metadata.json"
    before = json.loads(document.read_text())
    assert reason in refused(mount, document, written)
    assert reason in mount.log()
    assert json.loads(document.read_text()) == before
    assert mount.sandbox.requests("api", "PATCH") == []


@pytest.mark.parametrize("where", ["articles", "projects", "collections"])
def test_a_title_of_two_characters(mount: Mount, where: str) -> None:
    """EINVAL from mkdir: the log has the reason and the path."""
    mount.claim("Figshare takes no title")
    assert errno_of((mount / where / "ab").mkdir) == errno.EINVAL
    assert f"(/{where}/ab): Figshare takes no title of fewer than 3 characters" in mount.log()


def test_a_csv_while_one_is_in_progress(mount: Mount) -> None:
    """EBUSY at close; ``last-error`` and ``status.json`` beside it say that another is imported still."""
    mount.claim("PreviousCustomFieldUploadNotComplete")
    wait_until(lambda: (mount / "institution").is_dir(), what="institution/")
    field = mount / "institution/custom-fields/501 Department"
    (field / "first.csv").write_text("Name\nPhysics\n")
    assert errno_of(lambda: (field / "second.csv").write_text("Name\nChemistry\n")) == errno.EBUSY
    reason = "Previous import still in progress"
    assert reason in (field / "last-error").read_text()
    assert reason in json.loads((field / "status.json").read_text())["answer"]
    assert reason in mount.log()


def test_a_revoked_token(mount: Mount) -> None:
    """EACCES; the log says once what can be done, and so does every command, ``figfs status`` at its head."""
    mount.claim("Figshare refuses the token")
    mount.sandbox.ask("PUT", "/_sandbox/token", {"token": "another"})
    for _ in range(3):
        assert errno_of((mount.articles / "New one").mkdir) == errno.EACCES
    advice = "Figshare refuses the token, which is in no file; mount again with a new one"
    assert mount.log().count(advice) == 1
    for command in ("info", "reserve-doi", "publish"):
        assert advice in said_by(mount, command, mount / RUN)
    words = [*FIGFS, "status", "--state-dir", mount.state]
    done = run(*words, env=mount.environment())
    assert advice in " ".join(done.stdout.split())
    mount.sandbox.ask("PUT", "/_sandbox/token", {"token": mount.sandbox.token})
    new = mount.articles / "New one"
    wait_until(lambda: run("mkdir", "-p", new, code=None).returncode == 0, what="the token is taken again")
    assert "refuses" not in run(*words, env=mount.environment()).stdout
