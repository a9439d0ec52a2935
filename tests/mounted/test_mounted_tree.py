"""Names, listings, attributes and reading through a mount of the example account (semantics.md)."""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    Article,
    MakeMount,
    Mount,
    Sandbox,
    content,
    download,
    errno_of,
    md5,
    names,
    run,
    stored,
    wait_until,
)

LONG = "A very long title, as institutional repositories produce them"
#: What the example account shows, by directory.
ARTICLES = {
    "Données brutes — température à 2 m (été)",
    "Frog calls of the Atlantic forest",
    "H2O & CO2 fluxes in situ",
    "Results of run 12",
    "Sea ice extent (held elsewhere)",
    "Supplementary material",
    "Supplementary material [20000007]",
}
GLACIER = "Glacier mass balance 2019–2023"
SEA = "Soundscapes of the Wadden Sea"


# -- listing ------------------------------------------------------------


def test_names_of_the_example_account(mount: Mount) -> None:
    """Every item bears its title, made a legal and unique name; the older of two has it plain."""
    shown = names(mount.articles)
    assert shown >= ARTICLES
    long = [name for name in shown if name.startswith(LONG)]
    assert len(long) == 1
    assert 250 < len(long[0].encode()) <= 255
    assert names(mount / "projects") == {GLACIER, SEA}
    assert names(mount / "projects" / SEA) == {
        "Hydrophone recordings, station 3∕4",
        "Seal vocalisations, annotated",
    }
    assert names(mount / "projects" / GLACIER) == {
        "Mass balance of Storglaciären, 2019–2023",
        "氷河の写真 ∕ Photographs of the ablation area",
    }


def test_articles_of_projects_are_not_among_the_others(mount: Mount) -> None:
    """articles/ has those that are in no project, though the API lists all together."""
    assert not names(mount.articles) & {"Seal vocalisations, annotated", "Mass balance of Storglaciären"}


def test_files_of_one_name(mount: Mount) -> None:
    """Two files of one name in an article: the older has it plain, the other bears its id."""
    shown = sorted(names(mount.articles / "Results of run 12"))
    assert len(shown) == 3
    assert shown[-2:] == ["results.csv", "tiny.txt"]
    assert shown[0].startswith("results [4")
    assert shown[0].endswith("].csv")


def test_an_id_is_a_name(mount: Mount) -> None:
    """``<id>`` alone always resolves, to the same directory."""
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    number = mount.sandbox.article(frogs.name)["id"]
    assert (mount.articles / str(number)).stat().st_ino == frogs.stat().st_ino


def test_more_files_than_details_show(mount: Mount) -> None:
    """Article details show ten files; a directory shows all."""
    photos = mount / "projects" / GLACIER / "氷河の写真 ∕ Photographs of the ablation area"
    assert len(names(photos)) == 12


def test_collection_of_links(mount: Mount) -> None:
    """A collection has a symlink for each article, that leads to its place in this tree."""
    collection = mount / "collections" / "Ice and climate: selected data"
    links = list(collection.iterdir())
    assert len(links) == 3
    assert all(link.is_symlink() for link in links)
    balance = collection / "Mass balance of Storglaciären, 2019–2023"
    assert "README.md" in names(balance)
    assert balance.stat().st_ino == (mount / "projects" / GLACIER / balance.name).stat().st_ino
    frogs = collection / "Frog calls of the Atlantic forest"
    assert frogs.stat().st_ino == (mount.articles / frogs.name).stat().st_ino


def test_linked_file(mount: Mount) -> None:
    """A file that Figshare only links to is a symlink to its URL."""
    link = mount.articles / "Sea ice extent (held elsewhere)" / "extent.nc"
    assert os.readlink(link) == "https://data.example.org/ice/extent.nc"


def test_ls_of_ten_thousand(make_mount: MakeMount) -> None:
    """10,000 articles: all of them, at most 12 requests, under 3 s; ``ls -l`` then asks nothing."""
    mount = make_mount()
    mount.sandbox.seed(count=10_000)
    mount.sandbox.clear_requests()
    began = time.monotonic()
    listed = run("ls", "-U", mount.articles).stdout.splitlines()
    took = time.monotonic() - began
    assert len(listed) == len(set(listed)) == 10_000
    requests = len(mount.sandbox.requests("api"))
    print(f"\nls of 10,000 articles: {took:.2f} s, {requests} requests")
    assert requests <= 12
    assert took < 3
    mount.sandbox.clear_requests()
    began = time.monotonic()
    assert len(run("ls", "-l", mount.articles).stdout.splitlines()) == 10_001
    print(f"ls -l of them: {time.monotonic() - began:.2f} s")
    assert mount.sandbox.requests() == []


