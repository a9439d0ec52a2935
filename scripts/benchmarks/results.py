"""What the bench measures, and what is wanted of it: pure records, and the arithmetic on them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence

GIB = 1 << 30

CURL = "curl"
CURL_8 = "curl, 8 ranges"
FIGFS = "figfs"
FIGFS_NO_CACHE = "figfs, no disk cache"
FIGFS_BACKGROUND = "figfs, verify=background"
RCLONE = "rclone"
RCLONE_TUNED = "rclone, 16 streams"
RCLONE_FULL = "rclone, cache full"
FIGFS_QUEUED = "figfs, close does not wait"
RCLONE_WRITES = "rclone to WebDAV, cache writes"

RCLONES = (RCLONE, RCLONE_TUNED, RCLONE_FULL, RCLONE_WRITES)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One workload. ``unit`` of the value; ``more``: whether more of it is better."""

    key: str
    title: str
    unit: str
    more: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One system at one workload, once. None: has no meaning there."""

    row: str
    system: str
    round: int
    value: float  #: in the row's unit
    read: int = 0  #: bytes that the reading program got
    fetched: int | None = None  #: bytes of files that the server sent
    metadata: int | None = None  #: API requests of figfs; listings and HEADs of rclone
    redirects: int | None = None  #: requests for a presigned URL
    ranges: int | None = None  #: requests for bytes of files
    parts: int | None = None  #: requests of the uploader, PUTs of WebDAV
    files: int | None = None  #: that were written, if it is about writing
    cpu: float | None = None  #: seconds, of the daemon (of the program, for curl)
    peak: int | None = None  #: bytes, of the daemon since it was started

    @property
    def amplification(self) -> float | None:
        """Bytes fetched for each byte read."""
        return None if self.fetched is None or not self.read else self.fetched / self.read

    @property
    def cpu_per_gib(self) -> float | None:
        return None if self.cpu is None or not self.read else self.cpu * GIB / self.read

    @property
    def metadata_per_file(self) -> float | None:
        return None if self.metadata is None or not self.files else self.metadata / self.files


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median, least and greatest of what is not None; None if that is nothing."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


class Results:
    """The samples of a run, in order."""

    def __init__(self, rows: Sequence[Row], samples: Iterable[Sample] = ()) -> None:
        self.rows = {row.key: row for row in rows}
        self.samples = list(samples)
        self.failures: dict[tuple[str, str], str] = {}  #: by scenario and system: what went wrong

    def of(self, row: str, system: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.row == row and sample.system == system]

    def systems(self, row: str) -> list[str]:
        return list(dict.fromkeys(sample.system for sample in self.samples if sample.row == row))

    def figure(
        self, row: str, system: str, figure: Callable[[Sample], float | None] = lambda sample: sample.value
    ) -> Spread | None:
        """The spread of one figure (the value unless told otherwise) over the rounds."""
        return spread(figure(sample) for sample in self.of(row, system))

    def speedup(self, row: str, system: str, others: Sequence[str]) -> Spread | None:
        """How many times better than the best of ``others`` *in the same round*; None without both."""
        more = self.rows[row].more
        theirs: dict[int, list[float]] = {}
        for other in others:
            for sample in self.of(row, other):
                theirs.setdefault(sample.round, []).append(sample.value)
        ratios = []
        for sample in self.of(row, system):
            if sample.round not in theirs:
                continue
            best = max(theirs[sample.round]) if more else min(theirs[sample.round])
            above, below = (sample.value, best) if more else (best, sample.value)
            ratios.append(above / below if below > 0 else float("inf"))
        return spread(ratios)


# -- goals ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """``met`` is None where it could not be measured in this run."""

    wanted: str
    seen: str
    met: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Faster:
    """figfs is at least ``factor`` times as good as the best of ``others``."""

    row: str
    factor: float
    others: tuple[str, ...]
    name: str  #: of the others

    def judge(self, results: Results) -> Verdict:
        wanted = f"≥ {self.factor:g} × {self.name}"
        ratio = results.speedup(self.row, FIGFS, self.others)
        if ratio is None:
            return Verdict(wanted, "not measured", None)
        return Verdict(wanted, f"{ratio.median:.2f}", ratio.median >= self.factor)


@dataclasses.dataclass(frozen=True, slots=True)
class Within:
    """A figure of figfs is at most (or at least) ``limit``."""

    row: str
    limit: float
    figure: Callable[[Sample], float | None]
    name: str  #: of the figure, with its unit
    least: bool = False

    def judge(self, results: Results) -> Verdict:
        wanted = f"{'≥' if self.least else '≤'} {self.limit:g} {self.name}"
        seen = results.figure(self.row, FIGFS, self.figure)
        if seen is None:
            return Verdict(wanted, "not measured", None)
        met = seen.median >= self.limit if self.least else seen.median <= self.limit
        return Verdict(wanted, f"{seen.median:.2f}", met)


Goal = Faster | Within


def _value(sample: Sample) -> float:
    return sample.value


def _amplification(sample: Sample) -> float | None:
    return sample.amplification


def _requests_for_bytes(sample: Sample) -> float | None:
    return None if sample.ranges is None else sample.ranges + (sample.redirects or 0)


_RCLONE_BEST = (RCLONES, "rclone's best")

GOALS: tuple[Goal, ...] = (
    Faster("sequential-plain", 0.60, (CURL,), "curl"),
    Faster("sequential-plain", 2, *_RCLONE_BEST),
    Faster("sequential-plain", 0.85, (FIGFS_NO_CACHE,), "itself without the disk cache"),
    Within("sequential-plain", 1.3, lambda sample: sample.cpu_per_gib, "s of CPU a GiB"),
    Faster("sequential-tls", 0.45, (CURL,), "curl"),
    Faster("sequential-tls", 1.5, *_RCLONE_BEST),
    Faster("sequential-50ms", 0.50, (CURL,), "curl"),
    Faster("sequential-50ms", 1.5, *_RCLONE_BEST),
    Faster("sequential-20MB", 15, (CURL,), "one connection"),
    Faster("sequential-20MB", 15, (RCLONE,), "rclone as it comes"),
    Faster("sequential-20MB", 1, (RCLONE_TUNED,), "rclone with 16 streams"),
    Faster("sequential-50ms-20MB", 10, (CURL,), "one connection"),
    Faster("reread-page-cache", 2, (CURL,), "curl"),
    Faster("reread-remounted", 1, (CURL,), "curl"),
    Within("reread-remounted", 0, _requests_for_bytes, "requests for bytes"),
    Faster("random-4k-0ms", 3, *_RCLONE_BEST),
    Faster("random-128k-0ms", 3, *_RCLONE_BEST),
    Within("random-128k-0ms", 2, _amplification, "bytes fetched for each byte read"),
    Faster("random-4k-8-0ms", 3, *_RCLONE_BEST),
    Faster("random-128k-8-0ms", 3, *_RCLONE_BEST),
    Within("random-128k-8-0ms", 2, _amplification, "bytes fetched for each byte read"),
    # 50 ms a request are 20 a second.
    Within("random-4k-50ms", 0.9 * 20, _value, "reads a second", least=True),
    Faster("random-4k-50ms", 1, (RCLONE_FULL,), "rclone, cache full"),
    Within("first-byte-0ms", 10, _value, "ms"),
    Within("first-byte-50ms", 2 * 50 + 10, _value, "ms"),
    Faster("small-0ms", 1.5, (RCLONE,), "rclone"),
    Faster("small-50ms", 10, (RCLONE,), "rclone"),
    Faster("ls-warm", 4, (RCLONE,), "rclone"),
    Faster("find-50ms", 10, (RCLONE,), "rclone"),
    Faster("upload-0ms", 1.1, (RCLONE_WRITES,), "rclone"),
    Within(
        "upload-0ms", 150, lambda sample: None if sample.peak is None else sample.peak / 1e6, "MB at most"
    ),
    Faster("upload-20MB", 3.5, (CURL,), "one connection"),
    Faster("upload-50ms-20MB", 3, (CURL,), "one connection"),
    Faster("upload-small-rsync-0ms", 1.67, (RCLONE_WRITES,), "rclone"),
    Faster("upload-small-cp-20ms", 1, (RCLONE_WRITES,), "rclone"),
    Within("upload-small-cp-20ms", 5, lambda sample: sample.metadata_per_file, "API requests a file"),
    Faster("upload-small-rsync-20ms", 1, (RCLONE_WRITES,), "rclone"),
    Within("upload-small-rsync-20ms", 5, lambda sample: sample.metadata_per_file, "API requests a file"),
    Within("memory-idle", 80, _value, "MB"),
    Within("memory-16-readers", 350, _value, "MB"),
)


def verdicts(results: Results, row: str) -> list[Verdict]:
    """How figfs stands to the goals of a row (performance.md §4)."""
    return [goal.judge(results) for goal in GOALS if goal.row == row]
