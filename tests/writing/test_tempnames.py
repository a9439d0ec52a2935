"""Every row of programs.md §4 with names that are meant and names that must stay ordinary."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.writing.tempnames import Kind, TempName, classify, classify_directory, classify_link


def predicted(final: str) -> TempName:
    return TempName(Kind.PREDICTED, final)


HOLD = TempName(Kind.HOLD)
LOCAL = TempName(Kind.LOCAL)
REFUSED = TempName(Kind.REFUSED)
ORDINARY = TempName(Kind.ORDINARY)

# program: (names that are meant, names near them that are somebody's data)
ROWS: dict[str, tuple[dict[str, TempName], list[str]]] = {
    "rsync": (
        {
            ".data.csv.Ab12Cd": predicted("data.csv"),
            ".README.xYzzyQ": predicted("README"),
            ".two words.tar.gz.9aB0cD": predicted("two words.tar.gz"),
            ".é.txt.AAAbbb": predicted("é.txt"),
            ".bashrc.Ab12Cd": predicted("bashrc"),  # or .bashrc: cannot be told
            ".data.csv.abcdef": HOLD,  # or a dotfile with an odd extension
            ".run.test01": HOLD,
            ".DS_Store.Ab12Cd": HOLD,  # .DS_Store itself is litter, "DS_Store" would be a file
            "._photo.jpg.Ab12Cd": HOLD,  # of ._photo.jpg (litter) or of _photo.jpg (a file)
            ".Thumbs.db.Ab12Cd": LOCAL,
            "." + "x" * 242 + ".Ab12Cd": predicted("x" * 242),
            "." + "x" * 243 + ".Ab12Cd": HOLD,  # rsync may have cut the name
        },
        [
            ".env.sample",
            ".my.sqlite",
            ".foo.BACKUP",
            ".x.Config",
            ".data.190501",
            ".a.csv",
            ".Ab12Cd",
            "..Ab12Cd",
        ],
    ),
    "KIO overwriting, Firefox": (
        {
            "data.csv.part": predicted("data.csv"),
            ".hidden.part": predicted(".hidden"),
            "Thumbs.db.part": LOCAL,
        },
        ["part", ".part", "x.part1.rar", "engine.prt", "a.partial", "..part"],
    ),
    "7z updating an archive": (
        {"data.7z.tmp": predicted("data.7z"), "Data.ZIP.tmp": predicted("Data.ZIP")},
        ["data.tmp", "data.csv.tmp", "7z.tmp", ".zip.tmp"],
    ),
    "GIO replacing a file": (
        {".goutputstream-A1B2C3": HOLD, ".goutputstream-ABCDEF": HOLD},
        ["goutputstream-A1B2C3", ".goutputstream-a1b2c3", ".goutputstream"],
    ),
    "GLib g_file_set_contents": (
        {"settings.ini.A1B2C3": predicted("settings.ini"), "notes.9XK2PQ": predicted("notes")},
        [
            "data.SQLITE",
            "ReadMe.190501",
            "run.000001",
            "scan.RUN001",
            "plate.384ABC",
            "notes.backup",
            "x.sqlite",
            "x.sqlite3",
            "mesh.A1B2C",
            "..A1B2C3",
        ],
    ),
    "Qt QSaveFile: cannot be told from an extension": ({}, ["data.NetCDF", "map.GeoTif", "a.conf.xQzRtB"]),
    "Qt QFile::copy": ({"qt_temp.AbCdEf": HOLD}, ["qt_temp", "qt_temp.h", "my_qt_temp.AbCdEf", "qt_temp.12"]),
    "Python tempfile": (
        {"tmp3k_x9a0b": HOLD, "tmpa1b2c3d4": HOLD},
        ["tmp_results", "tmpresults", "tmp_run_001", "tmp20190501", "tmp", "tmp3k_x9a0b.csv", "tmpA1b2c3d4"],
    ),
    "sed, sort, perl, zip, mktemp": (
        {"sedQw3rTy": HOLD, "sortQw3rTy": HOLD, "XXa1B2c3": HOLD, "zi4Gk9Lm": HOLD, "tmp.aB3dE5gH1j": HOLD},
        [
            "sediments",
            "sediment1",
            "sedQw3rTy.csv",
            "sorted2020",
            "sortierung",
            "XXsample",
            "zimbabwe",
            "zinc2020",
            "tmp.experiment",
            "tmp.csv",
        ],
    ),
    "vim": (
        {".notes.txt.swp": LOCAL, ".notes.txt.swo": LOCAL, ".notes.swx": LOCAL, "notes.txt~": HOLD},
        ["4913", "notes.swp", "movie.swf", ".swp", "~", ".notes.swz"],
    ),
    "emacs": (
        {".#notes.txt": LOCAL, "#notes.txt#": LOCAL, ".#-emacsa1B2c3": LOCAL, "notes.txt.~1~": HOLD},
        ["#1 results.csv", "sample #3", "a#b#", ".#", "##"],
    ),
    "nano": ({".README.swp": LOCAL}, ["README.swp"]),
    "LibreOffice": (
        {".~lock.table.ods#": LOCAL, "lu12345abcd.tmp": HOLD},
        ["lock.table.ods#", "lumen.tmp", "lu12345abcd", ".~lock.table.ods"],
    ),
    "git": (
        {
            "index.lock": HOLD,
            "HEAD.lock": HOLD,
            "config.lock": HOLD,
            "tmp_obj_a1B2c3": HOLD,
            "tmp_pack_Xy12Zz": HOLD,
        },
        [
            "poetry.lock",
            "Cargo.lock",
            "yarn.lock",
            "flake.lock",
            "lock",
            "canal.lock",
            "tmp_objects",
            "tmp_obj_ab",
        ],
    ),
    "SQLite": (
        {"db.sqlite-journal": LOCAL, "x.db-wal": LOCAL, "map.GPKG-shm": LOCAL, "a.sqlite3-journal": LOCAL},
        ["lab-journal", "lab-journal.md", "2020.05-journal", "seed-wal", "db.sqlite", ".db-wal"],
    ),
    "aria2": ({"a.iso.aria2": LOCAL, "a.iso.aria2__temp": LOCAL}, ["aria2", "aria2.conf", ".aria2"]),
    "wastebasket": ({".Trash": REFUSED, ".Trash-1000": REFUSED}, [".Trash-x", "Trash", ".Trash-1000.csv"]),
    "browsers": (
        {
            "Unconfirmed 12345.crdownload": HOLD,
            "a.zip.crdownload": HOLD,
            ".com.google.Chrome.Ab12Cd": HOLD,
            "a.zip.download": HOLD,
            "a.zip.opdownload": HOLD,
        },
        ["download", "a.downloads", "crdownload.txt"],
    ),
    "editors": (
        {
            "a.txt.vsctmp": HOLD,
            "a.py___jb_tmp___": HOLD,
            "a.py___jb_old___": HOLD,
            ".a.txt.kate-swp": LOCAL,
            "~$report.docx": LOCAL,
            "~WRD0001.tmp": HOLD,
            "~WRL1234.tmp": HOLD,
            "1A2B3C4D.tmp": HOLD,
        },
        ["1A2B3C4D", "20190501", "DEADBEEF", "results.tmp", "a.kate-swp", "$report.docx", "~report.docx"],
    ),
    "macOS": (
        {
            ".DS_Store": LOCAL,
            "._photo.jpg": LOCAL,
            ".Spotlight-V100": LOCAL,
            ".VolumeIcon.icns": LOCAL,
            "Icon\r": LOCAL,
            "a.txt.sb-1a2b3c4d-AbC123": HOLD,
        },
        ["DS_Store", "_photo.jpg", "Icon", "Icon.png", "._", ".sb-1a2b3c4d-AbC123", ".volumeicon.icns.txt"],
    ),
    "Windows": (
        {
            "Thumbs.db": LOCAL,
            "ehthumbs.db": LOCAL,
            "desktop.ini": LOCAL,
            "DESKTOP.INI": LOCAL,
            "autorun.inf": LOCAL,
        },
        ["my thumbs.db", "thumbs.db.csv", "desktop.ini.txt", "autorun.info"],
    ),
    "others": (
        {
            ".nfs000000000123abcd00000001": LOCAL,
            ".fuse_hidden0000abcd00000001": LOCAL,
            ".report.odt.~1a2b3c": HOLD,
            ".syncthing.data.csv.tmp": HOLD,
        },
        [".nfs", ".nfsmount.conf", "nfs000000000123abcd00000001", "report.~1a2b3c", "syncthing.data.csv.tmp"],
    ),
}


@pytest.mark.parametrize(
    ("name", "expected"), [(name, kind) for meant, _ in ROWS.values() for name, kind in meant.items()]
)
def test_meant(name: str, expected: TempName) -> None:
    """The names a program makes (programs.md §4)."""
    assert classify(name) == expected


@pytest.mark.parametrize("name", [name for _, others in ROWS.values() for name in others])
def test_in_doubt_ordinary(name: str) -> None:
    """Near a pattern, but somebody's data: uploaded like any file."""
    assert classify(name) == ORDINARY