def test_listing_past_the_paging_limit(make_mount: MakeMount) -> None:
    """Every article, once, though pages end at a depth that is less than the account holds."""
    mount = make_mount()
    mount.sandbox.change_settings(max_depth=2000)
    mount.sandbox.seed(count=3500)
    listed = os.listdir(mount.articles)
    assert len(listed) == len(set(listed)) == 3500


def test_listing_of_a_server_that_ignores_paging(make_mount: MakeMount) -> None:
    """A server that sends everything whatever page is asked for: every article, once."""
    mount = make_mount()
    mount.sandbox.change_settings(ignore_paging=True)
    mount.sandbox.seed(count=1500)
    listed = os.listdir(mount.articles)
    assert len(listed) == len(set(listed)) == 1500


def test_an_article_of_many_files(make_mount: MakeMount) -> None:
    """An article of 1,143 files lists in full; ``ls -l``, ``find -type f`` ask nothing more."""
    mount = make_mount()
    mount.sandbox.seed(count=1, title="Many", file_count=1143, file_size=10)
    (title,) = names(mount.articles)
    listed = os.listdir(mount.articles / title)
    assert len(listed) == len(set(listed)) == 1143
    mount.sandbox.clear_requests()
    run("ls", "-l", mount.articles / title)
    found = run("find", mount.articles / title, "-type", "f", "-size", "-11c").stdout.splitlines()
    assert len(found) == 1143
    assert mount.sandbox.requests() == []


def test_missing_names_cost_nothing(mount: Mount) -> None:
    """``lookup`` of a name that is not there: ENOENT from memory, no request."""
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    directories = (mount.path, mount.articles, frogs, mount / "projects", mount / "collections")
    for directory in directories:
        names(directory)
    mount.sandbox.clear_requests()
    for n in range(50):
        for directory in directories:
            assert not os.path.lexists(directory / f".hidden-{n}")
    assert mount.sandbox.requests() == []


def test_attributes_cost_nothing(mount: Mount) -> None:
    """``stat`` and ``find`` in a listed article: no request; sizes exact, modes of design §7."""
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    sizes = {file["name"]: file["size"] for file in mount.sandbox.article(frogs.name)["files"]}
    names(frogs)
    mount.sandbox.clear_requests()
    run("find", frogs, "-ls")
    for name, size in sizes.items():
        status = (frogs / name).stat()
        assert status.st_size == size
        assert status.st_blocks == -(-size // 512)
        assert stat.S_IMODE(status.st_mode) == 0o644
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert stat.S_IMODE(frogs.stat().st_mode) == 0o755
    assert mount.sandbox.requests() == []


def test_time_of_an_article(mount: Mount) -> None:
    """Times are the article's ``modified_date`` until a program sets others."""
    seals = mount / "projects" / SEA / "Seal vocalisations, annotated"
    assert time.gmtime(seals.stat().st_mtime)[:3] == (2024, 2, 14)
    assert time.gmtime((seals / "labels.csv").stat().st_mtime)[:3] == (2024, 2, 14)


def test_readdir_while_files_come_and_go(article: Article) -> None:
    """A listing that is under way has no name twice, and none missing that was there throughout."""
    stay = {f"stay-{n:03d}" for n in range(400)}
    for name in stay | {f"go-{n:03d}" for n in range(100)}:
        (article / name).touch()
    seen: list[str] = []
    with os.scandir(article.path) as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n < 100:
                (article / f"go-{n:03d}").unlink()
                (article / f"come-{n:03d}").touch()
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)
    assert names(article.path) == stay | {f"come-{n:03d}" for n in range(100)}


def test_changed_elsewhere(make_mount: MakeMount) -> None:
    """What is made and deleted on the web page is seen within ``dir_timeout``."""
    mount = make_mount("--dir-timeout", "1")
    (old,) = mount.sandbox.seed(count=1, title="Old")
    assert len(names(mount.articles)) == 1
    mount.sandbox.ask("POST", "/v2/account/articles", {"title": "Made elsewhere"})
    mount.sandbox.ask("DELETE", f"/v2/account/articles/{old}")
    wait_until(lambda: names(mount.articles) == {"Made elsewhere"}, 10)


