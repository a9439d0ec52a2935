"""A colleague's account, mounted by the administrator of an institution (semantics.md: what a mount writes is
the account's that it shows).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    FIGFS,
    MakeMount,
    Sandbox,
    content,
    environment,
    errno_of,
    md5,
    names,
    run,
    wait_until,
)

COLLEAGUE = 1000002


@pytest.fixture
def institution(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    sandbox = make_sandbox("example")
    sandbox.change_settings(institution_admin=True)
    return sandbox


@pytest.mark.parametrize("who", ["1000002", "sven@example.org", "u002"])
def test_a_colleagues_account(institution: Sandbox, make_mount: MakeMount, who: str) -> None:
    """Found by id, e-mail or institution user id: shows what the colleague has, and writes there."""
    mount = make_mount("-o", f"impersonate={who},grace=0", sandbox=institution)
    assert names(mount.articles) == {"Airborne radar of the same glacier"}
    own = {article["id"] for article in institution.account()["articles"]}
    article = mount.articles / "For a colleague"
    article.mkdir()
    data = content("impersonated", 300_000)
    (article / "data.bin").write_bytes(data)
    found = institution.ask("GET", f"/v2/account/articles?impersonate={COLLEAGUE}")
    number = next(each["id"] for each in found if each["title"] == "For a colleague")
    (file,) = institution.ask("GET", f"/v2/account/articles/{number}/files?impersonate={COLLEAGUE}")
    assert (file["name"], file["computed_md5"], file["status"]) == ("data.bin", md5(data), "available")
    assert {each["id"] for each in institution.account()["articles"]} == own

    mount.unmount()
    other = make_mount("-o", f"impersonate={who}", sandbox=institution)  # nothing of it in this one's cache
    assert (other.articles / "For a colleague" / "data.bin").read_bytes() == data
    (other.articles / "For a colleague" / "data.bin").unlink()
    (other.articles / "For a colleague").rmdir()
    assert names(other.articles) == {"Airborne radar of the same glacier"}


def test_each_account_has_its_own_state(institution: Sandbox, tmp_path: Path) -> None:
    """What is owed to one account is never sent to another: the journal's place has the account's id."""
    home = environment(tmp_path, FIGFS_API=institution.api, FIGFS_TOKEN=institution.token)
    for number, options in enumerate(([], ["--impersonate", "u002"])):
        point = tmp_path / str(number)
        point.mkdir()
        run(*FIGFS, "mount", "--background", "--api-rate", "0", *options, point, env=home)
        run(*FIGFS, "umount", point, env=home)
    found = [path.name.rpartition("-")[2] for path in (tmp_path / "state/figfs").iterdir() if path.is_dir()]
    assert sorted(found) == ["1000001", "1000002"]


def test_a_state_directory_is_of_one_account(institution: Sandbox, tmp_path: Path) -> None:
    """Told to use it for another one, figfs refuses: the uploads in its journal are not that one's."""
    home = environment(tmp_path, FIGFS_API=institution.api, FIGFS_TOKEN=institution.token)
    point = tmp_path / "mnt"
    point.mkdir()
    command = [*FIGFS, "mount", "--background", "--api-rate", "0", "--state-dir", tmp_path / "mine"]
    for options, code in (([], 0), (["--impersonate", "u002"], 1), (["--public"], 1), ([], 0)):
        done = run(*command, *options, point, env=home, code=code)
        if code == 0:
            run(*FIGFS, "umount", point, "--state-dir", tmp_path / "mine", env=home)
        else:
            said = " ".join(done.stderr.split())
            assert f"mine is of account 1000001 at {institution.api}, not of" in said
            assert "use another --state-dir" in said


@pytest.mark.parametrize(
    ("admin", "who", "said"),
    [
        (False, "u002", "for administrators of an institution, which this token's account is not"),
        (True, "nobody@example.org", "the institution has no account 'nobody@example.org'"),
    ],
)
def test_who_cannot_be_impersonated(
    admin: bool, who: str, said: str, institution: Sandbox, tmp_path: Path
) -> None:
    """Nothing is mounted, and one line says why."""
    institution.change_settings(institution_admin=admin)
    home = environment(tmp_path, FIGFS_API=institution.api, FIGFS_TOKEN=institution.token)
    (tmp_path / "mnt").mkdir()
    done = run(*FIGFS, "mount", "--impersonate", who, tmp_path / "mnt", env=home, code=1)
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


FEED = "UniqueID,FirstName,LastName,Email\nu1,A,B,a@example.org\n"


@pytest.fixture
def administered(institution: Sandbox, make_mount: MakeMount) -> Path:
    mount = make_mount(sandbox=institution)
    mount.claim(
        "WARNING figfs.fuse: (flush|rename) .*(Invalid|Conflict|HR feed|UnsupportedFileType)", "40[09]"
    )
    return wait_until(lambda: (mount / "institution").is_dir() and mount / "institution", what="institution/")


def test_ordinary_accounts_have_none(institution: Sandbox, make_mount: MakeMount) -> None:
    """Absent, and asked for once, at the start: ``ls`` costs nothing more."""
    institution.change_settings(institution_admin=False)
    mount = make_mount(sandbox=institution)
    wait_until(lambda: institution.requests("api", "GET", "/institution/accounts"), what="asked")
    assert "institution" not in names(mount.path)
    institution.clear_requests()
    for _ in range(3):
        run("ls", "-l", mount.path)
    assert institution.requests("api") == []


