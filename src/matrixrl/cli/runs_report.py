"""`matrixrl runs report`: the pages of some runs as one HTML file, to send to somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from matrixrl.cli.progress import say, working
from matrixrl.cli.runs_common import Common, find_folders, perform, runs_of_study, study_named
from matrixrl.config import ConfigError, require
from matrixrl.studies.record import Study
from matrixrl.tracking.numbers import plural
from matrixrl.user_files import UserFileError, display_path, read_text
from matrixrl.whole_files import write_whole

MAX_RUNS = 64


@dataclass(frozen=True, kw_only=True)
class ReportCommand(Common):
    """Write the pages of runs to one HTML file: charts, episodes, settings, console, games.
    It needs no server and no network.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names or ids of runs, patterns such as `'ppo-cartpole*'`, folders, `latest`, or studies: the
    page of a study, and the pages of its best runs.
    """

    output: Path | None = None
    """File to write. Default: `RUN.html` for one run, `report.html` for several."""

    replay: tuple[Path, ...] = ()
    """Scenario files with replays of HackMatrix to include."""

    title: str | None = None
    """Title of the page. Default: the names of the runs."""


def run_command(command: ReportCommand) -> int:
    """Runs the command; returns the exit status."""
    return perform(command, write_report)


def write_report(command: ReportCommand) -> tuple[int, dict[str, Any]]:
    """Writes the report."""
    folders, studies, num_left_out = chosen_runs(command)
    output = command.output or Path(f"{_stem(command, folders, studies)}.html")
    require(not output.is_dir(), f"--output {output}: is a folder; name a file in it")
    replays: dict[str, str] = {}
    for path in command.replay:
        try:
            replays[path.name] = read_text(path)
        except UserFileError as error:
            raise ConfigError(f"--replay {display_path(path)}: {error}") from None
    with working(f"reading {plural(len(folders), 'run')}"):
        from matrixrl.dashboard.report import names_for, report

        systems = {_system_of(folder) for folder in folders}
        require(
            not replays or "hackmatrix" in systems,
            "--replay: none of these runs is one of hackmatrix, with which replays are shown",
        )
        of_studies = [Path(study.location) for study in studies]
        title = command.title or f"{names_for(of_studies or folders)} · matrixrl"
        text = report(folders, title, replays, of_studies)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_whole(output, text)
        except OSError as error:
            raise ConfigError(
                f"--output {output}: {error.strerror or error}; name a file that this user can write"
            ) from error
    size = len(text.encode())
    if not command.json:
        say(f"{output}: {plural(len(folders), 'run')}, {size / 1e6:.2f} MB")
        if num_left_out:
            say(
                f"the pages of {num_left_out:,} other runs of the study are left out, its own page has all trials"
            )
    names = [folder.resolve().name for folder in folders]
    answer: dict[str, Any] = {"output": str(output), "runs": names, "size_bytes": size}
    return 0, answer | ({"studies": [study.name for study in studies]} if studies else {})


def chosen_runs(command: ReportCommand) -> tuple[list[Path], list[Study], int]:
    """Returns the folders of the runs that get pages, the studies, and the number of runs of these
    that do not fit.

    Raises:
        ConfigError: if nothing is named, or there is no such run.
    """
    named = {name: study_named(command.runs_dir, name) for name in command.runs}
    studies = [study for study in named.values() if study is not None]
    alone = [name for name, study in named.items() if study is None]
    folders = find_folders(command.runs_dir, alone, "runs report")
    require(bool(folders or studies), "runs report: name runs; see `matrixrl runs list`")
    require(
        len(folders) <= MAX_RUNS,
        f"runs report: {len(folders)} runs given; at most {MAX_RUNS} fit into one file",
    )
    there = {folder.resolve() for folder in folders}
    others = [folder for study in studies for folder in runs_of_study(study)]
    others = [folder for folder in others if folder.resolve() not in there]
    room = MAX_RUNS - len(folders)
    return [*folders, *others[:room]], studies, max(0, len(others) - room)


def _stem(command: ReportCommand, folders: Sequence[Path], studies: Sequence[Study]) -> str:
    if len(studies) == len(command.runs) == 1:
        return Path(studies[0].location).name
    return folders[0].resolve().name if len(folders) == 1 else "report"


def _system_of(folder: Path) -> str:
    from matrixrl.tracking.identity import read_run_file

    return str((read_run_file(folder) or {}).get("system", ""))
