"""``institution/accounts/``: colleagues' accounts in the mount of their institution's administrator.

What a colleague has, the sandbox is asked directly, as that colleague.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import (
    FIGFS,
    MakeMount,
    Mount,
    RemoteFile,
    Sandbox,
    content,
    errno_of,
    md5,
    names,
    run,
    stored,
    wait_until,
    write_tree,
)

ADMIN, SVEN, OTHER = 1000001, 1000002, 1000003
SVENS, OTHERS = "sven@example.org", "member3@example.org"


@pytest.fixture
def institution(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    sandbox = make_sandbox("example")
    sandbox.change_settings(institution_admin=True)
    return sandbox


@pytest.fixture
def mount(institution: Sandbox, make_mount: MakeMount) -> Mount:
    return shown(make_mount("-o", "grace=0", sandbox=institution))


def shown(mount: Mount) -> Mount:
    """``mount``, once it is known that its account administers an institution."""
    wait_until(lambda: (mount / "institution").is_dir(), what="institution/")
    return mount


def accounts(mount: Mount) -> Path:
    return mount / "institution" / "accounts"


def articles_of(sandbox: Sandbox, account: int) -> dict[str, int]:
    """Titles and ids of what an account has."""
    found = sandbox.ask("GET", f"/v2/account/articles?page_size=1000&impersonate={account}")
    return {each["title"]: each["id"] for each in found}


def files_of(sandbox: Sandbox, account: int, title: str) -> list[RemoteFile]:
    """As ``Sandbox.remote_files``, of a colleague's article."""
    article: dict[str, Any] = sandbox.ask(
        "GET", f"/v2/account/articles/{articles_of(sandbox, account)[title]}?impersonate={account}"
    )
    folders = article["folder_structure"]
    return sorted(
        (
            f"{folders.get(str(file['id']), '')}/{file['name']}".strip("/"),
            file["size"],
            file["computed_md5"] or file["supplied_md5"],
            file["status"],
        )
        for file in article["files"]
    )


def only(sandbox: Sandbox, account: int, title: str) -> None:
    """``account`` has that article, and neither of the others has."""
    for each in (ADMIN, SVEN, OTHER):
        assert (title in articles_of(sandbox, each)) is (each == account), each


def as_colleague(requests: list[dict[str, Any]]) -> list[str]:
    return [entry["path"] for entry in requests if "/institution/" not in entry["path"]]


# ---- who is there ----------------------------------------------------------------------------------------


def test_a_thousand_accounts(institution: Sandbox, mount: Mount) -> None:
    """Every one, once, a page at a time, past the depth where pages end; nobody is looked into."""
    institution.ask("POST", "/_sandbox/members", {"count": 1200})
    institution.change_settings(max_depth=1000)
    institution.clear_requests()
    listed = os.listdir(accounts(mount))
    assert len(listed) == len(set(listed)) == 1230
    assert {SVENS, "member1230@example.org"} <= set(listed)
    run("ls", "-l", accounts(mount))
    asked = institution.requests("api")
    assert as_colleague(asked) == []
    assert len(asked) <= 5  # a page, a refusal, and the pages of the range after it
    assert os.readlink(accounts(mount) / "ada@example.org") == "../.."
    assert not (mount.state / "accounts").exists()


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", [SVENS, str(SVEN), "u002", "Sven@Example.org"])
def test_an_account_is_found(name: str, listed: bool, institution: Sandbox, mount: Mount) -> None:
    """By e-mail address, account id and institution user id; the directory has one name, the rest are links.

    Unless the accounts were listed before, that costs a request or two, not a listing.
    """
    if listed:
        os.listdir(accounts(mount))
    institution.clear_requests()
    found = accounts(mount) / name
    assert names(found / "articles") == {"Airborne radar of the same glacier"}
    assert found.is_symlink() is (name != SVENS)
    assert found.resolve().name == SVENS
    assert len(institution.requests("api", "GET", "/institution/accounts")) <= (0 if listed else 2)
    assert names(accounts(mount)) >= {SVENS, OTHERS}
    assert names(accounts(mount)) & {str(SVEN), "u002"} == set()


