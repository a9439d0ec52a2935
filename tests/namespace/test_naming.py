"""Names are total, unique, stable, invertible, at most 255 bytes. Examples: real titles (quirks L1-L4)."""

from __future__ import annotations

import errno
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from figfs.namespace.naming import (
    DEEPEST_FOLDER,
    SLASH,
    UNTITLED,
    assign_names,
    check_name,
    id_from_name,
    join_folder_path,
    may_be_called,
    name_from_filename,
    name_from_id,
    name_from_title,
    split_folder_path,
    title_from_name,
)

# Any str at all (lone surrogates too), with the characters that matter made likely.
any_text = st.text(
    st.characters() | st.sampled_from("/<>&;.#ap \n\t\0\x85\u2028\ud800\u0301\u200d👩é∕"), max_size=400
)
markup = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            "&",
            "amp;",
            "lt;",
            "&lt;",
            "<i>",
            "</i>",
            "<p>",
            "<br/>",
            "/",
            SLASH,
            " ",
            "#38;",
            "b",
            'a="',
            ".",
        ]
    ),
    max_size=12,
).map("".join)
titles = any_text | markup
legal_names = any_text.map(name_from_filename) | markup.map(name_from_filename)
legal_directory_names = titles.map(name_from_title) | legal_names
ids = st.integers(1, 2**40) | st.text(max_size=100)
# Few different ids and names, so that they meet.
bases = st.sampled_from(
    ["a", "a [2]", "a [2.2]", "a.csv", "a [2].csv", "é" * 127, "x" * 255, UNTITLED, "[", " "]
)
items = st.lists(
    st.tuples(st.integers(1, 9) | st.sampled_from(["2", "b/c"]), bases | legal_names), max_size=12
)


def assert_legal(name: str) -> None:
    assert check_name(name.encode()) == name
    assert name == name_from_filename(name)
    assert all(character >= " " and character != "\x7f" for character in name)


class TestTitles:
    @given(titles)
    def test_every_title_has_a_legal_name(self, title: str) -> None:
        """Total: any str becomes a legal name, without white space at its ends unless that is an entity."""
        name = name_from_title(title)
        assert_legal(name)
        assert name == name.strip() or "&#" in title

    @given(legal_directory_names)
    @example("<i>x<∕i>")
    @example("a∕b")
    @example("<∕b>")
    @example("&amp;")
    @example(" spaces ")
    @example("  ")
    @example("&#32;")
    @example(" &#32;x")
    @example("R&D &copy; &foo;")
    @example("a < b > c")
    def test_a_title_made_from_a_name_shows_as_that_name(self, name: str) -> None:
        """Invertible: what mkdir or rename is given is what the listing shows afterwards."""
        if name not in ("", ".", ".."):
            assert name_from_title(title_from_name(name)) == name

    @given(titles)
    def test_the_shown_name_sent_back_changes_nothing(self, title: str) -> None:
        """Idempotent: a title read from the name it shows as, shows as the same name."""
        name = name_from_title(title)
        assert name_from_title(title_from_name(name)) == name

    @pytest.mark.parametrize(
        ("title", "name"),
        [
            ("Raw data for Figure 3", "Raw data for Figure 3"),
            ("Temperature/salinity profiles", "Temperature∕salinity profiles"),
            ("<p>Effects of CO<sub>2</sub> on <i>E. coli</i></p>", "Effects of CO2 on E. coli"),
            ("<p>First</p><p>Second</p>", "First Second"),
            ("<p>First</p>\n  <p>Second</p>", "First Second"),
            ("one<br />two", "one two"),
            ('<span style="font-size: 12pt">12 pt</span>', "12 pt"),
            ("<mml:math><mml:mi>x</mml:mi></mml:math>", "x"),
            ("Smith &amp; Jones", "Smith & Jones"),
            ("p &lt; 0.05", "p < 0.05"),
            ("&lt;b&gt;not bold&lt;/b&gt;", "<b>not bold<∕b>"),
            ("&amp;amp;", "&amp;"),
            ("M&uuml;nchen &#8211; S&#xE3;o", "München – São"),
            ("AT&T, R&D and A&copy", "AT&T, R&D and A&copy"),
            ("for a < b and c > d", "for a < b and c > d"),
            ("if a <b and c> d", "if a <b and c> d"),
            ("Expression of <gene>", "Expression of <gene>"),
            ("Line one\r\nline two\ttab", "Line one line two tab"),
            ("  two  spaces  ", "two  spaces"),
            ("no\u00a0break\u00a0", "no\u00a0break"),
            ("bell\x07 and nul\0", "bell and nul"),
            ("nul by entity&#0;&#7;", "nul by entity\ufffd"),
            (".hidden", ".hidden"),
            ("Zürich 東京 🧪", "Zürich 東京 🧪"),
            ("lone \ud83d surrogate", "lone  surrogate"),
            ("", UNTITLED),
            ("   ", UNTITLED),
            (".", UNTITLED),
            ("..", UNTITLED),
            ("<p>..</p>", UNTITLED),
            ("<br>", UNTITLED),
            ("/", SLASH),
            ("../../etc/passwd", "..∕..∕etc∕passwd"),
        ],
    )
    def test_real_titles(self, title: str, name: str) -> None:
        """What a person would expect to see, for the oddities counted in quirks L4."""
        assert name_from_title(title) == name

    def test_a_name_is_escaped_only_where_it_would_be_read_as_html(self) -> None:
        """A title on the web page is what was typed, unless HTML would swallow some of it."""
        assert title_from_name("R&D: a < b, c∕d") == "R&D: a < b, c/d"
        assert title_from_name("<i>x") == "&lt;i&gt;x"
        assert title_from_name("&amp;") == "&amp;amp;"

    def test_long_titles_are_cut_at_a_character(self) -> None:
        """At most 255 bytes; no half character or emoji, no base without its accent, no space at the end."""
        assert name_from_title("é" * 200) == "é" * 127
        assert name_from_title("𝒳" * 100) == "𝒳" * 63
        assert name_from_title("x" * 254 + "e\u0301") == "x" * 254
        assert name_from_title("x" * 247 + "👩\u200d🔬") == "x" * 247
        assert name_from_title("x" * 253 + " " + "yz") == "x" * 253 + " y"
        assert name_from_title("x" * 254 + " " + "yz") == "x" * 254
        assert name_from_title("." + " " * 300 + "x") == UNTITLED

    def test_only_marks(self) -> None:
        """Where there is no place to cut without breaking a sequence, it is cut all the same."""
        assert name_from_title("e" + "\u0301" * 300) == "e" + "\u0301" * 127

    @pytest.mark.parametrize(
        "piece", ["<a b='", "<a b=c ", "<a", " ", "a", "&a", "&#1", '<a b="', "=", "<a  ", "e\u0301"]
    )
    def test_a_hostile_title_costs_little(self, piece: str) -> None:
        """Unfinished markup does not hold up the listing it is in: time is linear in its length."""
        for start in ("", "<a", "&", "<a b"):
            assert len(name_from_title(start + piece * 50_000).encode()) <= 255


