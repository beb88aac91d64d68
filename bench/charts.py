"""Charts: the JSON files of the benches as bar charts, one SVG for each bench.

Decides only how figures look. Needs matplotlib, which the `bench` extra brings; without it there are no charts.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # with this folder in the path, bench/gzip.py would hide Python's gzip

import importlib.util
import json
from typing import Any

from bench.measure import OUT

_OURS, _OTHERS = "#c8553d", "#8d99ae"
#: Which columns of a table are drawn: the figure, by the title's first words.
_DRAWN = {
    "first result": "ms",
    "peak memory": "all processes MiB",
    "latency": "p99 ms",
    "the price": "unordered ÷ ordered",
    "gzip": "MiB/s",
    "checkpoint": "× without",
    "memory": "peak − idle MiB",
    "micro": "ns/event",
}


def draw(path: Path) -> Path | None:
    """Draw one bench's tables side by side; return the picture's path, `None` when there is nothing to draw."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    content = json.loads(path.read_text())
    tables = [table for table in content["tables"] if bars(table)]
    if not tables:
        return None
    columns = min(2, len(tables))
    rows = -(-len(tables) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(7 * columns, 3.4 * rows), squeeze=False)
    for axis, table in zip(axes.flat, tables, strict=False):
        _draw_table(axis, table)
    for axis in list(axes.flat)[len(tables) :]:
        axis.set_visible(False)
    about = content["machine"]
    figure.suptitle(
        f"{content['bench']}: {about['processor']}, {about['cores']} cores, Python {about['python']},"
        f" commit {about['commit'][:8] or 'unknown'}{' (changed)' if about['changed'] else ''}",
        fontsize=9,
    )
    figure.tight_layout()
    picture = path.with_suffix(".svg")
    figure.savefig(picture)
    pyplot.close(figure)
    return picture


def bars(table: dict[str, Any]) -> list[tuple[str, float]]:
    """Return a table's bars: a label and a figure each."""
    if not table["rows"]:
        return []
    column = next((drawn for start, drawn in _DRAWN.items() if table["title"].startswith(start)), "µs/event")
    first = next(iter(table["rows"][0]))
    found = []
    for row in table["rows"]:
        label = f"{row[first]} {row['runner']}" if "runner" in row and first != "runner" else str(row[first])
        if isinstance(row.get(column), (int, float)):
            found.append((label, float(row[column])))
    return found


def _draw_table(axis: Any, table: dict[str, Any]) -> None:
    drawn = bars(table)[::-1]
    labels, figures = [label for label, _ in drawn], [figure for _, figure in drawn]
    colours = [_OURS if "sluiceway" in label or "workers" in label else _OTHERS for label in labels]
    axis.barh(range(len(drawn)), figures, color=colours)
    axis.set_yticks(range(len(drawn)), labels, fontsize=7)
    if min(figures) > 0 and max(figures) > 20 * min(figures):
        axis.set_xscale("log")
    for row, figure in enumerate(figures):
        axis.text(figure, row, f" {figure:.3g}", va="center", fontsize=7)
    axis.set_title(table["title"], fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.12)


def draw_all() -> list[Path]:
    """Draw every JSON file in the output folder; return the pictures."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no charts: matplotlib is not installed, the bench extra brings it", file=sys.stderr)
        return []
    return [picture for path in sorted(OUT.glob("*.json")) if (picture := draw(path)) is not None]


if __name__ == "__main__":
    for drawn_picture in draw_all():
        print(drawn_picture)
