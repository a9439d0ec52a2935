"""Writing by the shell and by filters: dd, redirections, tee, split, sort, sed, touch (programs.md §2)."""

from __future__ import annotations

from pathlib import Path

from processes import (
    Article,
    run,
    shell,
)
from samples import NEW, OLD, Needs


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


# -- dd ------------------------------------------------------------


def test_dd_over(article: Article, file: Path) -> None:
    """``dd of=`` of a stored file: emptied first, one upload."""
    article.put({"f": OLD})
    run("dd", f"if={file}", f"of={article / 'f'}", "bs=7000")
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_dd_append(article: Article, file: Path) -> None:
    """``dd oflag=append conv=notrunc``: behind what is there."""
    article.put({"f": OLD})
    run("dd", f"if={file}", f"of={article / 'f'}", "oflag=append", "conv=notrunc")
    article.will_hold({"f": OLD + NEW})
    assert article.uploads() == 1


def test_dd_sync_and_blocks(article: Article, file: Path) -> None:
    """``dd oflag=sync conv=sparse,fdatasync``: every write synchronous, holes, one upload."""
    data = NEW[:8192] + bytes(16384) + NEW[8192:12288]
    file.write_bytes(data)
    run("dd", f"if={file}", f"of={article / 'f'}", "bs=4096", "oflag=sync", "conv=sparse,fdatasync")
    article.holds({"f": data})
    assert article.uploads() == 1


def test_dd_of_a_piece(article: Article, tmp_path: Path) -> None:
    """``dd skip= count=`` out of a stored file."""
    article.put({"f": NEW})
    run("dd", f"if={article / 'f'}", f"of={tmp_path / 'g'}", "bs=1000", "skip=7", "count=3")
    assert (tmp_path / "g").read_bytes() == NEW[7000:10_000]


# -- shells ------------------------------------------------------------


def test_redirection_over(article: Article, file: Path) -> None:
    """``cat f > stored``: the old one stays on Figshare until the new one is there; one upload."""
    article.put({"f": OLD})
    shell('cat "$1" > f', file, cwd=article.path)
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_redirection_of_nothing(article: Article) -> None:
    """``: > f`` empties a stored file here; Figshare keeps it until there is content; then one upload."""
    article.put({"f": OLD})
    shell(": > f", cwd=article.path)
    assert (article / "f").read_bytes() == b""
    article.holds({"f": OLD})
    shell("echo again > f", cwd=article.path)
    article.will_hold({"f": b"again\n"})
    assert article.uploads() == 1


def test_appending_line_by_line(article: Article) -> None:
    """A loop of ``>>``, each an open and a close of its own: the last content, and no two of one name."""
    shell("for n in 1 2 3 4 5; do echo $n >> log; done", cwd=article.path)
    article.will_hold({"log": b"1\n2\n3\n4\n5\n"})
    assert article.uploads() <= 5


def test_redirection_of_a_loop(article: Article) -> None:
    """``for …; done > f`` with children: one upload."""
    shell("for n in 1 2 3; do echo $n; /bin/echo $n; done > f", cwd=article.path)
    article.holds({"f": b"1\n1\n2\n2\n3\n3\n"})
    assert article.uploads() == 1