@pytest.mark.parametrize("name", ["nobody@example.org", "5", "u999", ".hidden", "9" * 40])
def test_an_account_that_is_not_there(name: str, institution: Sandbox, mount: Mount) -> None:
    """ENOENT, asked for once at most, listed or not."""
    for _ in range(2):
        assert errno_of(lambda: os.lstat(accounts(mount) / name)) == errno.ENOENT
        os.listdir(accounts(mount))
    institution.clear_requests()
    assert errno_of(lambda: os.lstat(accounts(mount) / name)) == errno.ENOENT
    assert institution.requests("api") == []


def test_what_is_in_an_account(mount: Mount) -> None:
    """What is its own; what is public is found from there, too, and nothing else."""
    sven = accounts(mount) / SVENS
    assert names(sven) == {"articles", "projects", "collections"}
    assert names(sven / ".figshare") >= {"account.json", "quota.json"}
    assert f'"email": "{SVENS}"' in (sven / ".figshare" / "account.json").read_text()
    assert os.readlink(sven / "public") == "../../../public"
    assert names(sven / "public") == {"articles", "projects", "collections", "doi"}
    for name in ("institution", "search"):
        assert not (sven / name).exists()


def test_accounts_are_their_institutions(mount: Mount) -> None:
    """Nobody makes, renames or removes one here, and times and modes of one are accepted (``rsync -a``)."""
    mount.claim("WARNING figfs.filesystem: accounts are made and removed by their institution")
    place = accounts(mount)
    sven = place / SVENS
    assert errno_of((place / "new@example.org").mkdir) == errno.EPERM
    assert errno_of(lambda: (place / "file").write_text("a")) == errno.EPERM
    assert errno_of(lambda: (place / "link").symlink_to(SVENS)) == errno.EPERM
    assert errno_of(lambda: sven.rename(place / "other")) == errno.EPERM
    assert errno_of(sven.rmdir) == errno.EPERM
    assert errno_of((place / "u002").unlink) == errno.EPERM
    assert errno_of((sven / "articles").rmdir) == errno.EPERM
    os.utime(sven, (1, 1))
    assert sven.stat().st_mtime == 1


def test_who_may_not_be_looked_into(institution: Sandbox, mount: Mount) -> None:
    """Figshare's refusal is EPERM, with its reason in the log; the others go on."""
    assert names(accounts(mount) / OTHERS / "articles") == set()
    institution.set_faults([{"role": "api", "path": "/v2/account$", "action": "status", "status": 403,
                             "body": {"message": "not yours"}}])  # fmt: skip
    mount.claim("WARNING figfs.fuse: (lookup|opendir) .*not yours")
    assert errno_of(lambda: os.listdir(accounts(mount) / SVENS)) == errno.EPERM
    assert "not yours" in mount.log()
    (accounts(mount) / OTHERS / "articles" / "Still works").mkdir()
    only(institution, OTHER, "Still works")


def test_numbers_stay(mount: Mount) -> None:
    """Inode numbers are the same after a remount, and no two nodes have one."""

    def numbers() -> dict[str, int]:
        found = {}
        for place in (mount.path, accounts(mount) / SVENS, accounts(mount) / OTHERS):
            for where, directories, files in os.walk(place):
                if where == str(mount.path):
                    directories[:] = ["articles", "projects", "collections"]
                for name in ("", *directories, *files):
                    path = os.path.join(where, name)
                    found[path] = os.lstat(path).st_ino
        return found

    before = numbers()
    paths = {path.rstrip("/") for path in before}
    assert len({before.get(path, before.get(path + "/")) for path in paths}) == len(paths) > 60
    shown(mount.remount())
    assert numbers() == before


