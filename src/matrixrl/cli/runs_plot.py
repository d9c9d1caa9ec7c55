"""`matrixrl runs plot`: curves of a metric with bands over agents and runs, as PNG or SVG."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from matrixrl.cli.progress import say, working
from matrixrl.cli.runs_common import Common, find_folders, names_of, perform, study_named
from matrixrl.cli.runs_compare import comparable_settings
from matrixrl.config import ConfigError, require
from matrixrl.config.records import MACHINE
from matrixrl.studies.file import SPECIAL
from matrixrl.studies.record import Study
from matrixrl.studies.table import study_table
from matrixrl.tracking.agents import AGENT, grid_of, label_of
from matrixrl.tracking.identity import read_run_file
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader, training_seconds
from matrixrl.tracking.numbers import plural
from matrixrl.whole_files import whole_file

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

Band = Literal["interval", "interquartile", "none"]

FORMS = (".png", ".svg")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Palette of Okabe and Ito, which people with colour-blindness can tell apart."""

LINES = ("-", "--", "-.", ":")
"""Line styles: a second difference, for print without colour."""

MAX_SETTINGS = 8
"""Number of settings of a study that are plotted, the best ones."""

GRID_POINTS = 1000
"""Number of points on which curves with different steps are averaged."""

UNITS = (
    ("_per_second", "1/s"),
    ("_seconds", "s"),
    ("_overhead_pct", "%"),
    ("_pct", "%"),
    ("_bytes", "bytes"),
    ("_mb", "MB"),
)
"""Units of metrics by the end of their names."""

MACHINE_PARTS = (*MACHINE, "processes", "devices", "checkpoint", "tracking", "sweep_group")
"""Settings that do not change what is trained: runs that differ in them alone share a curve."""


@dataclass(frozen=True, kw_only=True)
class Plot(Common):
    """Plot a metric of runs, with bands over agents and over runs of equal settings."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names or ids of runs, patterns such as `'ppo-cartpole*'`, folders, `latest`, or studies,
    whose best settings are plotted. Runs of equal settings, except for the seed, are one curve.
    """

    metric: str | None = None
    """Metric to plot, such as `episode/return`. Default: the objective's of a study, otherwise the
    one that `runs list` judges runs by.
    """

    output: Path = Path("plot.png")
    """File to write: PNG or SVG, by its ending."""

    band: Band = "interval"
    """Band around each curve.
    `interval`: mean and its 95 % confidence interval. `interquartile`: interquartile mean, and the
    middle half of the agents. `none`: the mean alone.
    """

    x: Literal["step", "time"] = "step"
    """Horizontal axis: the step of the run, or its time in training."""

    smooth: int = 1
    """Number of neighbouring points of an agent that are averaged. 1 plots the recorded values."""

    log: bool = False
    """Logarithmic vertical axis."""

    title: str | None = None
    """Title. Default: none."""

    size: tuple[float, float] = (6.4, 4.0)
    """Width and height in inches; a column of a journal is about 3.4 wide."""

    dpi: int = 300
    """Pixels per inch of a PNG."""

    def __post_init__(self) -> None:
        require(
            self.output.suffix.lower() in FORMS,
            f"--output {self.output}: must end in {' or '.join(FORMS)}",
        )
        require(self.smooth >= 1, f"--smooth {self.smooth}: must be 1 or more")
        require(
            all(1.5 <= side <= 40 for side in self.size),
            f"--size {self.size[0]:g} {self.size[1]:g}: each must be from 1.5 to 40 inches",
        )
        require(50 <= self.dpi <= 1200, f"--dpi {self.dpi}: must be from 50 to 1200")


@dataclass(frozen=True)
class Member:
    """The curve of one agent.

    Attributes:
        settings: of its training without the seed; members that share them are averaged.
        run: name of its run.
        steps: in order.
        seconds: time in training at each step.
        values: of the metric.
    """

    settings: Mapping[str, Any]
    run: str
    steps: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Group:
    """Curves of equal settings."""

    label: str
    members: list[Member]


@dataclass(frozen=True)
class PlottedLine:
    """What is drawn of a group; `low` and `high` are None without a band."""

    xs: np.ndarray
    centre: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def run_command(command: Plot) -> int:
    """Runs the command; returns the exit status."""
    return perform(command, plot)