def test_df(mount: Mount) -> None:
    """``statfs``: the account's quota and use, in bytes, from memory."""
    account = mount.sandbox.ask("GET", "/v2/account")
    mount.sandbox.clear_requests()
    space = os.statvfs(mount.articles)
    assert space.f_bsize == space.f_frsize
    assert space.f_blocks * space.f_frsize == pytest.approx(account["quota"], abs=space.f_frsize)
    assert 0 < space.f_bfree < space.f_blocks
    assert space.f_namemax == 255
    run("df", "-h", mount.path)
    assert mount.sandbox.requests() == []


# -- reading ------------------------------------------------------------


def sample(mount: Mount) -> tuple[Path, bytes]:
    """A file of several blocks, and its bytes as the sandbox sends them."""
    path = mount / "projects" / SEA / "Hydrophone recordings, station 3∕4" / "raw" / "july"
    path /= "2023-07-02T00:00.wav"
    article = mount.sandbox.article("Hydrophone recordings, station 3/4")
    (number,) = [file["id"] for file in article["files"] if file["name"] == path.name]
    return path, download(mount.sandbox, number)


def test_every_file_of_the_example_account(
    make_sandbox: Callable[..., Sandbox], make_mount: MakeMount
) -> None:
    """The bytes that Figshare holds, of every file: sizes and MD5 equal."""
    mount = make_mount(sandbox=make_sandbox(seed="example"))
    expected = sorted(
        (file["size"], file["md5"])
        for article in mount.sandbox.account()["articles"]
        for file in article["files"]
        if file["size"]  # a link has none
    )
    found = []
    for top in (mount.articles, mount / "projects"):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                assert len(data) == path.stat().st_size
                found.append((len(data), md5(data)))
    assert sorted(found) == expected
    assert len(found) > 30


def test_random_reads(mount: Mount) -> None:
    """Any offset, any size; past the end: short."""
    path, data = sample(mount)
    dice = random.Random(7)
    with path.open("rb", buffering=0) as stream:
        for _ in range(60):
            offset, size = dice.randrange(len(data)), dice.choice([1, 100, 4096, 70_000, 1_500_000])
            assert os.pread(stream.fileno(), size, offset) == data[offset : offset + size]
        assert os.pread(stream.fileno(), 100, len(data) - 10) == data[-10:]
        assert os.pread(stream.fileno(), 100, len(data)) == b""
        assert os.pread(stream.fileno(), 100, len(data) + 10**6) == b""


def test_tail(make_sandbox: Callable[..., Sandbox], make_mount: MakeMount) -> None:
    """The tail of a large file does not fetch the file."""
    mount = make_mount(sandbox=make_sandbox(seed="example"))
    path = mount / "projects" / SEA / "Hydrophone recordings, station 3∕4" / "raw" / "july"
    assert len(run("tail", "-c", "1000", path / "2023-07-01T00:00.wav").stdout) > 0
    fetched = sum(entry["bytes"] for entry in mount.sandbox.requests("storage"))
    assert fetched <= 10_000_000
    print(f"\ntail -c 1000 fetched {fetched} bytes")


def test_mmap(mount: Mount) -> None:
    """Shared and private mappings for reading."""
    path, data = sample(mount)
    with path.open("rb") as stream:
        for access in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(stream.fileno(), 0, flags=access, prot=mmap.PROT_READ) as mapped:
                assert mapped[:100] == data[:100]
                assert mapped[6_000_000:6_000_100] == data[6_000_000:6_000_100]
                assert mapped[-100:] == data[-100:]


def test_many_readers(mount: Mount) -> None:
    """Several programs that read one file at once get the same bytes."""
    path, data = sample(mount)
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert {md5(each) for each in pool.map(Path.read_bytes, [path] * 8)} == {md5(data)}


def test_reading_costs_no_api_requests(mount: Mount) -> None:
    """Reading is downloads only; a second read comes from this machine."""
    path, data = sample(mount)
    path.read_bytes()
    mount.sandbox.clear_requests()
    assert path.read_bytes() == data
    assert mount.sandbox.requests("api") == []