# ---- reading and writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [["cp", "-r"], ["rsync", "-a"]])
def test_copies_arrive_there(
    program: list[str], institution: Sandbox, mount: Mount, tmp_path: Path, needs: Callable[..., None]
) -> None:
    """Of a directory with folders: in the colleague's article and nowhere else; read back, and after a
    remount.
    """
    needs(program[0])
    files = {"a.bin": content("a", 400_000), "b/c.txt": b"text\n", "b/d/e.bin": content("e", 90_000)}
    source = write_tree(tmp_path / "For a colleague", files)
    run(*program, source, accounts(mount) / SVENS / "articles")
    only(institution, SVEN, "For a colleague")
    assert files_of(institution, SVEN, "For a colleague") == stored(files)
    run("diff", "-r", source, accounts(mount) / "u002" / "articles" / "For a colleague")
    shown(mount.remount())
    shutil.rmtree(mount.base / "cache")
    run("diff", "-r", source, accounts(mount) / SVENS / "articles" / "For a colleague")
    if program[0] == "rsync":
        institution.clear_requests()
        run(*program, source, accounts(mount) / SVENS / "articles")
        assert institution.requests("api", "POST") == []


def test_all_kinds_of_changes(institution: Sandbox, mount: Mount, tmp_path: Path) -> None:
    """Overwriting, appending, renaming, moving within the account, removing; a collection, a document."""
    sven = accounts(mount) / SVENS
    article = sven / "articles" / "Changes"
    article.mkdir()
    (article / "a").write_bytes(b"one")
    (article / "a").write_bytes(b"two")
    with (article / "a").open("ab") as file:
        file.write(b" three")
    (article / "gone").write_bytes(b"gone")
    (article / "gone").unlink()
    (sven / "projects" / "A project").mkdir()
    inside = sven / "projects" / "A project" / "Inside"
    inside.mkdir()
    (article / "b").write_bytes(b"moved")
    (article / "b").rename(inside / "c")
    (sven / "collections" / "Chosen").mkdir()
    (sven / "collections" / "Chosen" / "x").symlink_to("../../articles/Changes")
    wanted = stored({"a": b"two three"})
    wait_until(lambda: files_of(institution, SVEN, "Changes") == wanted, what="changed")
    only(institution, SVEN, "Changes")
    assert (inside / "c").read_bytes() == b"moved"
    with (article / ".figshare" / "metadata.json").open("r+") as document:
        text = document.read().replace('"Changes"', '"Changed"')
        document.seek(0)
        document.truncate()
        document.write(text)
    only(institution, SVEN, "Changed")
    (found,) = institution.ask("GET", f"/v2/account/collections?impersonate={SVEN}")
    assert found["title"] == "Chosen"
    run("rm", "-r", sven / "projects" / "A project")
    assert institution.ask("GET", f"/v2/account/projects?impersonate={SVEN}") == []


def test_read_only(institution: Sandbox, make_mount: MakeMount) -> None:
    """Accounts are looked into, and nothing is changed or sent."""
    mount = shown(make_mount("-o", "ro", sandbox=institution))
    article = accounts(mount) / SVENS / "articles" / "Airborne radar of the same glacier"
    assert (article / "radar.h5").stat().st_size == len((article / "radar.h5").read_bytes()) == 700_000
    assert errno_of(lambda: (article / "new").write_text("a")) == errno.EROFS
    assert status(mount)["read_only"]


def test_collections_lead_to_the_mount(institution: Sandbox, mount: Mount) -> None:
    """Other people's articles in a colleague's collection are found in the mount's ``public/``."""
    sven = accounts(mount) / SVENS
    (sven / "collections" / "Chosen").mkdir()
    public = next(a["id"] for a in institution.account()["articles"] if a["status"] == "public")
    (sven / "collections" / "Chosen" / "x").symlink_to(f"../../public/articles/{public}")
    (member,) = (sven / "collections" / "Chosen").iterdir()
    assert "README.txt" in names(member)