def plot(command: Plot) -> tuple[int, dict[str, Any]]:
    """Writes the plot."""
    _require_matplotlib()
    folders = find_folders(command.runs_dir, command.runs, "runs plot", MAX_SETTINGS)
    require(bool(folders), "runs plot: name runs; see `matrixrl runs list`")
    studies = [study for name in command.runs if (study := study_named(command.runs_dir, name)) is not None]
    metric = command.metric or objective_metric(studies) or main_metric(folders[0])
    with working(f"plotting {metric} of {plural(len(folders), 'run')}"):
        members = [member for folder in folders for member in read_members(folder, metric)]
        if not members:
            raise ConfigError(
                f"--metric {metric}: none of these runs has it; they have {_there(folders) or 'no metrics'}"
            )
        groups = grouped(members)
        lines = [line_of(group.members, command.x, command.smooth, command.band) for group in groups]
        _write(command, metric, groups, lines)
    if not command.json:
        for group in groups:
            say(f"{group.label}: {_counted(group)}")
        for study in studies:
            count = len(study_table(study).settings)
            if count > MAX_SETTINGS:
                say(
                    f"study {study.name}: the {MAX_SETTINGS} best of {count:,} settings; name its runs to plot others"
                )
        say(str(command.output))
    return 0, {
        "output": str(command.output),
        "metric": metric,
        "curves": [
            {
                "label": group.label,
                "agents": len(group.members),
                "runs": list(dict.fromkeys(member.run for member in group.members)),
            }
            for group in groups
        ],
    }


def objective_metric(studies: Sequence[Study]) -> str | None:
    """Returns the metric of the objective of the first study; None if that is no metric."""
    objective = studies[0].objective if studies else None
    return None if objective is None or objective.metric in SPECIAL else objective.metric


def main_metric(directory: Path) -> str:
    """Returns the metric by which a run is judged.

    Raises:
        ConfigError: if its system names none.
    """
    with JournalReader(directory) as reader:
        spec = reader.spec
    found = None if spec is None or spec.best is None else spec.best.metric
    if found is None:
        raise ConfigError(f"runs plot {directory.name}: its system names no main metric; give --metric NAME")
    return found


def _require_matplotlib() -> None:
    import importlib.util

    require(
        importlib.util.find_spec("matplotlib") is not None,
        "runs plot: needs matplotlib, which is not installed here; install matrixrl with the extra plots "
        "(pip install 'matrixrl[plots]')",
    )


def _there(folders: Sequence[Path]) -> str:
    """Returns the metrics of runs, without those of single agents."""
    from matrixrl.tracking.series import read_series

    found: dict[str, None] = {}
    for folder in folders:
        with JournalReader(folder) as reader:
            names, _ = read_series(reader, lambda name: False)
        found |= dict.fromkeys(name for name in names if not re.match(r"(agent|setting)/\d+/", name))
    return ", ".join(list(found)[:40])


# Reading


def read_members(directory: Path, metric: str) -> list[Member]:
    """Returns the curves of the agents of a run; none if it does not have the metric."""
    with JournalReader(directory) as reader:
        try:
            names = names_of(metric, reader.spec)
        except ConfigError:  # the spec of a later version
            names = [metric]
        try:
            config = reader.config()
        except JournalError:
            config = (read_run_file(directory) or {}).get("config") or {}
        attempts = reader.attempts()
        columns: dict[str, tuple[list[float], list[float], list[float]]] = {}
        for row in reader.stream(containing=[f'{_inner(name)}":' for name in names]):
            of_run: dict[str, float] = {}
            of_agents: dict[str, float] = {}
            for name, value in row.metrics.items():
                match = AGENT.fullmatch(name)
                stem = match[2] if match else name
                if stem in names and isinstance(value, int | float) and math.isfinite(value):
                    (of_agents if match else of_run)[match[1] if match else ""] = float(value)
            seconds = training_seconds(attempts, row.attempt, row.time)
            x = row.metrics.get("Epoch", row.step) if metric.startswith("epoch_") else row.step
            for agent, value in (of_agents or of_run).items():
                steps, times, values = columns.setdefault(agent, ([], [], []))
                steps.append(float(x))
                times.append(seconds)
                values.append(value)
    system = str(reader.meta.get("system", ""))
    return [
        Member(_settings(system, config, agent), directory.name, *lists)
        for agent, lists in columns.items()
        if agent or len(columns) == 1
    ]