class TestFileNames:
    @given(any_text)
    def test_every_name_has_a_legal_one_and_legal_ones_stay(self, name: str) -> None:
        """Total and idempotent."""
        legal = name_from_filename(name)
        assert_legal(legal)
        assert name_from_filename(legal) == legal

    @pytest.mark.parametrize(
        ("name", "legal"),
        [
            ("Data v1.2 (final).CSV", "Data v1.2 (final).CSV"),
            (" a . ", " a . "),
            ("a&amp;b <i>.txt", "a&amp;b <i>.txt"),
            ("12:30 log.txt", "12:30 log.txt"),
            ("sub/dir/file.txt", "sub∕dir∕file.txt"),
            ("back\\slash", "back\\slash"),
            ("cafe\u0301.pdf", "cafe\u0301.pdf"),
            (".appstaticimgfigshare.png", ".appstaticimgfigshare.png"),
            ("a\r\nb\x00\x7f.txt", "a b.txt"),
            ("...", "..."),
            ("", UNTITLED),
            ("..", UNTITLED),
            ("\0.\0", UNTITLED),
        ],
    )
    def test_real_names(self, name: str, legal: str) -> None:
        """File names are plain text: only what Linux cannot have changes (quirks L2, L3)."""
        assert name_from_filename(name) == legal