@pytest.mark.parametrize("back", [False, True])
def test_mv_between_accounts(back: bool, institution: Sandbox, mount: Mount) -> None:
    """EXDEV, so that ``mv`` copies and removes: what was in one account is in the other, and only there."""
    data = content("mv", 50_000)
    source, target = accounts(mount) / SVENS, mount.path if back else accounts(mount) / OTHERS
    article = source / "articles" / "To be moved"
    article.mkdir()
    (article / "data.bin").write_bytes(data)
    to = target / "articles"
    assert errno_of(lambda: article.rename(to / "To be moved")) == errno.EXDEV
    run("mv", article, to)
    number = ADMIN if back else OTHER
    only(institution, number, "To be moved")
    assert files_of(institution, number, "To be moved") == stored({"data.bin": data})
    assert not article.exists()
    assert (to / "To be moved" / "data.bin").read_bytes() == data
    file = to / "To be moved" / "data.bin"
    (source / "articles" / "Another").mkdir()
    assert errno_of(lambda: file.rename(source / "articles" / "Another" / "data.bin")) == errno.EXDEV
    assert errno_of(lambda: os.link(file, source / "articles" / "Another" / "x")) == errno.EPERM


# ---- promise 1 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked", [False, True])
def test_a_crash_while_uploading(looked: bool, institution: Sandbox, mount: Mount) -> None:
    """kill -9 in the middle of parts of one account's file and another's: the next mount sends both, once,
    each to its own account; whether or not somebody looks there.
    """
    mount.options = [*mount.options, "-o", "close-timeout=0"]
    shown(mount.remount())
    data = {SVEN: content("sven", 12_000_000), OTHER: content("other", 11_000_000)}
    institution.set_faults([{"role": "upload", "method": "PUT", "action": "hang", "skip": 1}])
    for who, number in ((SVENS, SVEN), (OTHERS, OTHER)):
        (accounts(mount) / who / "articles" / "Crashed").mkdir()
        (accounts(mount) / who / "articles" / "Crashed" / "data.bin").write_bytes(data[number])
    wait_until(lambda: institution.fault_hits()[0] >= 2, what="parts on their way")
    mount.kill()
    run("fusermount3", "-uz", mount.path)
    institution.set_faults([])
    institution.clear_requests()
    mount.claim("taken up again")
    shown(mount.start())
    if looked:
        for who in (SVENS, OTHERS):
            assert (accounts(mount) / who / "articles" / "Crashed" / "data.bin").stat().st_size > 10_000_000
    for number in (SVEN, OTHER):
        wanted = stored({"data.bin": data[number]})
        wait_until(lambda n=number, w=wanted: files_of(institution, n, "Crashed") == w, 30, "stored")  # type: ignore[misc]
    assert "Crashed" not in articles_of(institution, ADMIN)
    mount.unmount()
    for number in (SVEN, OTHER):
        assert files_of(institution, number, "Crashed") == stored({"data.bin": data[number]})


def test_unmounting_waits_for_accounts(institution: Sandbox, mount: Mount) -> None:
    """What is owed to a colleague is sent before the daemon ends."""
    mount.options = [*mount.options, "-o", "close-timeout=0"]
    shown(mount.remount())
    institution.set_faults([{"role": "upload", "method": "PUT", "action": "latency", "seconds": 1}])
    data = content("late", 300_000)
    (accounts(mount) / SVENS / "articles" / "Late").mkdir()
    (accounts(mount) / SVENS / "articles" / "Late" / "data.bin").write_bytes(data)
    mount.unmount()
    assert files_of(institution, SVEN, "Late") == stored({"data.bin": data})