def _inner(name: str) -> str:
    return json.dumps(name)[1:-1]


def _settings(system: str, config: Mapping[str, Any], agent: str) -> dict[str, Any]:
    """Returns the settings of an agent, without its seed and the machine."""
    found = {
        name: value
        for name, value in comparable_settings(system, config).items()
        if name.partition(".")[0] not in MACHINE_PARTS and not name.startswith("version_")
    }
    grid = grid_of(config)
    for name in ("seed", "num_seeds", "sweep"):
        found.pop(name, None)
    if agent:
        for name, value in grid.points[grid.point_of(int(agent))].items():
            # Under the name that a run without a grid records, so that both share a curve.
            known = next((key for key in found if key.rpartition(".")[2] == name), name)
            found[known] = float(value)
    return found


def grouped(members: Sequence[Member]) -> list[Group]:
    """Returns the members by their settings, labelled by what differs."""
    found: dict[str, list[Member]] = {}
    for member in members:
        found.setdefault(json.dumps(member.settings, sort_keys=True, default=str), []).append(member)
    groups = list(found.values())
    names = {name for group in groups for name in group[0].settings}
    differing = [
        name
        for name in sorted(names)
        if len({json.dumps(group[0].settings.get(name), default=str) for group in groups}) > 1
    ]
    labels = []
    for group in groups:
        point = {
            name.rpartition(".")[2]: _shown(group[0].settings.get(name))
            for name in differing
            if name in group[0].settings
        }
        # Many differences make no legend: then the names of runs say more.
        runs = list(dict.fromkeys(member.run for member in group))
        label = label_of(point) if 0 < len(point) <= 3 else ", ".join(runs[:2]) + ("..." if runs[2:] else "")
        labels.append(label)
    return [
        Group(label if labels.count(label) == 1 else f"{label} ({group[0].run})", group)
        for label, group in zip(labels, groups, strict=True)
    ]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# Averaging


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the mean of `window` neighbours of each value, fewer at both ends."""
    import numpy as np

    if window == 1:
        return values
    kernel = np.ones(min(window, values.size))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def line_of(members: Sequence[Member], axis: str, window: int, band: Band) -> PlottedLine:
    """Returns the centre and the band of a group.

    Curves of the same steps are averaged step by step; others are interpolated, each within its own
    range only.
    """
    import numpy as np

    curves = []
    for member in members:
        xs = np.asarray(member.steps if axis == "step" else member.seconds)
        # Of a clock that was set back, only what is in order.
        xs = np.maximum.accumulate(xs)
        curves.append((xs, smoothed(np.asarray(member.values), window)))
    every = np.unique(np.concatenate([xs for xs, _ in curves]))
    same = all(xs.size == every.size for xs, _ in curves)
    if not same and every.size > GRID_POINTS:
        every = np.linspace(every[0], every[-1], GRID_POINTS)
    rows = np.stack([np.interp(every, xs, ys, left=np.nan, right=np.nan) for xs, ys in curves])
    known = ~np.isnan(rows).all(0)  # between the end of a curve and the start of another there is none
    return PlottedLine(every[known], *centre_and_band(rows[:, known], band))


def centre_and_band(rows: np.ndarray, band: Band) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Returns the centre of values [agents, points] and the bounds of the band.

    Where fewer than two agents have a value, the band is empty.
    """
    import numpy as np

    from matrixrl.systems.ppo.intervals import Z_95, interquartile_mean

    counts = (~np.isnan(rows)).sum(0)
    mean = np.nansum(rows, 0) / counts
    if band == "none" or rows.shape[0] == 1:
        return mean, None, None
    if band == "interquartile":
        columns = [column[~np.isnan(column)] for column in rows.T]
        centre = np.array([interquartile_mean(column) for column in columns])
        quartiles = np.array([np.quantile(column, (0.25, 0.75)) for column in columns])
        return centre, quartiles[:, 0], quartiles[:, 1]
    spread = np.sqrt(np.nansum((rows - mean) ** 2, 0) / np.maximum(counts - 1, 1))
    half = Z_95 * spread / np.sqrt(counts)
    return mean, mean - half, mean + half