def test_append_of_a_group(article: Article) -> None:
    """``( a; b ) >> f`` of a stored file, with a subshell and children: one upload."""
    article.put({"f": OLD})
    shell("( echo a; /bin/echo b; echo c ) >> f", cwd=article.path)
    article.will_hold({"f": OLD + b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_two_streams_into_one_file(article: Article) -> None:
    """``command > f 2>&1`` (dup): one upload."""
    shell("{ /bin/echo out; /bin/echo err >&2; } > f 2>&1", cwd=article.path)
    article.holds({"f": b"out\nerr\n"})
    assert article.uploads() == 1


def test_read_and_write_descriptor(article: Article) -> None:
    """``exec 3<> f``: reads and writes in place."""
    article.put({"f": b"one\ntwo\nthree\n"})
    shell("exec 3<> f; read -r line <&3; printf TWO >&3; exec 3>&-", cwd=article.path)
    article.will_hold({"f": b"one\nTWO\nthree\n"})
    assert article.uploads() == 1


def test_child_that_outlives_the_shell(article: Article) -> None:
    """A child in the background writes on after the shell has ended: the whole arrives."""
    shell("{ /bin/echo first; sleep .3; /bin/echo last; } > f 2>/dev/null < /dev/null &", cwd=article.path)
    article.will_hold({"f": b"first\nlast\n"})


def test_here_document_in_dash(article: Article) -> None:
    """``sh`` (dash) with a here document."""
    run("sh", "-c", "cat > f << 'END'\nsome text\nEND\n", cwd=article.path)
    article.holds({"f": b"some text\n"})
    assert article.uploads() == 1


def test_program_of_the_mount(article: Article) -> None:
    """A script that was written to the mount runs from there."""
    shell("printf '#!/bin/sh\\necho ran > \"$1\"\\n' > s.sh && chmod +x s.sh && ./s.sh f", cwd=article.path)
    article.shows({"s.sh": b'#!/bin/sh\necho ran > "$1"\n', "f": b"ran\n"})
    assert article.uploads() == 2


# -- filters ------------------------------------------------------------


def test_tee_append(article: Article) -> None:
    """``tee -a`` to a stored and to a new file: one upload each."""
    article.put({"f": OLD})
    run("tee", "-a", "f", "g", cwd=article.path, stdin=NEW)
    article.will_hold({"f": OLD + NEW, "g": NEW})
    assert article.uploads() == 2


def test_split_by_number(article: Article, file: Path) -> None:
    """``split -n``, and ``cat`` of the pieces."""
    run("split", "-n", "3", "-d", file, "p", cwd=article.path)
    shell("cat p* > whole", cwd=article.path)
    size = len(NEW) // 3
    pieces = {"p00": NEW[:size], "p01": NEW[size : 2 * size], "p02": NEW[2 * size :]}
    article.holds(pieces | {"whole": NEW})
    assert article.uploads() == 4


def test_csplit(article: Article) -> None:
    """``csplit`` at lines."""
    run("csplit", "-s", "-", "3", "5", cwd=article.path, stdin=b"1\n2\n3\n4\n5\n6\n")
    article.holds({"xx00": b"1\n2\n", "xx01": b"3\n4\n", "xx02": b"5\n6\n"})
    assert article.uploads() == 3


def test_sort_with_temporary_files(article: Article) -> None:
    """``sort -T . -S`` with too little memory: its temporary files are gone, and were not uploaded."""
    lines = sorted(str(n * 7919 % 100_003) for n in range(20_000))
    article.put({"f": "".join(f"{line}\n" for line in reversed(lines)).encode()})
    expected = "".join(f"{line}\n" for line in lines).encode()
    run("sort", "-S", "50k", "-T", ".", "-o", "f", "f", cwd=article.path)
    article.will_hold({"f": expected})
    assert article.uploads() < 10  # of 30: of sort's random names, three in a hundred could be typed ones


def test_output_files_of_filters(article: Article, file: Path) -> None:
    """``shuf -o``, ``uniq in out``, ``awk > ``, ``iconv -o``, ``base64 >``: one upload each."""
    shell(
        'printf "b\\nb\\na\\n" | uniq - u; seq 3 | shuf -n 0 -o empty; seq 5 | shuf -n 5 -o s;'
        ' awk \'{ print > "w" }\' u; iconv -f ascii -t utf-16le u > i; base64 -w 0 "$1" > b',
        file,
        cwd=article.path,
    )
    names = [name for name, _, _, _ in article.remote()]
    assert names == ["b", "i", "s", "u", "w"]
    assert article.uploads() == 5
    assert (article / "w").read_bytes() == b"b\na\n"
    assert (article / "i").read_bytes() == "b\na\n".encode("utf-16le")
    assert sorted((article / "s").read_text().split()) == ["1", "2", "3", "4", "5"]
    assert (article / "empty").read_bytes() == b""


def test_sed_with_a_backup(article: Article) -> None:
    """``sed -i.bak`` (the old one renamed to NAME.bak, the new one to NAME): both are there."""
    article.put({"f": b"one two\n"})
    run("sed", "-i.bak", "s/two/three/", "f", cwd=article.path)
    article.shows({"f": b"one three\n", "f.bak": b"one two\n"})
    article.will_hold({"f": b"one three\n", "f.bak": b"one two\n"})


def test_perl_in_place(article: Article, needs: Needs) -> None:
    """``perl -i -pe`` (XXXXXXXX, the old file open while the new one takes its name)."""
    needs("perl")
    article.put({"f": b"one two\n" * 5000})
    run("perl", "-i", "-pe", "s/two/three/", "f", cwd=article.path)
    article.shows({"f": b"one three\n" * 5000})
    article.will_hold({"f": b"one three\n" * 5000})
    assert 1 <= article.uploads() <= 2  # of perl's random names, three in a hundred could be typed ones


def test_patch(article: Article, needs: Needs) -> None:
    """``patch`` of a stored file."""
    needs("patch")
    article.put({"f": b"one\ntwo\n"})
    run("patch", "f", cwd=article.path, stdin=b"--- f\n+++ f\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n")
    article.shows({"f": b"one\nthree\n"})
    article.will_hold({"f": b"one\nthree\n"})


def test_mktemp(article: Article) -> None:
    """``mktemp -p .``, written, then renamed: never uploaded under the temporary name."""
    shell(
        't=$(mktemp -p . tmp.1aB2cD3eF4-XXXX) && t2=$(mktemp -p .) && rm "$t2" && mv "$t" f', cwd=article.path
    )
    shell("echo data > f", cwd=article.path)
    article.will_hold({"f": b"data\n"})
    assert 1 <= article.uploads() <= 2  # mktemp's random name could be a typed one


def test_nothing_is_taken_for_space(article: Article) -> None:
    """``fallocate`` is not supported and says so; ``truncate -s`` of a new file makes zeros."""
    run("fallocate", "-l", "1000", article / "a", code=1)
    run("truncate", "-s", "5000", article / "b")
    (article / "a").unlink(missing_ok=True)
    article.will_hold({"b": bytes(5000)})
    assert article.uploads() == 1


def test_readers_that_follow(article: Article, tmp_path: Path) -> None:
    """``tail -f`` of a file that is being written sees each line; it is uploaded once, at its end."""
    script = (
        "exec 3> log; echo one >&3\n"
        'timeout 20 tail -n +1 -s .05 -f --pid=$$ log > "$1" & tail=$!\n'
        'until grep -q one "$1"; do sleep .02; done\n'
        "echo two >&3\n"
        'until grep -q two "$1"; do sleep .02; done\n'
        "exec 3>&-; kill $tail\n"
    )
    (tmp_path / "seen").touch()
    shell(script, tmp_path / "seen", cwd=article.path)
    assert (tmp_path / "seen").read_bytes() == b"one\ntwo\n"
    article.holds({"log": b"one\ntwo\n"})
    assert article.uploads() == 1


def test_special_files(article: Article) -> None:
    """``ln`` and ``mkfifo`` are refused with a message."""
    article.put({"f": OLD})
    for command in (["ln", "f", "g"], ["mkfifo", "p"]):
        assert "not permitted" in run(*command, cwd=article.path, code=1).stderr
    article.shows({"f": OLD})
