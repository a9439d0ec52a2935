"""scripts/bench: its arithmetic, its table, what its server says; and one small run of the real thing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from figfs.figshare.records import Account, Article, ArticleDetails, File, read_list

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks import datasets, readers, report  # noqa: E402
from benchmarks.__main__ import all_scenarios, chosen  # noqa: E402
from benchmarks.results import (  # noqa: E402
    CURL,
    FIGFS,
    GOALS,
    RCLONE,
    RCLONE_FULL,
    RCLONES,
    Results,
    Row,
    Sample,
    verdicts,
)
from benchmarks.server import BenchError, Traffic, count, module_directory  # noqa: E402

SPEED = Row("sequential-plain", "sequential <plain>", "MiB/s")
TIME = Row("ls-warm", "ls & all", "s", more=False)


def results(row: Row, **values: list[float]) -> Results:
    """One row; for each system the values of the rounds. ``full``: rclone with its cache."""
    names = {"curl": CURL, "figfs": FIGFS, "rclone": RCLONE, "full": RCLONE_FULL}
    samples = [
        Sample(row=row.key, system=names[system], round=number, value=value)
        for system, rounds in values.items()
        for number, value in enumerate(rounds)
    ]
    return Results([row], samples)


# -- arithmetic ------------------------------------------------------------


def test_ratios_are_taken_in_each_round() -> None:
    """A slow round is slow for all: the median of the ratios, not the ratio of the medians."""
    ratio = results(SPEED, figfs=[50, 200, 30], curl=[100, 100, 10]).speedup(SPEED.key, FIGFS, (CURL,))
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 2, 3)


def test_the_best_of_the_others_counts() -> None:
    """rclone's best setting is that of the round, whichever it was; for a time it is the shortest."""
    speed = results(SPEED, figfs=[60, 60], rclone=[10, 30], full=[20, 15]).speedup(SPEED.key, FIGFS, RCLONES)
    assert speed is not None
    assert (speed.low, speed.high) == (2, 3)
    elapsed = results(TIME, figfs=[2], rclone=[8], full=[6]).speedup(TIME.key, FIGFS, RCLONES)
    assert elapsed is not None
    assert elapsed.median == 3


def test_goals_are_met_missed_or_not_measured() -> None:
    """No figure, no verdict; the limit itself is good enough."""
    found = {v.wanted: v.met for v in verdicts(results(SPEED, figfs=[60], curl=[100]), SPEED.key)}
    assert found["≥ 0.6 × curl"] is True
    assert found["≥ 2 × rclone's best"] is None
    found = {v.wanted: v.met for v in verdicts(results(SPEED, figfs=[59.9], curl=[100]), SPEED.key)}
    assert found["≥ 0.6 × curl"] is False
    assert [v.met for v in verdicts(results(TIME, figfs=[1], rclone=[4]), TIME.key)] == [True]
    assert [v.met for v in verdicts(results(TIME, figfs=[1.1], rclone=[4]), TIME.key)] == [False]


def test_amplification_and_cpu() -> None:
    """Bytes fetched for a byte read; seconds for a GiB read. Neither, where nothing was read."""
    sample = Sample(row="r", system=FIGFS, round=0, value=1, read=1 << 29, fetched=1 << 30, cpu=1.5)
    assert sample.amplification == 2
    assert sample.cpu_per_gib == 3
    assert Sample(row="r", system=FIGFS, round=0, value=1, fetched=5, cpu=1.0).amplification is None


def test_every_goal_has_a_row_that_is_measured() -> None:
    """A goal for a row that nobody measures would never be missed. Keys are unique."""
    scenarios = all_scenarios()
    rows = [row.key for scenario in scenarios for row in scenario.rows]
    assert len(rows) == len(set(rows))
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    assert {goal.row for goal in GOALS} <= set(rows)


def test_traffic_is_told_apart_in_the_log() -> None:
    """API, redirects and bytes of figfs; listings, HEADs and bytes of rclone. Bytes are those of files."""
    api, storage, files = "/big/v2/account/articles", "/storage/big/1", "/files/big/"
    lines = [
        f"GET 200 374 {api}?page=1&page_size=1000",
        "GET 302 100 /big/v2/file/download/1",
        f"GET 206 1000 {storage}?X-Amz-Date=20260101T000000Z&a=/",
        f"GET 200 500 {files}",
        f"HEAD 200 0 {files}Big/big.bin",
        f"GET 206 7 {files}Big/big.bin",
        "POST 201 70 /uploads/v2/account/articles/1/files",
        "GET 200 100 /upload/100000001",
        "PUT 201 0 /upload/100000001/1",
        "PUT 201 0 /dav/f.dat",
        "PROPFIND 207 300 /dav/f.dat",
    ]
    assert count(lines) == Traffic(fetched=1007, metadata=5, redirects=1, ranges=2, parts=3)


