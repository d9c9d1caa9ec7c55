"""Plots of a study, where matplotlib is installed: objective over trials, importance of settings,
parallel coordinates, and curves with bands per setting.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.cli.runs_plot import COLOURS, LINES
from matrixrl.config import ConfigError
from matrixrl.studies.file import SPECIAL
from matrixrl.studies.launcher import words_of
from matrixrl.studies.objective import series
from matrixrl.studies.record import RUNS_FOLDER, Study
from matrixrl.studies.table import StudyTable, study_table
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.whole_files import whole_file

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

PLOTS_FOLDER = "plots"
MAX_CURVES = 6
"""Number of settings whose curves are drawn: the best ones."""

CURVE_POINTS = 200


def draw_study(study: Study, folder: Path, importance: Mapping[str, float]) -> list[Path]:
    """Draws the plots of a study into its folder. Returns their paths; none without matplotlib, or
    without an objective.
    """
    if study.objective is None or importlib.util.find_spec("matplotlib") is None:
        return []
    found = study_table(study)
    if not any(row["objective"] is not None for row in found.rows):
        return []
    plots: dict[str, Callable[[Axes], None]] = {"history": lambda axes: _history(axes, found)}
    if importance:
        plots["importance"] = lambda axes: _importance(axes, importance)
    if len(found.columns) > 1:
        plots["parallel"] = lambda axes: _parallel(axes, found)
    if study.objective.metric not in SPECIAL:
        plots["curves"] = lambda axes: _curves(axes, found, folder / RUNS_FOLDER)
    return [_write(folder / PLOTS_FOLDER / f"{name}.png", draw) for name, draw in plots.items()]


def _write(path: Path, draw: Callable[[Axes], None]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    draw(figure.add_subplot())
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as draft:
        figure.savefig(draft, format="png", dpi=120)
    return path


def _history(axes: Axes, found: StudyTable) -> None:
    """Draws the objective of every trial, and the best so far."""
    searched = [row for row in found.rows if not row.get("confirms")]
    points = [(row["trial"], row["objective"]) for row in searched if row["objective"] is not None]
    pruned = {row["trial"] for row in found.rows if row["status"] == "pruned"}
    best: list[float] = []
    choose = max if found.mode == "max" else min
    for number, value in points:
        if number not in pruned or not best:
            best.append(value if not best else choose(best[-1], value))
        else:
            best.append(best[-1])
    for wanted, label, marker in ((False, "finished", "o"), (True, "pruned", "x")):
        chosen = [point for point in points if (point[0] in pruned) == wanted]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), marker, color=COLOURS[int(wanted)], label=label)
    axes.plot([number for number, _ in points], best, color=COLOURS[2], label="best so far")
    axes.set(xlabel="trial", ylabel=found.metric)
    axes.legend()


def _importance(axes: Axes, importance: Mapping[str, float]) -> None:
    names = sorted(importance, key=lambda name: importance[name])
    axes.barh(names, [100 * importance[name] for name in names], color=COLOURS[0])
    axes.set(xlabel="importance (%)")


def _parallel(axes: Axes, found: StudyTable) -> None:
    """Draws a line for each setting through its values, coloured by its objective."""
    import numpy as np
    from matplotlib import colormaps

    names = [name for name in found.columns if name != "seed"]
    rows = [row for row in found.settings if row["objective"] is not None]
    positions = [_positions([row["settings"].get(name) for row in rows]) for name in names]
    values = np.asarray([row["objective"] for row in rows], float)
    shares = _positions(list(values))
    better = shares if found.mode == "max" else [1 - share for share in shares]
    for index in range(len(rows) - 1, -1, -1):  # the best ones on top
        line = [*(own[index] for own in positions), shares[index]]
        axes.plot(range(len(line)), line, color=colormaps["viridis"](better[index]), alpha=0.7)
    axes.set_xticks(range(len(names) + 1), [*names, found.metric], rotation=20)
    axes.set_yticks([0, 1], ["lowest", "highest"])


def _positions(values: Sequence[Any]) -> list[float]:
    """Returns where values are between the lowest (0) and the highest (1), by their logarithm if
    they span more than a factor of 50.
    """
    import numpy as np

    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        order = sorted({str(value) for value in values})
        return [order.index(str(value)) / max(1, len(order) - 1) for value in values]
    numbers = np.asarray(values, float)
    if numbers.min() > 0 and numbers.max() / numbers.min() > 50:
        numbers = np.log(numbers)
    span = numbers.max() - numbers.min()
    return [0.5] * len(numbers) if span == 0 else list((numbers - numbers.min()) / span)


def _curves(axes: Axes, found: StudyTable, runs: Path) -> None:
    """Draws the mean of the metric over seeds, with the range of the seeds as a band."""
    import numpy as np

    for index, row in enumerate(found.settings[:MAX_CURVES]):
        curves = [
            curve
            for name, agent in zip(row["run_names"], row["agents"], strict=True)
            if (curve := _curve(runs / name, found.metric, agent)) is not None
        ]
        if not curves:
            continue
        end = min(steps[-1] for steps, _ in curves)
        grid = np.linspace(max(steps[0] for steps, _ in curves), end, CURVE_POINTS)
        values = np.stack([np.interp(grid, steps, own) for steps, own in curves])
        colour, style = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
        label = words_of(row["settings"]) or "all settings"
        axes.plot(grid, values.mean(0), style, color=colour, label=label)
        if len(curves) > 1:
            axes.fill_between(grid, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="step", ylabel=found.metric)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small", title="mean and range over seeds")


def _curve(directory: Path, metric: str, agent: int | None) -> tuple[np.ndarray, np.ndarray] | None:
    import numpy as np

    try:
        with JournalReader(directory) as reader:
            steps, values = series(reader, metric if agent is None else f"agent/{agent}/{metric}", None)
    except (ConfigError, JournalError):
        return None
    finite = np.isfinite(values)
    if not finite.any():
        return None
    return np.asarray(steps, float)[finite], np.asarray(values, float)[finite]
