"""Learning curves of HackMatrix: our runs, read from their journals, beside the curve of MaskablePPO.

    python benchmarks/plot_learning.py --run ours:runs/a --run ours:runs/b --curve MaskablePPO:build/peer/curve.csv \\
        --random -4.1 1.12 --out docs/images/hackmatrix_learning.png

Mean return, and mean of the highest stage, of the training episodes that ended, over environment steps. Runs that are
given the same name are seeds of one setting: their mean, and a band from the smallest to the largest. Runs may be going on.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from matrixrl.config import ConfigError, require
from matrixrl.tracking.journal_reader import JournalReader

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart with every kind of colour blindness (Okabe and Ito).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, SOFT = "#17212b", "#66727f"
TOP_STAGE = 8


class Points(NamedTuple):
    """A learning curve: means over the episodes that ended between two points, each array [N].

    Attributes:
      env_steps: played when the point was recorded.
      episodes: that the means are over.
      returns: mean return.
      stages: mean of the highest stage.
    """

    env_steps: np.ndarray
    episodes: np.ndarray
    returns: np.ndarray
    stages: np.ndarray


def of_run(folder: Path) -> Points:
    """The curve in the journal of a run.

    Raises:
      ConfigError: there is no such journal, or it is not of HackMatrix.
    """
    with JournalReader(folder) as reader:
        require(reader.meta["system"] == "hackmatrix", f"--run {folder}: a run of {reader.meta['system']}")
        settings = reader.meta["config"]["ppo"]
        batch = settings["num_envs"] * settings["num_steps"]
        rows = [row.metrics for row in reader.stream() if row.metrics.get("episode/count")]
    names = ("train/update_step", "episode/count", "episode/return", "episode/highest_stage")
    updates, *rest = np.array([[row[name] for name in names] for row in rows], float).reshape(-1, 4).T
    return Points(updates * batch, *rest)


def of_csv(file: Path) -> Points:
    """The curve that `bench_maskable_ppo.py` wrote.

    Raises:
      ConfigError: the file cannot be read, or is not such a file.
    """
    names = ("env_steps", "episodes", "mean_return", "mean_highest_stage")
    try:
        with file.open(newline="") as lines:
            rows = [
                [float(row[name]) for name in names] for row in csv.DictReader(lines) if row["mean_return"]
            ]
    except OSError as error:
        raise ConfigError(f"--curve {file}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--curve {file}: columns {', '.join(names)} of numbers are needed") from error
    return Points(*np.array(rows, float).reshape(-1, 4).T)


def binned(points: Points, window: int) -> Points:
    """Means over the episodes of each `window` environment steps, put at its end or, in the last one, where it stops."""
    number = np.ceil(points.env_steps / window)
    parts = [number == each for each in np.unique(number)]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.array([np.average(values[part], weights=points.episodes[part]) for part in parts])

    last = points.env_steps.max(initial=0)
    return Points(
        np.minimum(np.unique(number) * window, last),
        np.array([points.episodes[part].sum() for part in parts]),
        mean(points.returns),
        mean(points.stages),
    )


def values_of(curves: Sequence[Points], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [N] that all curves have reached, and the values of a column there, [curves, N]."""
    reached = min(curve.env_steps[-1] for curve in curves)
    at = np.unique(np.concatenate([curve.env_steps for curve in curves]))
    at = at[(at <= reached) & (at >= max(curve.env_steps[0] for curve in curves))]
    return at, np.array([np.interp(at, curve.env_steps, getattr(curve, column)) for curve in curves])


def draw(
    curves: Sequence[tuple[str, Points, bool]], random_play: tuple[float, float] | None, out: Path
) -> None:
    """Write the picture.

    Args:
      curves: name, points, and whether it is a peer's, which is drawn dashed.
      random_play: mean return and highest stage of random legal play.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(1, 2))
    end = max(points.env_steps[-1] for _, points, _ in curves)
    scale, unit = (1e6, "million") if end >= 1e6 else (1e3, "thousand")
    titles = {"returns": "mean return of an episode", "stages": f"mean highest stage, of {TOP_STAGE}"}
    names = list(dict.fromkeys(name for name, _, _ in curves))
    for panel, (column, title) in enumerate(titles.items()):
        axes = panels[panel]
        for number, name in enumerate(names):
            color = COLORS[number % len(COLORS)]
            seeds = [points for each, points, _ in curves if each == name]
            style = "--" if any(peer for each, _, peer in curves if each == name) else "-"
            at, values = values_of(seeds, column)
            if len(seeds) > 1:
                axes.fill_between(at / scale, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
            label = name if len(seeds) == 1 else f"{name}, {len(seeds)} seeds"
            axes.plot(at / scale, values.mean(0), style, color=color, lw=1.8, label=label)
        if random_play is not None:
            axes.axhline(random_play[panel], color=SOFT, lw=1.2, ls=":", label="random legal play")
        axes.set_title(title, loc="left", size=11, color=INK)
        axes.set_xlabel(f"environment steps, {unit}", color=SOFT)
        axes.set_xlim(0, end / scale)
        axes.grid(axis="y", color="#edf0f4")
        axes.tick_params(colors=SOFT)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, labelcolor=INK, loc="outside lower center", ncols=3)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png", metadata={"Software": None})
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}") from error


def named(text: str) -> tuple[str, Path]:
    """NAME:PATH."""
    name, colon, path = text.partition(":")
    if not (name and colon and path):
        raise argparse.ArgumentTypeError(f"{text!r}: NAME:PATH is needed")
    return name, Path(path)


def main() -> int:
    """Draw what was asked for, and say where each curve ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=named, action="append", default=[], metavar="NAME:FOLDER")
    parser.add_argument("--curve", type=named, action="append", default=[], metavar="NAME:CSV")
    parser.add_argument("--random", type=float, nargs=2, metavar=("RETURN", "STAGE"))
    parser.add_argument(
        "--window", type=int, default=100_000, help="environment steps that a point is a mean over"
    )
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    try:
        require(flags.run or flags.curve, "nothing to draw: give --run or --curve")
        require(flags.window >= 1, f"--window {flags.window}: must be 1 or more")
        curves = [(name, of_run(path), path, False) for name, path in flags.run]
        curves += [(name, of_csv(path), path, True) for name, path in flags.curve]
        for name, points, path, _ in curves:
            require(len(points.env_steps) > 0, f"{name}:{path}: no episode has ended in it yet")
        shown = [(name, binned(points, flags.window), peer) for name, points, _, peer in curves]
        draw(shown, flags.random, flags.out)
    except ConfigError as error:
        print(f"plot_learning.py: {error}", file=sys.stderr)
        return 2
    for name, points, _ in shown:
        print(
            f"{name}: after {points.env_steps[-1]:,.0f} steps return {points.returns[-1]:.2f}, "
            f"highest stage {points.stages[-1]:.2f}; best return of a window {points.returns.max():.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