class TestAssign:
    @given(items, st.booleans(), st.sets(bases, max_size=4), st.randoms(use_true_random=False))
    def test_unique_legal_and_whatever_the_order(
        self, items: list[tuple[int | str, str]], extension: bool, taken: set[str], order: random.Random
    ) -> None:
        """Every id has one legal name that no other has and that is not taken; order does not matter."""
        names = assign_names(items, extension=extension, taken=taken)
        assert set(names) == {item_id for item_id, _ in items}
        assert len(set(names.values())) == len(names)
        assert not taken & set(names.values())
        for name in names.values():
            assert_legal(name)
        shuffled = list(items)
        order.shuffle(shuffled)
        assert assign_names(iter(shuffled), extension=extension, taken=taken) == names

    @given(st.lists(st.tuples(st.integers(1, 50), bases | legal_names), max_size=12), bases | legal_names)
    def test_a_younger_item_changes_no_name(self, items: list[tuple[int, str]], base: str) -> None:
        """Stable: an item with a higher id arrives, and all others keep their names."""
        before = assign_names(items, extension=True)
        after = assign_names([*items, (51, base)], extension=True)
        assert after.items() >= before.items()

    @given(st.lists(st.tuples(st.integers(1, 50), bases), max_size=12), st.sets(st.integers(1, 50)))
    def test_a_kept_name_stays(self, items: list[tuple[int, str]], gone: set[int]) -> None:
        """Whoever comes or goes."""
        each = dict(items).items()
        before = assign_names(each, extension=False)
        kept = {item_id: name for item_id, name in before.items() if item_id not in gone}
        for others in (each, [item for item in each if item[0] in kept]):
            after = assign_names(others, extension=False, kept=kept)
            assert after.items() >= kept.items()
            assert len(set(after.values())) == len(after)

    @pytest.mark.parametrize(
        ("name", "may_be"), [("a", True), ("a [7]", True), ("a [7.2]", True), ("a [8]", False), ("b", False)]
    )
    def test_whose_name_it_may_be(self, name: str, may_be: bool) -> None:
        assert may_be_called(name, (7, "a"), extension=False) == may_be

    @given(st.dictionaries(ids, legal_names, max_size=8))
    def test_a_name_of_its_own_stays_plain(self, items: dict[int | str, str]) -> None:
        """Of all with one name the lowest id has it plain, unless it was already somebody's composed name."""
        names = assign_names(items.items(), extension=False)
        for item_id, base in items.items():
            if list(items.values()).count(base) == 1 and not base.endswith("]"):
                assert names[item_id] == base

    @pytest.mark.parametrize(
        ("base", "name"),
        [
            ("a.csv", "a [7].csv"),
            ("a.tar.gz", "a [7].tar.gz"),
            ("scan.nii.gz", "scan [7].nii.gz"),
            ("ARCHIVE.TAR.GZ", "ARCHIVE [7].TAR.GZ"),
            ("x.gz", "x [7].gz"),
            ("v1.2.gz", "v1.2 [7].gz"),
            ("clip.mp4", "clip [7].mp4"),
            ("README", "README [7]"),
            (".bashrc", ".bashrc [7]"),
            ("..x", "..x [7]"),
            (".config.json", ".config [7].json"),
            ("version 1.2", "version 1.2 [7]"),
            ("Fig 1. Overview of the data", "Fig 1. Overview of the data [7]"),
            ("trailing.", "trailing. [7]"),
            ("данные.док", "данные [7].док"),
            ("x" * 251 + ".csv", "x" * 247 + " [7].csv"),
            ("𝒳" * 62 + ".tar.gz", "𝒳" * 61 + " [7].tar.gz"),
            ("x" * 255, "x" * 251 + " [7]"),
        ],
    )
    def test_the_id_stands_before_the_extension(self, base: str, name: str) -> None:
        """What a program tells by the extension works for the second of one name too (quirks L1)."""
        assert assign_names([(3, base), (7, base)], extension=True) == {3: base, 7: name}

    def test_a_directory_has_no_extension(self) -> None:
        """Titles end in anything: the id is at the end."""
        assert assign_names([(9, "J. Smith et al."), (5, "J. Smith et al.")], extension=False) == {
            5: "J. Smith et al.",
            9: "J. Smith et al. [9]",
        }

    def test_the_composed_name_is_somebodys_title(self) -> None:
        """Whoever is older keeps what it has; the younger gets another name."""
        assert assign_names([(1, "a"), (2, "a [3]"), (3, "a")], extension=False) == {
            1: "a",
            2: "a [3]",
            3: "a [3.2]",
        }
        assert assign_names([(1, "a"), (2, "a"), (3, "a [2]")], extension=False) == {
            1: "a",
            2: "a [2]",
            3: "a [2] [3]",
        }

    def test_reserved_names(self) -> None:
        """A file called as something the directory holds already is reached by its id."""
        assert assign_names([(4, ".figshare")], extension=True, taken={".figshare"}) == {4: ".figshare [4]"}

    def test_integers_before_strings(self) -> None:
        """Another server's ids may be strings (even odd ones): sorted after the integers, made legal, cut."""
        names = assign_names([("b/\n..", "x"), (9, "x"), ("z" * 300, "x")], extension=False)
        assert names == {9: "x", "b/\n..": "x [b∕ ..]", "z" * 300: f"x [{'z' * 64}]"}


