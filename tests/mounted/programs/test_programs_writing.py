"""Writing by the shell and by filters: dd, redirections, tee, split, sort, sed, touch (programs.md §2)."""

from __future__ import annotations

from pathlib import Path

from processes import Article, run, shell
from samples import NEW, OLD


def test_dd_fsync(article: Article, file: Path) -> None:
    """``dd conv=fsync``: FSYNC does not upload; one upload at close."""
    run("dd", f"if={file}", f"of={article / 'f'}", "bs=4k", "conv=fsync")
    article.holds({"f": NEW})
    assert article.uploads() == 1


def test_dd_seek_notrunc(article: Article) -> None:
    """``dd seek= conv=notrunc`` into a stored file: what was not written stays."""
    article.put({"f": OLD})
    run("dd", f"of={article / 'f'}", "bs=1", "seek=1000", "conv=notrunc", stdin=b"in the middle")
    changed = OLD[:1000] + b"in the middle" + OLD[1013:]
    article.will_hold({"f": changed})
    assert article.uploads() == 1
    article.shows({"f": changed})


def test_dd_seek_past_the_end(article: Article) -> None:
    """``dd seek=`` past the end of a new file: zeros in between."""
    run("dd", f"of={article / 'f'}", "bs=1", "seek=5000", stdin=b"tail")
    article.holds({"f": bytes(5000) + b"tail"})
    assert article.uploads() == 1


def test_redirection(article: Article) -> None:
    """``> f``, twice: the first FLUSH of the shell, before a byte is written, uploads nothing."""
    shell("echo one > f", cwd=article.path)
    article.holds({"f": b"one\n"})
    assert article.uploads() == 1
    shell("/bin/echo two > f", cwd=article.path)
    article.will_hold({"f": b"two\n"})
    assert article.uploads() == 2


def test_append(article: Article) -> None:
    """``>> f`` of a stored file."""
    article.put({"f": OLD})
    shell("echo more >> f", cwd=article.path)
    article.will_hold({"f": OLD + b"more\n"})
    assert article.uploads() == 1
    article.shows({"f": OLD + b"more\n"})


def test_group_redirection(article: Article) -> None:
    """``{ a; b; } > f``: many FLUSHes, one upload of the whole."""
    shell("{ echo a; /bin/echo b; sleep .1; /bin/echo c; } > f", cwd=article.path)
    article.holds({"f": b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_descriptor_of_the_shell(article: Article) -> None:
    """``exec 3> f``: complete when the shell closes it."""
    shell("exec 3> f; echo a >&3; /bin/echo b >&3; exec 3>&-", cwd=article.path)
    article.holds({"f": b"a\nb\n"})
    assert article.uploads() == 1


def test_pipe_into_cat(article: Article, file: Path) -> None:
    """``cat f | cat > g``."""
    shell('cat "$1" | cat > g', file, cwd=article.path)
    article.holds({"g": NEW})
    assert article.uploads() == 1


def test_tee(article: Article) -> None:
    """``tee f g``: two files, two uploads."""
    run("tee", "f", "g", cwd=article.path, stdin=NEW)
    article.holds({"f": NEW, "g": NEW})
    assert article.uploads() == 2


def test_split(article: Article, file: Path) -> None:
    """``split``: ftruncate to 0, write, close, for each piece."""
    run("split", "-b", "20000", file, "piece-", cwd=article.path)
    pieces = {f"piece-a{c}": NEW[n * 20_000 : (n + 1) * 20_000] for n, c in enumerate("abc")}
    article.holds(pieces)
    assert article.uploads() == 3


def test_sort_in_place(article: Article) -> None:
    """``sort -o f f``: open for writing, read, truncate, write."""
    article.put({"f": b"c\nb\na\n"})
    run("sort", "-o", "f", "f", cwd=article.path)
    article.will_hold({"f": b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_sed_in_place(article: Article) -> None:
    """``sed -i`` (sedXXXXXX, renamed over): one upload, under the final name."""
    article.put({"f": b"one two\n"})
    run("sed", "-i", "s/two/three/", "f", cwd=article.path)
    article.shows({"f": b"one three\n"})
    article.will_hold({"f": b"one three\n"})
    # Of sed's random names, three in a hundred could be typed ones; test_write_and_rename has a certain one.
    assert 1 <= article.uploads() <= 2


def test_touch(article: Article) -> None:
    """An empty file stays here; uploaded when it gets content; its time is kept."""
    run("touch", "-d", "2001-02-03 04:05:06 UTC", "f", cwd=article.path)
    assert (article / "f").stat().st_mtime == 981173106
    article.holds({})
    shell("echo now >> f", cwd=article.path)
    article.holds({"f": b"now\n"})
    assert article.uploads() == 1


def test_touch_of_a_stored_file(article: Article) -> None:
    """``utimensat`` on a stored file: kept, no request."""
    article.put({"f": OLD})
    run("touch", "-d", "2001-02-03 04:05:06 UTC", "f", cwd=article.path)
    assert (article / "f").stat().st_mtime == 981173106
    assert article.sandbox.requests() == []


def test_truncate(article: Article) -> None:
    """``truncate`` down, then up."""
    article.put({"f": OLD})
    run("truncate", "-s", "1000", "f", cwd=article.path)
    article.will_hold({"f": OLD[:1000]})
    run("truncate", "-s", "3000", "f", cwd=article.path)
    article.will_hold({"f": OLD[:1000] + bytes(2000)})
    assert article.uploads() == 2
    article.shows({"f": OLD[:1000] + bytes(2000)})
