"""Names under which programs write before the real name comes, and litter that is nobody's data. Pure.

One table, from ``programs.md`` §4. Only the name is judged, so the rule is: **in doubt ORDINARY**. An
ordinary upload with a rename after it is right, only dearer; a name wrongly taken for litter would keep
somebody's data from Figshare. That is why some patterns here are narrower than what the programs make:

* Random characters count only if they look random: ``run.000001``, ``data.SQLITE``, ``sediments`` and
  ``zinc2020`` are files. So a third of GLib's temporary names is taken for ordinary, an eighth of Python's,
  3 % of those of sed, sort, perl and zip; of rsync's 1 % is held instead of predicted.
* Qt's ``NAME.XXXXXX`` (letters only) is ordinary: it cannot be told from an extension (``data.NetCDF``).
* ``*.lock`` is git's only for names that git locks: ``poetry.lock`` and ``Cargo.lock`` are files.
* ``*-journal`` is SQLite's only after the extension of a database: ``lab-journal`` is a file.
* vim's probe ``4913`` is ordinary: it is empty, and empty files are not uploaded anyway. So is MS Office's
  ``1A2B3C4D``: eight hexadecimal digits may be a date.
* rsync's ``--partial-dir`` is an ordinary folder: it was asked to keep what is in it, and what is in it came
  from under a predicted name, so Figshare has it already: it must not stay there as NAME.
* A backup, ``NAME~``, may be a stored file renamed, so it is not litter: it is held, and mostly gone soon.
"""

from __future__ import annotations

import dataclasses
import enum
import re


class Kind(enum.Enum):
    """What becomes of a file under such a name."""

    ORDINARY = "ordinary"
    PREDICTED = "predicted"  #: uploaded as ``TempName.final``, the name that it will get
    HOLD = "hold"  #: it will be renamed, nobody can tell to what: not uploaded before that, or a long pause
    LOCAL = "local"  #: litter of systems, locks, journals: never uploaded
    REFUSED = "refused"  #: a wastebasket: without one, file managers offer to delete for good


@dataclasses.dataclass(frozen=True, slots=True)
class TempName:
    """What a name tells."""

    kind: Kind
    final: str | None = None  #: for PREDICTED, else None


# Six characters that end real names of dotfiles (".env.sample"), so are not rsync's.
_WORDS = (
    "backup|before|bigbed|bigwig|bundle|column|config|custom|docker|duckdb|export|filter|gitlab|global|ignore|import"
    "|joblib|jsonld|latest|layout|legacy|locale|manual|master|matlab|module|mzdata|ndjson|newick|number|output|pcapng"
    "|phylip|pickle|plugin|python|readme|remote|report|result|sample|schema|script|secret|shared|source|sqlite|stable"
    "|status|stderr|stdout|struct|target|tflite|travis|update|values|vector|window"
)
# What a person may have typed: a word, capitalised or not, perhaps with a number; or capitals only, or
# digits only.
_TYPED = r"[A-Za-z]?[a-z]*[0-9]*\Z|[A-Z]+[0-9]*\Z|[0-9]+[A-Z]+\Z"
_DATABASES = "(?i:sqlite3?|db3?|s3db|sl3|gpkg|mbtiles)"