# -- what is shown ------------------------------------------------------------


def test_the_table_has_all_rows_and_verdicts() -> None:
    """A block a row: systems with median and spread, ratios, goals with a mark."""
    text = report.table(results(SPEED, curl=[100, 120, 110], figfs=[66, 72, 77], rclone=[30, 30, 44]))
    lines = text.splitlines()
    assert lines[0] == SPEED.title
    assert next(line for line in lines if line.startswith("  figfs")).split() == [
        "figfs", "72.0", "[66.0–77.0]", "0.66", "2.20",
    ]  # fmt: skip
    assert "  ✓ goal ≥ 0.6 × curl: 0.66" in lines
    assert "  – goal ≥ 0.85 × itself without the disk cache: not measured" in lines
    assert report.table(Results([SPEED])) == ""


def test_a_failure_is_in_the_table() -> None:
    """By its first line, after the figures that there are."""
    found = results(SPEED, figfs=[60], curl=[100])
    found.failures["sequential-plain", FIGFS] = "dd failed\nThe log of figfs:"
    assert report.table(found).splitlines()[-1] == "✗ sequential-plain: figfs fails: dd failed"


def test_the_plot_is_an_svg_to_scale() -> None:
    """Well-formed whatever the titles hold; bars as long as the medians are to each other."""
    text = report.plot(results(SPEED, curl=[100, 100], figfs=[50, 50]), 'figfs & "others"')
    tree = ElementTree.fromstring(text)
    bars = [float(r.get("width", 0)) for r in tree.findall("{*}rect") if r.get("fill") != "white"]
    assert len(bars) == 2
    assert bars[0] == pytest.approx(2 * bars[1], rel=0.01)
    assert any(
        label.text == "sequential <plain> (MiB/s, more is better)" for label in tree.findall("{*}text")
    )


def test_json_holds_every_sample() -> None:
    found = json.loads(json.dumps(report.as_json(results(TIME, figfs=[1, 2], rclone=[4, 5]), {"rounds": 2})))
    assert [sample["value"] for sample in found["rows"][0]["samples"]] == [1, 2, 4, 5]
    assert found["rows"][0]["goals"][0]["met"] is False
    assert found["about"] == {"rounds": 2}


def test_scenarios_are_chosen_by_name() -> None:
    """A pattern brings what a quick run leaves out; one that names nothing is a mistake."""
    everything = all_scenarios()
    assert chosen(everything, quick=False, only=None) == everything
    quick = chosen(everything, quick=True, only=None)
    assert 0 < len(quick) < len(everything)
    assert [s.name for s in chosen(everything, quick=True, only=["find*"])] == ["find-50ms"]
    with pytest.raises(BenchError, match="sequentail"):
        chosen(everything, quick=False, only=["sequentail"])


# -- what the server says ------------------------------------------------------------


def test_the_account_is_what_figfs_understands(tmp_path: Path) -> None:
    """Every file of a dataset is in what the API says, once, with its size, MD5 and id."""
    dataset = datasets.make(datasets.BIG, tmp_path, 1 << 20)
    said = dict(datasets.documents(dataset, "http://127.0.0.1:1/big/v2"))
    assert Account.from_json(said["account.json"]).id == 1
    titles = {a.id: a.title for a in read_list(Article, said["articles-1000-1.json"])}
    assert list(titles.values()) == dataset.articles
    seen = []
    for number, title in titles.items():
        details = ArticleDetails.from_json(said[f"articles/{number}.json"])
        listed = read_list(File, said[f"files/{number}-1000-1.json"])
        assert list(details.files) == listed[:10]
        for file in listed:
            content = (tmp_path / "files" / "big" / title / file.name).read_bytes()
            assert len(content) == file.size
            assert (tmp_path / "storage" / "big" / str(file.id)).read_bytes() == content
            assert dataset.md5(title, file.name) == file.md5
            seen.append(file.id)
    assert sorted(map(int, seen)) == list(range(1, len(dataset.files) + 1))


