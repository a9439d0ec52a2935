"""The table, the plot and the JSON of a run."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from benchmarks.results import CURL, RCLONES, Results, Row, Sample, Spread, verdicts

MUCH = 64 << 20  #: bytes read, from which on seconds a GiB are told
MARKS = {True: "✓", False: "✗", None: "–"}


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"{_number(found.median)} [{_number(found.low)}–{_number(found.high)}]"


def _median(found: Spread | None, *, whole: bool = False) -> str:
    return "" if found is None else f"{found.median:.0f}" if whole else f"{found.median:.2f}"


_FIGURES: tuple[tuple[str, Callable[[Sample], float | None], bool], ...] = (
    ("fetched/read", lambda sample: sample.amplification, False),
    ("metadata", lambda sample: sample.metadata, True),
    ("redirects", lambda sample: sample.redirects, True),
    ("ranges", lambda sample: sample.ranges, True),
    ("parts", lambda sample: sample.parts, True),
    ("CPU s", lambda sample: sample.cpu, False),
    ("s/GiB", lambda sample: sample.cpu_per_gib if sample.read >= MUCH else None, False),
    ("peak MB", lambda sample: None if sample.peak is None else sample.peak / 1e6, True),
)


def _lines(results: Results, row: Row) -> list[list[str]]:
    head = ["", row.unit, "× curl", "× rclone", *(name for name, _, _ in _FIGURES)]
    lines = [head]
    for system in results.systems(row.key):
        others = [other for other in RCLONES if other != system]
        lines.append(
            [
                f"  {system}",
                _spread(results.figure(row.key, system)),
                "" if system == CURL else _median(results.speedup(row.key, system, (CURL,))),
                "" if system in RCLONES else _median(results.speedup(row.key, system, others)),
                *(
                    _median(results.figure(row.key, system, figure), whole=whole)
                    for _, figure, whole in _FIGURES
                ),
            ]
        )
    return lines


def table(results: Results) -> str:
    """All rows that have samples: a block for each, its goals below. ``× rclone``: its best setting."""
    blocks = [(row, _lines(results, row)) for row in results.rows.values() if results.systems(row.key)]
    every = [line for _, lines in blocks for line in lines]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    text = []
    for row, lines in blocks:
        text.append(row.title)
        text += [
            "  ".join(
                cell.ljust(width) if at == 0 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        text += [
            f"  {MARKS[verdict.met]} goal {verdict.wanted}: {verdict.seen}"
            for verdict in verdicts(results, row.key)
        ]
        text.append("")
    for (scenario, system), failure in results.failures.items():
        text.append(f"✗ {scenario}: {system} fails: {failure.partition(chr(10))[0]}")
    return "\n".join(text)


def as_json(results: Results, about: dict[str, object]) -> dict[str, object]:
    """Everything, for a program: about the run, and each row with its samples and verdicts."""
    return {
        "about": about,
        "failures": [
            {"scenario": scenario, "system": system, "failure": failure}
            for (scenario, system), failure in results.failures.items()
        ],
        "rows": [
            {
                **dataclasses.asdict(row),
                "samples": [
                    dataclasses.asdict(sample) for sample in results.samples if sample.row == row.key
                ],
                "goals": [dataclasses.asdict(verdict) for verdict in verdicts(results, row.key)],
            }
            for row in results.rows.values()
            if results.systems(row.key)
        ],
    }


# -- the plot ------------------------------------------------------------

_WIDTH, _LEFT, _BAR, _RIGHT = 900, 190, 14, 190
_COLOURS = (("figfs", "#1f6f8b"), ("rclone", "#c8663a"), ("curl", "#8a8a8a"))


def _colour(system: str) -> str:
    return next((colour for name, colour in _COLOURS if system.startswith(name)), "#000000")


def plot(results: Results, caption: str) -> str:
    """An SVG: bars for each row, as long as the median is to the row's greatest, with least and greatest."""
    parts: list[str] = []
    y = 10
    for line in textwrap.wrap(caption, 140):
        y += 16
        parts.append(_label(10, y, line))
    for row in results.rows.values():
        systems = results.systems(row.key)
        if not systems:
            continue
        y += 30
        better = "more is better" if row.more else "less is better"
        parts.append(_label(10, y, f"{row.title} ({row.unit}, {better})", weight="bold"))
        y += 8
        figures = [
            (system, found) for system in systems if (found := results.figure(row.key, system)) is not None
        ]
        y = _bars(parts, y, figures)
    height = y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(parts: list[str], y: int, figures: Sequence[tuple[str, Spread]]) -> int:
    """Adds a bar for each system below ``y``; returns where the last one ends."""
    greatest = max(found.high for _, found in figures) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / greatest
    for system, found in figures:
        middle = y + _BAR / 2
        low, high = _LEFT + found.low * scale, _LEFT + found.high * scale
        parts.append(_label(_LEFT - 6, y + 11, system, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 1}" width="{max(found.median * scale, 1):.1f}" height="{_BAR - 2}" '
            f'fill="{_colour(system)}"/>'
        )
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="black"/>')
        parts.append(_label(_WIDTH - _RIGHT + 8, y + 11, _spread(found)))
        y += _BAR + 2
    return y


def _label(x: int, y: int, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