@given(ids)
def test_a_name_that_is_an_id(item_id: int | str) -> None:
    """An integer id alone always resolves; a name that is no id never raises."""
    found = id_from_name(str(item_id))
    if isinstance(item_id, int):
        assert found == item_id
    else:
        assert found in (None, item_id, int(item_id) if item_id.isascii() and item_id.isdigit() else None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("123", 123),
        ("0123", None),
        ("0", None),
        ("-5", None),
        ("+5", None),
        ("1_000", None),
        ("١٢٣", None),
        ("12 ", None),
        ("", None),
        ("README", None),
        ("data 3", None),
        ("a3.csv", None),
        ("9" * 255, None),
        ("8f2b3c4d-1111-4222-8333-444455556666", "8f2b3c4d-1111-4222-8333-444455556666"),
    ],
)
def test_ids(name: str, expected: int | str | None) -> None:
    """Only the way Figshare writes an id counts, so that one item has one such name."""
    assert id_from_name(name) == expected


class TestFolders:
    @pytest.mark.parametrize(
        ("path", "parts"),
        [
            ("", ()),
            ("/", ()),
            ("a/b", ("a", "b")),
            ("/a//b/", ("a", "b")),
            ("./a/./b", ("a", "b")),
            ("../../etc", (UNTITLED, UNTITLED, "etc")),
            ("a\0/b\nc", ("a", "b c")),
            ("raw data/Fig. 1", ("raw data", "Fig. 1")),
        ],
    )
    def test_paths(self, path: str, parts: tuple[str, ...]) -> None:
        """With or without slashes at the ends; nothing leads out of the article."""
        assert split_folder_path(path) == parts

    @given(any_text)
    def test_parts_are_legal(self, path: str) -> None:
        """Total: any path becomes names that a directory can hold."""
        for part in split_folder_path(path):
            assert_legal(part)

    @given(st.lists(legal_names, max_size=4))
    def test_join_is_undone_by_split(self, parts: list[str]) -> None:
        """Folders made here come back from Figshare as they were made."""
        assert split_folder_path(join_folder_path(parts)) == tuple(parts)


class TestCheck:
    @given(st.binary(max_size=300))
    def test_a_name_or_an_errno(self, raw: bytes) -> None:
        """Any bytes are either a name, unchanged, or one of two errnos."""
        try:
            name = check_name(raw)
        except OSError as exc:
            number = exc.errno
        else:
            assert name.encode() == raw
            return
        assert number == (errno.ENAMETOOLONG if len(raw) > 255 else errno.EINVAL)

    @pytest.mark.parametrize("raw", [b"x" * 256, b"\xff" * 300, "é".encode() * 128])
    def test_too_long(self, raw: bytes) -> None:
        """Bytes count, not characters; too long is told before anything else."""
        with pytest.raises(OSError, match="255") as caught:
            check_name(raw)
        assert caught.value.errno == errno.ENAMETOOLONG

    @pytest.mark.parametrize(
        "raw", [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\xff", b"\xed\xa0\x80", b"caf\xe9"]
    )
    def test_not_a_name(self, raw: bytes) -> None:
        """Latin-1 and encoded surrogates are no UTF-8."""
        with pytest.raises(OSError, match="name") as caught:
            check_name(raw)
        assert caught.value.errno == errno.EINVAL

    @pytest.mark.parametrize("raw", [b"x" * 255, b"...", b".a", b" ", "cafe\u0301".encode(), b"a\nb"])
    def test_fine(self, raw: bytes) -> None:
        """What Linux takes is taken."""
        assert check_name(raw) == raw.decode()


@given(st.integers(1, 10**18) | st.text(max_size=80))
def test_an_id_is_one_step_of_a_path(item_id: int | str) -> None:
    """Whatever a server sends: a link made of it leads nowhere else."""
    name = name_from_id(item_id)
    assert "/" not in name
    assert name not in ("", ".", "..")
    if isinstance(item_id, int):
        assert name == str(item_id)


def test_an_id_that_leads_elsewhere() -> None:
    assert "/" not in name_from_id("x1/../../../../etc/passwd")
    assert name_from_id("9f-1c") == "9f-1c"


@pytest.mark.parametrize(
    "title", ["x" + "&#32;" * 100_000 + "x", "&#32;" * 100_000, "<a" * 100_000, "a &" * 100_000]
)
def test_a_title_of_any_length_is_named_at_once(title: str) -> None:
    """What it costs grows with its length, no faster, and only its beginning counts."""
    began = time.process_time()
    assert len(name_from_title(title).encode()) <= 255
    assert time.process_time() - began < 1


def test_folders_in_each_other_have_an_end() -> None:
    """Who walks a tree needs a frame for each level."""
    assert len(split_folder_path("d/" * 100_000)) == DEEPEST_FOLDER