# Drawing


def _counted(group: Group) -> str:
    runs = len({member.run for member in group.members})
    return f"{plural(len(group.members), 'agent')} of {plural(runs, 'run')}"


def _write(command: Plot, metric: str, groups: Sequence[Group], lines: Sequence[PlottedLine]) -> None:
    """Draws the curves and writes the file whole.

    Raises:
        ConfigError: if it cannot be written, or `--log` has nothing to show.
    """
    import matplotlib
    from matplotlib.figure import Figure

    require(
        not command.log or any((line.centre > 0).any() for line in lines),
        f"--log: {metric} has no value above 0; leave the flag out",
    )
    style: dict[Any, Any] = {
        "font.size": 10,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "matrixrl",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=command.size, layout="constrained")
        axes = figure.add_subplot()
        scale, unit = _time_unit(lines) if command.x == "time" else (1.0, "")
        has_band = False
        for index, (group, line) in enumerate(zip(groups, lines, strict=True)):
            has_band |= _draw(axes, index, group, line, scale)
        if command.log:
            axes.set_yscale("log")
        axes.grid(visible=True, color="#d9d9d9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.01)
        axes.set_xlabel(f"time in training ({unit})" if unit else _step_label(metric))
        axes.set_ylabel(_with_unit(metric))
        if not unit:
            _short_ticks(axes)
        if command.title:
            axes.set_title(command.title)
        note = _note(command, has_band)
        legend = axes.legend(title=note, alignment="left", fontsize=9, title_fontsize=8)
        legend.get_frame().set(edgecolor="none", alpha=0.85)
        legend.get_title().set_color("#555555")
        try:
            command.output.parent.mkdir(parents=True, exist_ok=True)
            form = command.output.suffix.lower().removeprefix(".")
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            with whole_file(command.output) as draft:
                figure.savefig(draft, format=form, dpi=command.dpi, metadata=metadata)
        except OSError as error:
            raise ConfigError(
                f"--output {command.output}: {error.strerror or error}; name a file that this user can write"
            ) from error


def _draw(axes: Axes, index: int, group: Group, line: PlottedLine, scale: float) -> bool:
    """Draws a group; returns whether it has a band."""
    colour, style = COLOURS[index % len(COLOURS)], LINES[index // len(COLOURS) % len(LINES)]
    xs = line.xs / scale
    marker = "o" if line.xs.size == 1 else None
    label = f"{group.label} ({_counted(group)})"
    axes.plot(xs, line.centre, style, color=colour, linewidth=1.6, marker=marker, label=label, zorder=3)
    if line.low is None or line.high is None:
        return False
    axes.fill_between(xs, line.low, line.high, color=colour, alpha=0.2, linewidth=0, zorder=2)
    return True


def _note(command: Plot, has_band: bool) -> str | None:
    """Returns what curves and bands are, for the legend."""
    words = []
    if has_band and command.band == "interval":
        words.append("mean, 95 % confidence interval")
    elif has_band and command.band == "interquartile":
        words.append("interquartile mean, middle half")
    if command.smooth > 1:
        words.append(f"mean of {command.smooth} points")
    return "; ".join(words) or None


def _step_label(metric: str) -> str:
    return "epoch" if metric.startswith("epoch_") else "step"


def _with_unit(metric: str) -> str:
    unit = next((unit for end, unit in UNITS if metric.endswith(end)), "")
    words = metric.replace("_", " ")
    return f"{words} ({unit})" if unit else words


def _time_unit(lines: Sequence[PlottedLine]) -> tuple[float, str]:
    """Returns the number of seconds of the unit that fits the longest curve, and its name."""
    longest = max(float(line.xs[-1]) for line in lines)
    for seconds, name in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if longest >= 2 * seconds:
            return seconds, name
    return 1.0, "s"


def _short_ticks(axes: Axes) -> None:
    """Labels large steps as 200k and 1.5M."""

    def text(value: float, _: float) -> str:
        for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= scale:
                return f"{value / scale:g}{letter}"
        return f"{value:g}"

    axes.xaxis.set_major_formatter(text)