def test_read_while_writing(mount: Mount) -> None:
    """Reading while writing: other readers see the new content after close."""
    path = mount.articles / "Read while writing"
    path.mkdir()
    (path / "f").write_bytes(b"old")
    with (path / "f").open("r+b", buffering=0) as stream:
        stream.write(b"new")
        assert os.pread(stream.fileno(), 10, 0) == b"new"
    assert (path / "f").read_bytes() == b"new"


# -- containers ------------------------------------------------------------


def test_article_life(mount: Mount) -> None:
    """mkdir, rename, rmdir of an article: a draft, its title, gone; the same ``st_ino`` all the time."""
    path = mount.articles / "An article to be"
    path.mkdir()
    assert mount.sandbox.article(path.name)["status"] == "draft"
    number = path.stat().st_ino
    renamed = path.rename(mount.articles / "An article that was")
    assert renamed.stat().st_ino == number
    assert mount.sandbox.article(renamed.name)
    assert not mount.sandbox.articles(path.name)
    assert not path.exists()
    renamed.rmdir()
    assert not renamed.exists()
    assert not mount.sandbox.articles(renamed.name)


def test_project_life(mount: Mount) -> None:
    """mkdir, rename, rmdir of a project and of an article in it."""

    def titles() -> set[str]:
        return {project["title"] for project in mount.sandbox.account()["projects"]}

    path = mount / "projects" / "A project to be"
    path.mkdir()
    assert path.name in titles()
    (path / "Its article").mkdir()
    article = mount.sandbox.article("Its article")
    assert article["project_id"] is not None
    (path / "Its article" / "f").write_bytes(b"content")
    assert mount.sandbox.remote_files("Its article") == stored({"f": b"content"})
    number = path.stat().st_ino
    assert errno_of(path.rmdir) == errno.ENOTEMPTY
    path = path.rename(path.with_name("A project that was"))
    assert path.name in titles()
    assert path.stat().st_ino == number
    assert (path / "Its article" / "f").read_bytes() == b"content"
    (path / "Its article").rename(path / "Its other article")
    assert mount.sandbox.article("Its other article")["id"] == article["id"]
    run("rm", "-r", path / "Its other article")
    assert not mount.sandbox.articles("Its other article")
    path.rmdir()
    assert path.name not in titles()


def test_collection_life(mount: Mount) -> None:
    """mkdir, rename, rmdir of a collection."""

    def titles() -> set[str]:
        return {collection["title"] for collection in mount.sandbox.account()["collections"]}

    path = mount / "collections" / "A collection to be"
    path.mkdir()
    assert path.name in titles()
    path = path.rename(path.with_name("A collection that was"))
    assert path.name in titles()
    path.rmdir()
    assert path.name not in titles()
    assert not path.exists()


def test_folders(article: Article) -> None:
    """mkdir, rename, rmdir of folders: local while they are empty; ENOTEMPTY while they are not."""
    deep = article / "a" / "b" / "c"
    deep.mkdir(parents=True)
    assert article.sandbox.requests() == []
    (deep / "f").write_bytes(b"content")
    article.holds({"a/b/c/f": b"content"})
    assert errno_of((article / "a").rmdir) == errno.ENOTEMPTY
    assert errno_of(article.path.rmdir) == errno.ENOTEMPTY
    (deep / "f").unlink()
    assert deep.is_dir()  # stays when it becomes empty
    deep.rmdir()
    (article / "a" / "b").rmdir()
    assert names(article / "a") == set()
    article.will_hold({})


@pytest.mark.parametrize("where", ["articles", "projects", "collections"])
def test_title_too_short(mount: Mount, where: str) -> None:
    """A title of fewer than 3 characters is EINVAL, the reason in the log; so is a rename to it."""
    mount.claim("no title of fewer than 3 characters")
    before = names(mount / where)
    assert errno_of(lambda: (mount / where / "ab").mkdir()) == errno.EINVAL
    good = mount / where / "A title long enough"
    good.mkdir()
    assert errno_of(lambda: good.rename(mount / where / "ab")) == errno.EINVAL
    assert names(mount / where) == before | {good.name}
    good.rmdir()


def test_article_into_another_project(mount: Mount) -> None:
    """Rename of an article into a project: EPERM, the log says why; it stays where it was."""
    mount.claim("cannot become a part of")
    path = mount.articles / "Article that wants to move"
    path.mkdir()
    assert errno_of(lambda: path.rename(mount / "projects" / SEA / path.name)) == errno.EPERM
    assert path.is_dir()


