"""How runs of one format come down to the record: the lowest rank so far over seconds of training.

    python benchmarks/plot_descent.py --run rewriting:runs/a --run rewriting:runs/b --run "self-play alone":runs/c \\
        --out docs/images/matmul_descent.png

Runs that are given the same name have one colour. Seconds count from the first row of a run's journal.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from plot_learning import COLORS, INK, SOFT, named

from matrixrl.config import ConfigError, require
from matrixrl.schemes.records import find_record
from matrixrl.tracking.journal_reader import JournalReader


def descent(folder: Path) -> tuple[tuple[int, int, int], list[tuple[float, int]]]:
    """Format of a run, and (seconds, lowest rank so far) wherever that fell, and at the last row.

    Raises:
      ConfigError: there is no such journal, or it is not of a matmul run, or nothing was solved.
    """
    with JournalReader(folder) as reader:
        require(reader.meta["system"] == "matmul", f"--run {folder}: a run of {reader.meta['system']}")
        size = tuple(reader.meta["config"]["game"]["size"])
        rows = [(row.time, row.metrics) for row in reader.stream()]
        columns = list(reader.episode_columns)
        rank, is_solved = columns.index("Rank"), columns.index("Solved")
        solved = [
            (row.time, int(str(row.values[rank]))) for row in reader.episodes() if row.values[is_solved]
        ]
    found = sorted(
        solved + [(time, int(m["rewrite/best_rank"])) for time, m in rows if "rewrite/best_rank" in m]
    )
    require(bool(found), f"--run {folder}: no game was solved yet")
    began, points = rows[0][0], []
    for time, rank in found:
        if not points or rank < points[-1][1]:
            points.append((time - began, rank))
    return size, [*points, (rows[-1][0] - began, points[-1][1])]  # pyright: ignore[reportReturnType]


def main() -> int:
    """Draw."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=named, action="append", required=True, metavar="NAME:FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure, axis = plt.subplots(figsize=(8.5, 4.2))
    colors: dict[str, str] = {}
    sizes = set()
    try:
        for name, folder in options.run:
            size, points = descent(folder)
            sizes.add(size)
            label = None if name in colors else name
            color = colors.setdefault(name, COLORS[len(colors) % len(COLORS)])
            seconds, ranks = zip(*points, strict=True)
            axis.step(seconds, ranks, where="post", color=color, label=label, linewidth=2)
            axis.plot(seconds[-2], ranks[-2], "o", color=color, markersize=6)
        require(len(sizes) == 1, f"--run: runs of several formats ({sizes}); give one format's")
    except ConfigError as error:
        print(f"plot_descent: {error}", file=sys.stderr)
        return 2
    (size,) = sizes
    record = find_record(size)
    if record is not None:
        axis.axhline(record.integer, color=SOFT, linestyle="--", linewidth=1)
        axis.text(axis.get_xlim()[1], record.integer, " best known", color=SOFT, va="center", fontsize=9)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("seconds of training, one core", color=INK)
    axis.set_ylabel(f"lowest rank of {'x'.join(map(str, size))} so far", color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc=(0.45, 0.58))
    figure.tight_layout()
    figure.savefig(options.out, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