@pytest.mark.parametrize(
    "name",
    [
        "data.csv",
        "README",
        "Fig. 1 (final).tiff",
        ".gitignore",
        ".htaccess",
        ".zenodo.json",
        "paper.Final2",
        "x.tar.gz",
        "genome.2bit",
        "reads_1.fastq.gz",
        "model.ckpt-10000",
        "IMG_0001.JPG",
        "sub-01_task-rest_bold.nii.gz",
        "scan.DCM",
        "a.b.c.d",
        "a",
        "ü",
        "…",
        "Dockerfile",
        "environment.yml",
        "package-lock.json",
        "temp.csv",
        "tmp",
        "x.tmp",
        "x.bak",
        "x.old",
        "untitled folder",
        "New Text Document.txt",
        "data.parquet",
        "weights.safetensors",
        "notes.backup",
    ],
)
def test_real_names(name: str) -> None:
    """Names from deposits and desktops."""
    assert classify(name) == ORDINARY


def test_most_of_what_mkstemp_makes_is_told() -> None:
    """Narrow patterns miss few: rsync's names are never ordinary; 1 % is held instead of predicted."""
    letters = random.Random(1)

    def name(prefix: str, alphabet: str, length: int = 6) -> TempName:
        return classify(prefix + "".join(letters.choices(alphabet, k=length)))

    anything = string.ascii_letters + string.digits
    rsync = [name(".data.csv.", anything) for _ in range(2000)]
    assert set(rsync) == {predicted("data.csv"), HOLD}
    assert rsync.count(HOLD) < 40
    sed = [name("sed", anything) for _ in range(2000)]
    assert sed.count(HOLD) > 1900
    python = [name("tmp", string.ascii_lowercase + string.digits + "_", 8) for _ in range(2000)]
    assert python.count(HOLD) > 1600
    glib = [name("a.ini.", string.ascii_uppercase + string.digits) for _ in range(2000)]
    assert set(glib) == {predicted("a.ini"), ORDINARY}
    assert glib.count(predicted("a.ini")) > 1200