def test_published_article_stays(make_sandbox: Callable[..., Sandbox], make_mount: MakeMount) -> None:
    """``rm -r`` of a published article fails (EPERM): it and its public versions stay."""
    mount = make_mount(sandbox=make_sandbox(seed="example"))
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    number = mount.sandbox.article(frogs.name)["id"]
    before = mount.sandbox.ask("GET", f"/v2/articles/{number}")["files"]
    mount.claim("cannot be deleted", "not deleted")
    run("rm", "-rf", frogs, code=1)
    assert frogs.is_dir()
    assert mount.sandbox.article(frogs.name)["id"] == number
    assert mount.sandbox.ask("GET", f"/v2/articles/{number}")["files"] == before
    assert errno_of(frogs.rmdir) in (errno.EPERM, errno.ENOTEMPTY)


@pytest.mark.parametrize("name", [".Trash", ".Trash-0", ".Trash-1000"])
def test_no_wastebasket(mount: Mount, name: str) -> None:
    """``mkdir .Trash-*``: EPERM, wherever."""
    article = mount.articles / "Results of run 12"
    for directory in (mount.path, mount.articles, article):
        assert errno_of((directory / name).mkdir) == errno.EPERM


def test_files_belong_into_articles(mount: Mount) -> None:
    """A file anywhere but in an article: EPERM, for cp as well."""
    for directory in (
        mount.path,
        mount.articles,
        mount / "projects",
        mount / "projects" / SEA,
        mount / "collections",
    ):
        assert errno_of((directory / "f").touch) == errno.EPERM
        assert (
            run("cp", "/etc/hostname", directory / "f", code=1).stderr.count("Operation not permitted") == 1
        )


def test_parts_of_every_mount(mount: Mount) -> None:
    """articles/, projects/, collections/ can be neither removed nor renamed; nothing stands beside them."""
    mount.claim("cannot become a part of")
    for name in ("articles", "projects", "collections"):
        assert errno_of((mount / name).rmdir) in (errno.EPERM, errno.ENOTEMPTY)
        assert errno_of(lambda name=name: (mount / name).rename(mount / "other")) == errno.EPERM  # type: ignore[misc]
    assert errno_of((mount / "other").mkdir) == errno.EPERM


# -- names of files ------------------------------------------------------------


def test_rename_noreplace(article: Article) -> None:
    """RENAME_NOREPLACE is honoured; RENAME_EXCHANGE is EINVAL."""
    article.put({"a": b"first", "b": b"second"})
    script = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "a, b, flags = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), int(sys.argv[3])\n"
        "print(libc.renameat2(-100, a, -100, b, flags), ctypes.get_errno())\n"
    )

    def rename(new: str, flags: int) -> str:
        return run("python3", "-c", script, article / "a", article / new, str(flags)).stdout.strip()

    assert rename("b", 1) == f"-1 {errno.EEXIST}"
    assert rename("b", 2) == f"-1 {errno.EINVAL}"
    article.shows({"a": b"first", "b": b"second"})
    assert rename("c", 1) == "0 0"
    article.shows({"c": b"first", "b": b"second"})


def test_no_hard_links_no_devices(article: Article) -> None:
    """``link``, ``mknod``: EPERM."""
    article.put({"a": b"first"})
    assert errno_of(lambda: os.link(article / "a", article / "b")) == errno.EPERM
    assert errno_of(lambda: os.mkfifo(article / "p")) == errno.EPERM
    article.shows({"a": b"first"})


def test_names_that_cannot_be(article: Article) -> None:
    """Longer than 255 bytes: ENAMETOOLONG. Not UTF-8: EINVAL. Of files, folders, articles, renames."""
    base = os.fsencode(article.path)
    articles = os.fsencode(article.mount.articles)
    article.put({"a": b"first"})
    for name, number in (
        (b"x" * 256, errno.ENAMETOOLONG),
        (("é" * 128).encode(), errno.ENAMETOOLONG),
        (b"caf\xe9", errno.EINVAL),
    ):
        assert errno_of(lambda name=name: os.close(os.open(base + b"/" + name, os.O_CREAT))) == number  # type: ignore[misc]
        assert errno_of(lambda name=name: os.mkdir(base + b"/" + name)) == number  # type: ignore[misc]
        assert errno_of(lambda name=name: os.mkdir(articles + b"/" + name)) == number  # type: ignore[misc]
        assert errno_of(lambda name=name: os.rename(base + b"/a", base + b"/" + name)) == number  # type: ignore[misc]
    article.shows({"a": b"first"})