def test_long_listings_have_pages() -> None:
    """10,000 files: ten full pages; what follows is the server's empty list."""
    stored = [datasets.Stored(n, p, "0" * 32) for n, p in enumerate(datasets.plan("tenthousand", 0), 1)]
    said = dict(datasets.documents(datasets.Dataset("tenthousand", stored), "http://x/v2"))
    pages = [said[f"files/1-1000-{page}.json"] for page in range(1, 11)]
    assert [len(page) for page in pages if isinstance(page, list)] == [1000] * 10
    assert "files/1-1000-11.json" not in said


def test_reads_at_random(tmp_path: Path) -> None:
    """Each place once, or all of them until the time is up; a short read is an error."""
    (tmp_path / "f").write_bytes(bytes(8192))
    path = str(tmp_path / "f")
    assert readers.read_at_random(path, 4096, 8192, 1, 5, 0.0, 0.0)[0] == 5
    done, seconds = readers.read_at_random(path, 4096, 8192, 1, 5, 0.0, 0.01)
    assert done % 5 == 0
    assert done > 5
    assert seconds >= 0.01
    with pytest.raises(OSError, match="short"):
        readers.read_at_random(path, 4096, 1 << 30, 1, 5, 0.0, 0.0)


# -- the real thing ------------------------------------------------------------


@pytest.fixture
def needs() -> None:
    """Skips where FUSE, nginx or rclone cannot be had: scripts/bench installs them, scripts/test does not."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        if os.environ.get("FIGFS_REQUIRE_FUSE"):
            pytest.fail("there is no /dev/fuse, and FIGFS_REQUIRE_FUSE is set")
        pytest.skip("there is no /dev/fuse")
    missing = [program for program in ("rclone", "curl", "openssl") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {missing}")
    try:
        module_directory()
    except BenchError as absent:
        pytest.skip(str(absent))


def start_bench(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    (tmp_path / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [place for place in (line.split()[1] for line in lines) if place.startswith(f"{path}/")]


def children(pid: int) -> dict[int, str]:
    """The processes that a process has started, and what they are."""
    found = {}
    for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[int(text)] = Path(f"/proc/{text}/cmdline").read_text()
    return found


@pytest.mark.fuse
@pytest.mark.usefixtures("needs")
def test_a_small_run(tmp_path: Path) -> None:
    """A figure for everybody in every row; each byte fetched once; nothing is left mounted."""
    only = [part for name in ("sequential-plain", "small-0ms") for part in ("--only", name)]
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg")]
    bench = start_bench(tmp_path, *only, *files, "--size", "8", "--rounds", "1")
    said, _ = bench.communicate(timeout=120)
    assert bench.returncode == 0, said
    assert mounts_below(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    out = json.loads((tmp_path / "out.json").read_text())
    rows = {row["key"]: {s["system"]: s for s in row["samples"]} for row in out["rows"]}
    assert {CURL, FIGFS, RCLONE, RCLONE_FULL} <= set(rows["sequential-plain"])
    assert {FIGFS, RCLONE, RCLONE_FULL} == set(rows["small-0ms"])
    assert rows["sequential-plain"][CURL]["fetched"] == 8 << 20
    assert 8 << 20 <= rows["sequential-plain"][FIGFS]["fetched"] < 9 << 20
    assert rows["small-0ms"][RCLONE]["ranges"] == 1000
    assert all(sample["value"] > 0 for samples in rows.values() for sample in samples.values())
    ElementTree.parse(tmp_path / "out.svg")
    assert "sequential, cold, 0 ms, 1 reader" in said


@pytest.mark.fuse
@pytest.mark.usefixtures("needs")
def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the midst of reading: unmounted, nginx ended, files gone."""
    bench = start_bench(tmp_path, "--only", "sequential-20MB", "--size", "64", "--rounds", "1")
    try:
        give_up_at = time.monotonic() + 60
        while not mounts_below(tmp_path) or not any("dd" in each for each in children(bench.pid).values()):
            assert bench.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        started = children(bench.pid)
        memory = next(c for c in started.values() if "nginx" in c).partition("/dev/shm/")[2].partition("/")[0]
    finally:
        bench.send_signal(signal.SIGINT)
        said, _ = bench.communicate(timeout=60)
    assert bench.returncode == 130, said
    assert mounts_below(tmp_path) == []
    assert not Path("/dev/shm", memory).exists()
    give_up_at = time.monotonic() + 10  # children of children are reaped by init, a moment later
    while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < give_up_at, left
        time.sleep(0.05)


def test_the_script_is_bash() -> None:
    script = ROOT / "scripts" / "bench"
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