def test_what_is_in_it(administered: Path) -> None:
    shown = {"accounts", "articles", "hrfeed", "custom-fields", "accounts.json", "articles.json"}
    assert names(administered) == shown
    assert names(administered / "custom-fields") == {"501 Department", "502 Grant number"}
    assert names(administered / "hrfeed") == set()
    accounts = json.loads((administered / "accounts.json").read_text())
    assert len(accounts) == 30
    assert accounts[1]["email"] == "sven@example.org"
    articles = json.loads((administered / "articles.json").read_text())
    assert "Airborne radar of the same glacier" in {article["title"] for article in articles}
    assert all(article["created_date"].endswith("Z") for article in articles)  # as the server has it
    assert {"handle", "group_id", "timeline"} <= articles[0].keys()
    assert errno_of((administered / "new").mkdir) == errno.EPERM
    assert errno_of(lambda: (administered / "new").write_text("a")) == errno.EPERM
    assert errno_of((administered / "hrfeed").rmdir) == errno.EPERM


def test_what_its_members_have_published(institution: Sandbox, make_mount: MakeMount) -> None:
    """Links into public/ by title, drafts left out; asked for at the first look only; read-only."""
    mount = make_mount(sandbox=institution)
    place = wait_until(
        lambda: (mount / "institution").is_dir() and mount / "institution" / "articles", what="institution/"
    )
    institution.ask("POST", "/v2/account/articles", {"title": "A draft"})
    institution.clear_requests()
    assert "articles" in names(place.parent)
    assert institution.requests("api", "GET", "/institution/articles") == []
    for _ in range(3):
        assert names(place) == {"Airborne radar of the same glacier", "Frog calls of the Atlantic forest"}
        run("ls", "-lR", place)
    assert len(institution.requests("api", "GET", "/institution/articles")) == 1
    radar = place / "Airborne radar of the same glacier"
    assert os.readlink(radar) == os.readlink(place / "20000013") == "../../public/articles/20000013"
    assert names(radar) == {"radar.h5"}
    assert len((place / "20000013" / "radar.h5").read_bytes()) == 700_000
    for act, number in (
        ((place / "new").mkdir, errno.EPERM),
        (lambda: (place / "new").write_text("a"), errno.EPERM),
        (lambda: (place / "new").symlink_to("../../articles"), errno.EPERM),
        (radar.unlink, errno.EPERM),
        (lambda: radar.rename(place / "new"), errno.EPERM),
        (place.rmdir, errno.EPERM),
        ((radar / "radar.h5").unlink, errno.EROFS),
        (lambda: radar.chmod(0o700), errno.EROFS),
    ):
        assert errno_of(act) == number
    assert errno_of((place / "20000001").stat) == errno.ENOENT
    institution.ask("PATCH", "/v2/account/articles/20000006", {"description": "d", "tags": ["t"]})
    institution.ask("POST", "/v2/account/articles/20000006/publish")
    run(*FIGFS, "refresh", mount / "institution", "--state-dir", mount.state, env=mount.environment())
    assert "Supplementary material" in names(place)


def test_a_feed_is_submitted(administered: Path, institution: Sandbox, tmp_path: Path) -> None:
    """``cp`` submits it once; it does not stay there, a status does. A second one that day: EINVAL."""
    source = tmp_path / "people.csv"
    source.write_text(FEED)
    feed = administered / "hrfeed"
    run("cp", source, feed)
    assert len(institution.requests("api", "POST", "/hrfeed/upload")) == 1
    assert names(feed) == {"status.json"}
    said = json.loads((feed / "status.json").read_text())
    assert (said["file"], said["bytes"]) == ("people.csv", len(FEED))
    assert said["answer"].startswith("accepted")

    done = run("cp", source, feed, code=1)
    assert "Invalid argument" in done.stderr
    assert "once every 24 hours" in (feed / "last-error").read_text()
    assert "refused: " in json.loads((feed / "status.json").read_text())["answer"]


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("hrfeed/people.txt", FEED, "a file .xml or .csv is needed"),
        ("hrfeed/people.csv", "\n", "an empty file says nothing"),
        ("hrfeed/people.csv", "UniqueID\n", "The feed lacks FirstName"),
        ("hrfeed/people.xml", "<a>", "not valid XML"),
        ("custom-fields/502 Grant number/a.csv", "a\n", "Only fields of the type"),
        ("custom-fields/501 Department/a.xml", "<a/>", "a file .csv is needed"),
    ],
)
def test_what_is_refused(path: str, content: str, reason: str, administered: Path) -> None:
    """EINVAL at close, the reason in ``last-error``."""
    file = administered / path
    assert errno_of(lambda: file.write_text(content)) == errno.EINVAL
    assert reason in (file.parent / "last-error").read_text()
    assert reason in json.loads((file.parent / "status.json").read_text())["answer"]


def test_values_of_a_field(administered: Path, institution: Sandbox) -> None:
    """Written, submitted; the next while the first is in progress: EBUSY."""
    place = administered / "custom-fields/501 Department"
    (place / "departments.csv").write_text("Name\nPhysics\n")
    assert json.loads((place / "status.json").read_text())["answer"].startswith("accepted")
    assert errno_of(lambda: (place / "departments.csv").write_text("Name\nChemistry\n")) == errno.EBUSY
    assert "still in progress" in (place / "last-error").read_text()