ODD = [
    "with ∕ of its own",
    "quote ' and \" and ` and $HOME",
    "-rf",
    "--help",
    " spaces ",
    "back\\slash",
    "*?[glob]",
    "emoji 🧊🐸",
    unicodedata.normalize("NFD", "été décomposé"),
    unicodedata.normalize("NFC", "été composé"),
    "x" * 255,
    "é" * 127 + "e",
    "trailing.",
    "a: b; c & d | e > f",
    "percent %41 %2F",
    "<b>bold<b> &amp; co.txt",
    "12345",
    "name [40000001].txt",
]


def test_odd_names(make_mount: MakeMount) -> None:
    """Odd names of files are the same at once, on Figshare, and after a remount."""
    mount = make_mount("--grace", "0.5")
    path = mount.articles / "Odd names"
    path.mkdir()
    files = {name: content(name, 10 + n) for n, name in enumerate(ODD)}
    for name, data in files.items():
        (path / name).write_bytes(data)
    assert {name: (path / name).read_bytes() for name in names(path)} == files
    mount.remount()
    assert {name: (path / name).read_bytes() for name in names(path)} == files
    assert len(mount.sandbox.remote_files("Odd names")) == len(files)
    for name in ODD:
        (path / name).unlink()
    wait_until(lambda: mount.sandbox.remote_files("Odd names") == [])


def test_odd_titles(make_mount: MakeMount) -> None:
    """Odd titles of articles are the same at once and after a remount, and can be renamed and removed."""
    mount = make_mount()
    titles = [name for name in ODD if len(name) > 2 and name not in ("12345", "name [40000001].txt")]
    for title in titles:
        (mount.articles / title).mkdir()
    assert names(mount.articles) == set(titles)
    inodes = {title: (mount.articles / title).stat().st_ino for title in titles}
    mount.remount()
    assert {title: (mount.articles / title).stat().st_ino for title in names(mount.articles)} == inodes
    for title in titles:
        (mount.articles / title).rmdir()
    assert mount.sandbox.account()["articles"] == []


def test_newline_in_a_name(article: Article) -> None:
    """A control character cannot be kept: the file is found under the name that is listed."""
    (article / "two\nlines").write_bytes(b"content")
    (name,) = names(article.path)
    assert (article / name).read_bytes() == b"content"
    assert [(size, status) for _, size, _, status in article.remote()] == [(7, "available")]


# -- unlink ------------------------------------------------------------


def test_unlink(article: Article) -> None:
    """``unlink`` of a stored file: gone at once, on Figshare after the grace; it does not come back."""
    article.put({"f": b"content", "g": b"other"})
    began = time.monotonic()
    (article / "f").unlink()
    assert time.monotonic() - began < 0.5
    article.shows({"g": b"other"})
    article.holds({"f": b"content", "g": b"other"})
    article.will_hold({"g": b"other"})
    article.shows({"g": b"other"})


def test_unlink_and_create(article: Article) -> None:
    """An unlink followed by a create is one replacement: never a moment without a good copy on Figshare."""
    article.put({"f": b"old content"})
    (article / "f").unlink()
    (article / "f").write_bytes(b"new content")
    article.will_hold({"f": b"new content"})
    assert article.uploads() == 1
    requests = article.sandbox.requests("api")
    deleted = [n for n, entry in enumerate(requests) if entry["method"] == "DELETE"]
    announced = [n for n, entry in enumerate(requests) if entry["path"].endswith("/files")]
    assert len(deleted) == 1
    assert deleted[0] > announced[0]


def test_unlink_of_an_open_file(article: Article) -> None:
    """The handle of an unlinked file reads on, also after Figshare's copy would be due to go."""
    data = content("open", 5_000_000)
    article.put({"f": data})
    with (article / "f").open("rb", buffering=0) as stream:
        assert stream.read(1000) == data[:1000]
        (article / "f").unlink()
        time.sleep(1.5)  # the grace of the shared mount is over
        assert os.pread(stream.fileno(), 2_000_000, 3_000_000) == data[3_000_000:]
        assert errno_of((article / "f").stat) == errno.ENOENT
    article.will_hold({})