def test_no_administrator_any_more(institution: Sandbox, mount: Mount) -> None:
    """What is owed stays, and the log says how much; it is sent when the account is one again."""
    mount.options = [*mount.options, "-o", "close-timeout=0,unmount-timeout=0"]
    shown(mount.remount())
    institution.set_faults([{"role": "upload", "method": "PUT", "action": "hang"}])
    data = content("kept", 300_000)
    (accounts(mount) / SVENS / "articles" / "Kept").mkdir()
    (accounts(mount) / SVENS / "articles" / "Kept" / "data.bin").write_bytes(data)
    mount.claim("not on Figshare yet", "owed to account 1000002 .* stays here", "taken up again")
    mount.unmount()
    institution.set_faults([])
    institution.change_settings(institution_admin=False)
    mount.start()
    wait_until(lambda: "administers no institution any more" in mount.log(), what="said")
    assert "institution" not in names(mount.path)
    place = f"institution/accounts/{SVENS}"
    (entry,) = status(mount)["uploads"]
    assert (entry["path"], entry["state"]) == (f"{place}/articles/Kept/data.bin", "parked")
    assert "administers no institution any more" in figfs(mount, "wait", code=1)
    assert status(mount, accounts(mount) / SVENS)["owed"] == 1
    mount.unmount()
    institution.change_settings(institution_admin=True)
    shown(mount.start())
    wait_until(lambda: files_of(institution, SVEN, "Kept") == stored({"data.bin": data}), what="stored")


def test_many_accounts_are_bounded(institution: Sandbox, mount: Mount) -> None:
    """``ls -R`` through more accounts than may be open at once: the daemon lets go of what nobody uses."""
    institution.ask("POST", "/_sandbox/members", {"count": 70})
    assert mount.process is not None
    descriptors = Path(f"/proc/{mount.process.pid}/fd")
    before = len(os.listdir(descriptors))
    listed = run("ls", "-R", accounts(mount)).stdout
    assert listed.count("/articles:\n") == 99
    each = 14
    wait_until(lambda: len(os.listdir(descriptors)) < before + 66 * each, what="let go")
    held = os.open(accounts(mount) / SVENS / "articles", os.O_RDONLY)
    try:
        run("ls", "-R", accounts(mount))
        assert "Airborne radar of the same glacier" in os.listdir(held)
    finally:
        os.close(held)
    assert md5((accounts(mount) / SVENS / ".figshare" / "account.json").read_bytes())


# ---- commands --------------------------------------------------------------------------------------------


def figfs(mount: Mount, *words: str | Path, code: int = 0) -> str:
    """A command about this mount; what it printed, stderr after stdout, as one line."""
    done = run(*FIGFS, *words, "--state-dir", mount.state, code=code, env=mount.environment())
    return " ".join((done.stdout + done.stderr).split())


def status(mount: Mount, *words: str | Path) -> dict[str, Any]:
    done = run(*FIGFS, "status", "--json", "--state-dir", mount.state, *words, env=mount.environment())
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def owing(institution: Sandbox, mount: Mount, title: str) -> bytes:
    """``mount``, with a file of that title that Figshare does not take yet; its content."""
    mount.options = [*mount.options, "-o", "close-timeout=0,unmount-timeout=0"]
    shown(mount.remount())
    institution.set_faults([{"role": "upload", "method": "PUT", "action": "hang"}])
    data = content(title, 300_000)
    (accounts(mount) / SVENS / "articles" / title).mkdir()
    (accounts(mount) / SVENS / "articles" / title / "data.bin").write_bytes(data)
    return data