# The first row that matches the whole name decides; rows for one program stand before the more general
# ones. The group ``final`` is the name that comes.
_FILES = [
    (re.compile(pattern, re.ASCII | re.DOTALL), kind)
    for pattern, kind in (
        # wastebaskets
        (r"\.Trash(?:-[0-9]+)?", Kind.REFUSED),
        # dotfiles that would match rsync's row
        (r"\.goutputstream-[0-9A-Z]{6}", Kind.HOLD),  # GIO replacing a file; renamed before close
        (r"\.com\.google\.Chrome\.\w{6}", Kind.HOLD),
        (r"\.#.+", Kind.LOCAL),  # emacs' locks
        # rsync
        (rf"\..+\.(?!(?:{_WORDS})\Z)(?=.{{6}}\Z)[a-z]+[0-9]*", Kind.HOLD),  # random, or an extension?
        (rf"\.(?P<final>.+)\.(?!(?i:{_WORDS}|[0-9]+)\Z)(?![a-z]+[0-9]*\Z)[0-9A-Za-z]{{6}}", Kind.PREDICTED),
        # KIO overwriting; Firefox downloading (then the prediction may be missed)
        (r"(?P<final>.+)\.part", Kind.PREDICTED),
        (r"(?P<final>.+\.(?i:7z|zip|tar|wim|swm|esd|cab|jar|epub|xpi))\.tmp", Kind.PREDICTED),  # 7z updating
        # GLib: g_file_set_contents
        (rf"(?P<final>.+)\.(?!{_TYPED})[0-9A-Z]{{6}}", Kind.PREDICTED),
        # renamed, but nobody can tell to what
        (r"qt_temp\.[A-Za-z]{6}", Kind.HOLD),
        (r"tmp(?![a-z_]*[0-9]*\Z)(?![0-9]+\Z)[a-z0-9_]{8}", Kind.HOLD),  # Python's tempfile
        (rf"(?:sed|sort|XX|zi)(?!{_TYPED})[0-9A-Za-z]{{6}}", Kind.HOLD),  # sed -i, sort -T, perl -i, zip
        (rf"tmp\.(?!{_TYPED})[0-9A-Za-z]{{10}}", Kind.HOLD),  # mktemp
        (r"lu[0-9]+[0-9a-z]+\.tmp", Kind.HOLD),  # LibreOffice
        (r"(?:(?:ORIG_|FETCH_|MERGE_)?HEAD|index|config|packed-refs|shallow)\.lock", Kind.HOLD),  # git
        (r"tmp_(?:obj|pack|idx)_\w{6}", Kind.HOLD),  # git
        (r".+\.(?:crdownload|opdownload|download)", Kind.HOLD),  # Chrome, Opera, Safari
        (r".+\.vsctmp", Kind.HOLD),  # VS Code
        (r".+___jb_(?:tmp|old)___", Kind.HOLD),  # JetBrains
        (r"~WR[DL][0-9]{4}\.tmp|[0-9A-F]{8}\.tmp", Kind.HOLD),  # MS Office
        (r".+\.sb-[0-9a-f]{8}-\w{6}", Kind.HOLD),  # macOS, safe save
        (r"\..+\.~[0-9a-f]{3,}", Kind.HOLD),  # Nextcloud
        (r"\.syncthing\..+\.tmp", Kind.HOLD),
        # litter
        (r"\.~lock\..+#", Kind.LOCAL),  # LibreOffice
        (r"\..+\.sw[a-px]", Kind.LOCAL),  # vim, nano
        (r"#.+#", Kind.LOCAL),  # emacs, autosave
        (r"\..+\.kate-swp", Kind.LOCAL),
        (r"~\$.+", Kind.LOCAL),  # MS Office, who has it open
        (rf".+\.{_DATABASES}-(?:journal|wal|shm)", Kind.LOCAL),  # SQLite
        (r".+\.aria2(?:__temp)?", Kind.LOCAL),
        (r"\.nfs[0-9a-f]{8,}|\.fuse_hidden[0-9a-f]{8,}", Kind.LOCAL),  # unlinked while open
        (r"\.DS_Store|\._.+|Icon\r", Kind.LOCAL),  # macOS
        (r"\.(?:Trashes|Spotlight-V100|fseventsd|TemporaryItems|apdisk|AppleDouble)", Kind.LOCAL),
        (r"\.VolumeIcon\.icns", Kind.LOCAL),
        (r"(?i:(?:eh)?thumbs\.db|desktop\.ini|autorun\.inf)", Kind.LOCAL),  # Windows
        # backups of vim, emacs, rsync -b, cp -b
        (r".+~", Kind.HOLD),
    )
]

_LINK = re.compile(rf"Cu(?!{_TYPED})[0-9A-Za-z]{{6}}|\..+\.[0-9]{{1,9}}", re.ASCII)

_DIRECTORIES = {
    ".~tmp~": Kind.LOCAL,  # rsync --delay-updates
    ".Trash": Kind.REFUSED,
    ".Trashes": Kind.REFUSED,
    ".Spotlight-V100": Kind.REFUSED,
    ".fseventsd": Kind.REFUSED,
    ".TemporaryItems": Kind.REFUSED,
    "$RECYCLE.BIN": Kind.REFUSED,
    "System Volume Information": Kind.REFUSED,
}
_TRASH_OF_A_USER = re.compile(r"\.Trash-[0-9]+")

# rsync cuts NAME in .NAME.XXXXXX to 246 bytes, and up to 3 more to end at a character.
_RSYNC_MAY_CUT = 243


def classify(name: str) -> TempName:
    """What the name of a file tells; ORDINARY for most and in doubt.

    ``final`` of a PREDICTED name is legal and not itself litter. rsync calls the temporary files of ``x``
    and ``.x`` alike: the prediction is ``x``, so it is missed for dotfiles.
    """
    temporary = _look_up(name)
    final = temporary.final
    if final is None:
        return temporary
    if final in (".", ".."):
        return TempName(Kind.ORDINARY)
    if _look_up(final).kind is Kind.LOCAL:
        return TempName(Kind.LOCAL)
    dotfile = f".{final}"
    if name.startswith(dotfile) and (
        _look_up(dotfile).kind is Kind.LOCAL or len(final.encode()) >= _RSYNC_MAY_CUT
    ):
        return TempName(Kind.HOLD)
    return temporary


def classify_link(name: str) -> TempName:
    """What the name of a symlink tells: as for a file, and ``CuXXXXXX`` of ``ln -sf``, ``.NAME.123`` of
    rsync.
    """
    return TempName(Kind.HOLD) if _LINK.fullmatch(name) else classify(name)


def classify_directory(name: str) -> TempName:
    """What the name of a directory tells: ORDINARY, REFUSED, or LOCAL (nothing is uploaded from in it)."""
    if _TRASH_OF_A_USER.fullmatch(name):
        return TempName(Kind.REFUSED)
    return TempName(_DIRECTORIES.get(name, Kind.ORDINARY))


def _look_up(name: str) -> TempName:
    for pattern, kind in _FILES:
        match = pattern.fullmatch(name)
        if match:
            return TempName(kind, match.groupdict().get("final"))
    return TempName(Kind.ORDINARY)