def test_replaced_while_read(article: Article) -> None:
    """A reader keeps the version it opened, though the file is overwritten by rename."""
    old, new = content("version 1", 5_000_000), content("version 2", 5_000_000)
    article.put({"f": old})
    with (article / "f").open("rb", buffering=0) as stream:
        assert stream.read(1000) == old[:1000]
        (article / "g").write_bytes(new)
        (article / "g").replace(article / "f")
        assert os.pread(stream.fileno(), 1_000_000, 4_000_000) == old[4_000_000:]
        assert (article / "f").read_bytes() == new
    article.will_hold({"f": new})


def test_empty_file(make_mount: MakeMount) -> None:
    """An empty file is kept here: no request; it survives a remount."""
    mount = make_mount()
    path = mount.articles / "Empty files"
    path.mkdir()
    mount.sandbox.clear_requests()
    (path / "empty").touch()
    assert (path / "empty").read_bytes() == b""
    assert mount.sandbox.requests() == []
    mount.remount()
    assert names(path) == {"empty"}
    assert mount.sandbox.remote_files("Empty files") == []


# -- what is kept here ------------------------------------------------------------


def test_attributes_after_a_remount(make_mount: MakeMount, tmp_path: Path) -> None:
    """Times and modes set by ``cp -a`` and ``rsync``, and inode numbers, are the same after a remount."""
    mount = make_mount()
    source = tmp_path / "source"
    for n, name in enumerate(("a/b/one", "a/two", "three")):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        path.chmod((0o600, 0o751, 0o444)[n])
    for path in [*sorted(source.rglob("*"), reverse=True), source]:
        os.utime(path, ns=(10**18, 10**18 + len(path.name)))
    run("cp", "-a", source, mount.articles / "By cp")
    run("rsync", "-a", f"{source}/", mount.articles / "By rsync")

    def seen() -> dict[str, tuple[int, int, int]]:
        found = {}
        for path in mount.articles.rglob("*"):
            status = path.stat()
            found[str(path.relative_to(mount.path))] = (status.st_ino, status.st_mode, status.st_mtime_ns)
        return found

    before = seen()
    assert before["articles/By cp/a/two"][1] == stat.S_IFREG | 0o751
    assert before["articles/By cp/a/two"][2] == 10**18 + 3
    mount.remount()
    assert seen() == before
    mount.sandbox.clear_requests()
    assert run("rsync", "-ai", f"{source}/", mount.articles / "By rsync").stdout == ""
    assert mount.sandbox.requests("api", "POST", "/files$") == []


def test_chmod_and_chown(article: Article) -> None:
    """chmod is always accepted and kept; chown to the mount's owner is, to somebody else EPERM."""
    article.put({"f": b"content"})
    (article / "f").chmod(0o400)
    article.path.chmod(0o700)
    os.chown(article / "f", os.getuid(), os.getgid())
    assert errno_of(lambda: os.chown(article / "f", 12345, -1)) == errno.EPERM
    assert stat.S_IMODE((article / "f").stat().st_mode) == 0o400
    assert stat.S_IMODE(article.path.stat().st_mode) == 0o700
    assert article.sandbox.requests() == []


def test_clean_handle(article: Article) -> None:
    """A handle that changed nothing is closed and fsynced: no request."""
    article.put({"f": b"content"})
    number = os.open(article / "f", os.O_RDWR)
    os.fsync(number)
    os.close(number)
    with (article / "f").open("ab"):
        pass
    assert article.sandbox.requests() == []


def test_publish_elsewhere_write_here(mount: Mount) -> None:
    """A write to a published article is allowed: it becomes a draft of the next version."""
    frogs = mount.articles / "Frog calls of the Atlantic forest"
    number = mount.sandbox.article(frogs.name)["id"]
    (frogs / "new.txt").write_bytes(b"new")
    assert mount.sandbox.article(frogs.name)["status"] == "draft"
    public = mount.sandbox.ask("GET", f"/v2/articles/{number}")
    assert "new.txt" not in {file["name"] for file in public["files"]}
    (frogs / "new.txt").unlink()
    wait_until(lambda: "new.txt" not in {file["name"] for file in mount.sandbox.article(frogs.name)["files"]})