def test_status_and_wait(institution: Sandbox, mount: Mount) -> None:
    """The mount's own tell of its accounts, too; those of a path in an account of that one alone."""
    data = owing(institution, mount, "Slow")
    place = f"institution/accounts/{SVENS}"
    report = status(mount)
    (entry,) = report["uploads"]
    assert (report["owed"], entry["path"], entry["row"]) == (1, f"{place}/articles/Slow/data.bin", None)
    assert status(mount, mount / "institution")["owed"] == 1
    assert status(mount, mount.articles)["owed"] == 0
    assert status(mount, accounts(mount) / OTHERS)["owed"] == 0
    for name in (SVENS, "u002", str(SVEN)):
        report = status(mount, accounts(mount) / name)
        (entry,) = report["uploads"]
        assert (entry["path"], type(entry["row"])) == ("articles/Slow/data.bin", int)
        assert (report["account"], report["mountpoint"]) == (SVENS, str(mount / place))
    assert "1 change owed" in figfs(mount, "wait", "--timeout", "0.5", code=1)
    assert "1 change owed" in figfs(mount, "wait", "--timeout", "0.5", accounts(mount) / "u002", code=1)
    figfs(mount, "wait", mount.articles)
    institution.set_faults([])
    figfs(mount, "wait")
    assert files_of(institution, SVEN, "Slow") == stored({"data.bin": data})
    assert status(mount)["owed"] == 0


def test_without_a_mount(institution: Sandbox, mount: Mount, tmp_path: Path) -> None:
    """What lies on disk is told, and copied out, by its place in the mount."""
    data = owing(institution, mount, "Left")
    mount.kill()
    run("fusermount3", "-uz", mount.path)
    report = status(mount)
    (entry,) = report["uploads"]
    assert entry["path"] == f"institution/accounts/{SVENS}/articles/Left/data.bin"
    (entry,) = status(mount, accounts(mount) / SVENS)["uploads"]
    assert entry["path"] == "articles/Left/data.bin"
    figfs(mount, "recover", tmp_path / "out")
    assert (tmp_path / "out" / "institution/accounts" / SVENS / "articles/Left/data.bin").read_bytes() == data


def test_what_is_parked(institution: Sandbox, mount: Mount, tmp_path: Path) -> None:
    """It is named by its path: the numbers of rows are each account's own."""
    data = content("parked", 200_000)
    (tmp_path / "data.bin").write_bytes(data)
    article = accounts(mount) / SVENS / "articles" / "Parked"
    article.mkdir()
    refusal = {"message": "quota exceeded"}
    institution.set_faults([{"role": "api", "method": "POST", "path": "/files$", "action": "status",
                             "status": 422, "body": refusal}])  # fmt: skip
    mount.claim("quota")
    assert "Disk quota exceeded" in run("cp", tmp_path / "data.bin", article, code=1).stderr
    institution.set_faults([])
    assert status(mount)["parked"] == 1
    assert "name its path" in figfs(mount, "retry", "--all", code=1)
    assert "quota exceeded" in figfs(mount, "wait", code=1)
    mount.claim("parked: data.bin")
    shown(mount.remount())  # it is opened, so that it is not forgotten
    wait_until(lambda: status(mount)["parked"] == 1, what="known again")
    assert "is tried again" in figfs(mount, "retry", accounts(mount) / "u002" / "articles" / "Parked")
    figfs(mount, "wait", article)
    assert files_of(institution, SVEN, "Parked") == stored({"data.bin": data})
    assert status(mount)["parked"] == 0


def test_commands_about_an_item(institution: Sandbox, mount: Mount) -> None:
    """In an account that nobody has looked into yet, found by whatever name; another one is a clear error."""
    title = "Airborne radar of the same glacier"
    said = figfs(mount, "info", accounts(mount) / "u002" / "articles" / title)
    assert title in said
    assert "@" in figfs(mount, "cite", accounts(mount) / SVENS / "articles" / title, "--format", "bibtex")
    assert "nobody: No such file" in figfs(mount, "info", accounts(mount) / "nobody" / "articles", code=1)
    new = institution.ask("POST", "/v2/account/articles", {"title": "From elsewhere", "impersonate": SVEN})
    assert new["location"]
    assert "From elsewhere" not in names(accounts(mount) / SVENS / "articles")
    figfs(mount, "refresh", accounts(mount) / SVENS / "articles")
    assert "From elsewhere" in names(accounts(mount) / SVENS / "articles")
    own = figfs(mount, "info", accounts(mount) / "ada@example.org" / "articles" / "Results of run 12")
    assert "Results of run 12" in own
