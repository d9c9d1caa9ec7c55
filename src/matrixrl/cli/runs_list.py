"""`matrixrl runs list`: all runs of a folder, sorted and filtered."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matrixrl.cli.runs_common import Common, matches, number, perform, table
from matrixrl.cli.runs_studies import show_study, studies_of, study_lines
from matrixrl.config import ConfigError, require
from matrixrl.tracking.identity import read_run_file, run_folders
from matrixrl.tracking.spec import recorded_spec
from matrixrl.tracking.summary import RunSummary, State, summarize

SortKey = Literal["name", "state", "system", "steps", "best", "age"]

HEAD = ("run", "id", "state", "steps", "episodes", "best", "pending", "last active")


@dataclass(frozen=True, kw_only=True)
class List(Common):
    """List runs with their state, best value and rows that wait for a tracker."""

    sort: SortKey | None = None
    """Order: name, state or system from A to Z, the most steps first, the best value first, or the
    last active first (`age`). Default: the run that was started or resumed last at the end.
    """

    reverse: bool = False
    """Reverse the order."""

    system: tuple[str, ...] = ()
    """Only runs of these systems, such as `ppo`."""

    state: tuple[State, ...] = ()
    """Only runs in these states."""

    name: tuple[str, ...] = ()
    """Only runs whose name matches one of these patterns, such as `'ppo-cartpole*'`."""

    study: str | None = None
    """Only the trials of this study: its folder, or its name in the runs folder."""

    limit: int | None = None
    """Maximum number of runs: the first ones of the order of `--sort`, otherwise the newest
    ones.
    """

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, f"--limit {self.limit}: must be 1 or more")


def run_command(command: List) -> int:
    """Runs the command; returns the exit status."""
    return perform(command, list_runs)


def list_runs(command: List) -> tuple[int, dict[str, Any]]:
    """Prints a table of the runs, and one of the studies in the folder."""
    if command.study is not None:
        return show_study(command.study, command.runs_dir, command.limit, json=command.json)
    summaries = selected(command)
    chosen = command.system or command.state or command.name
    studies = [] if chosen else studies_of(command.runs_dir)
    if not command.json:
        if studies:
            print("\n".join([*study_lines(studies), ""]))
        if not summaries and not studies:
            print(f"no {'such ' if chosen else ''}runs in {command.runs_dir}")
        elif summaries:
            print("\n".join(summary_table(summaries)))
    return 0, {
        "runs": [dataclasses.asdict(summary) for summary in summaries],
        "studies": [{"name": study.name, "study_dir": study.location, **study.counts()} for study in studies],
    }


def selected(command: List) -> list[RunSummary]:
    """Returns the summaries of the runs that the flags select, in the requested order."""
    folders = run_folders(command.runs_dir)
    if command.name:
        folders = [folder for folder in folders if matches(folder.name, command.name)]
    if command.system:
        folders = [folder for folder in folders if _system(folder) in command.system]
    newest = command.limit if command.sort is None else None
    if newest is not None and not command.state:
        folders = folders[-newest:]  # the others need not be read
    found = [(folder, summarize(folder)) for folder in folders]
    if command.state:
        found = [(folder, summary) for folder, summary in found if summary.state in command.state]
    if command.sort is not None:
        found.sort(key=_key(command.sort))
    if newest is not None:
        found = found[-newest:]
    if command.reverse:
        found.reverse()
    if command.sort is not None:
        found = found[: command.limit]
    return [summary for _, summary in found]


def _system(folder: Path) -> str:
    return str((read_run_file(folder) or {}).get("system", ""))


def _key(sort: SortKey) -> Callable[[tuple[Path, RunSummary]], tuple[Any, ...]]:
    """Returns the sort key of a run; equal ones are in the order of their names."""

    def key(item: tuple[Path, RunSummary]) -> tuple[Any, ...]:
        folder, run = item
        match sort:
            case "name":
                return (run.name,)
            case "state":
                return run.state, run.name
            case "system":
                return run.system, run.name
            case "steps":
                return -run.last_step, run.name
            case "age":
                return -run.last_activity, run.name
            case "best":
                if run.best is None:
                    return True, "", 0.0, run.name
                # Values of different measures cannot be compared.
                return False, run.best_label, run.best if is_lowest_best(folder) else -run.best, run.name

    return key


def is_lowest_best(folder: Path) -> bool:
    """Returns whether lower values of a run's best metric are better."""
    try:
        spec = recorded_spec(read_run_file(folder) or {}, str(folder))
    except ConfigError:
        return False
    return spec is not None and spec.best is not None and spec.best.lowest


def summary_table(summaries: list[RunSummary]) -> list[str]:
    """Returns the lines of the table of runs."""
    return table(HEAD, [_row(summary) for summary in summaries])


def _row(summary: RunSummary) -> list[str]:
    best = "-" if summary.best is None else f"{summary.best_label} {number(summary.best)}"
    pending = "-" if summary.pending_rows is None else f"{summary.pending_rows:,}"
    active = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.last_activity))
    return [
        summary.name,
        summary.run_id,
        summary.state,
        f"{summary.last_step:,}",
        f"{summary.episodes:,}",
        best,
        pending,
        active,
    ]