@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from([".", "..", "part", "~", "#", "Ab12Cd", "A1B2C3", "x", ".~", "swp", "é", "\n", "tmp"])
    ).map("".join)
)
def test_total(name: str) -> None:
    """Any name gets a kind; a prediction is a shorter, legal name that is to be uploaded."""
    temporary = classify(name)
    assert (temporary.final is not None) == (temporary.kind is Kind.PREDICTED)
    if temporary.final is not None:
        assert temporary.final not in ("", ".", "..")
        assert temporary.final in name
        assert len(temporary.final) < len(name)
        assert classify(temporary.final).kind is not Kind.LOCAL


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".~tmp~", Kind.LOCAL),
        (".rsync-partial", Kind.ORDINARY),
        (".Trash", Kind.REFUSED),
        (".Trash-0", Kind.REFUSED),
        (".Trash-1000", Kind.REFUSED),
        (".Trashes", Kind.REFUSED),
        ("$RECYCLE.BIN", Kind.REFUSED),
        ("System Volume Information", Kind.REFUSED),
        (".Spotlight-V100", Kind.REFUSED),
        ("Trash", Kind.ORDINARY),
        (".Trash-me", Kind.ORDINARY),
        ("~tmp~", Kind.ORDINARY),
        ("backup~", Kind.ORDINARY),
        ("x.part", Kind.ORDINARY),
        (".git", Kind.ORDINARY),
        ("index.lock", Kind.ORDINARY),
        ("untitled folder", Kind.ORDINARY),
    ],
)
def test_directories(name: str, kind: Kind) -> None:
    """rsync's own are local; wastebaskets and what systems make are refused; names of files mean nothing."""
    assert classify_directory(name) == TempName(kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CuAb1xYz", Kind.HOLD),
        (".extent.nc.20138", Kind.HOLD),
        ("Custody1", Kind.ORDINARY),
        ("extent.nc", Kind.ORDINARY),
        (".extent.nc.Ab1xYz", Kind.PREDICTED),
        (".#f", Kind.LOCAL),
    ],
)
def test_symlinks(name: str, kind: Kind) -> None:
    """Those of ``ln -sf`` and of rsync are no names of files: copper data, a numbered dotfile."""
    assert classify_link(name).kind is kind
