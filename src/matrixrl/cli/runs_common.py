"""Shared by the `matrixrl runs` commands: their flags, how they answer, tables, and names of
metrics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from matrixrl.cli.progress import complain
from matrixrl.config import ConfigError
from matrixrl.studies.record import Study, read_study
from matrixrl.studies.table import study_table
from matrixrl.tracking.identity import find_run, read_run_file, run_folders
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.numbers import significant
from matrixrl.tracking.spec import SystemSpec, is_metric


@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags of every command."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    json: bool = False
    """Print one JSON object as the last line of output."""


CommandT = TypeVar("CommandT", bound=Common)


def perform(command: CommandT, function: Callable[[CommandT], tuple[int, dict[str, Any]]]) -> int:
    """Runs a command and prints its answer for scripts.

    Returns:
        The exit status of the function; 2 for bad input (one line on stderr).
    """
    try:
        status, answer = function(command)
    except (ConfigError, TrackingError) as error:
        complain(str(error))
        return 2
    if command.json:
        print(json.dumps(answer))
    return status


def find_folder(runs_dir: Path, reference: str, flag: str) -> Path:
    """Returns the folder of a run that is named by its name, its id, `latest`, or a path.

    Raises:
        ConfigError: if there is no such run.
    """
    path = Path(reference)
    if "/" in reference and read_run_file(path) is not None:
        return path
    return find_run(runs_dir, reference, flag=flag)


def study_named(runs_dir: Path, reference: str) -> Study | None:
    """Returns the study that is named by its folder, or by its name in the runs folder; None if
    there is none.

    Raises:
        ConfigError: if its record cannot be read.
    """
    for folder in (Path(reference), runs_dir / reference):
        study = read_study(folder) if folder.is_dir() else None
        if study is not None:
            study.location = str(folder.resolve())  # it may have been moved
            return study
    return None


def runs_of_study(study: Study, settings: int | None = None) -> list[Path]:
    """Returns the folders of the runs of a study, those of the best settings first.

    Args:
        settings: maximum number of settings; None for all.

    Raises:
        ConfigError: if no run has started yet.
    """
    names = [name for row in study_table(study).settings[:settings] for name in row["run_names"]]
    runs = Path(study.runs)
    found = [runs / name for name in dict.fromkeys(names) if read_run_file(runs / name) is not None]
    if not found:
        raise ConfigError(f"study {study.name}: none of its runs has started yet; see `matrixrl runs list`")
    return found


def find_folders(
    runs_dir: Path, references: Iterable[str], flag: str, settings: int | None = None
) -> list[Path]:
    """Returns the folders of several runs, each once, in the order given. A name with `*`, `?` or
    `[` is a pattern for names; the name of a study stands for its runs.

    Args:
        settings: maximum number of settings of a study, the best ones; None for all.

    Raises:
        ConfigError: if one of them names no run and no study.
    """
    found: dict[Path, Path] = {}
    for reference in references:
        if set(reference) & set("*?[") and "/" not in reference:
            matching = [folder for folder in run_folders(runs_dir) if matches(folder.name, [reference])]
            if not matching:
                raise ConfigError(
                    f"{flag} {reference}: no run of this name in {runs_dir}; see `matrixrl runs list`"
                )
        elif (study := study_named(runs_dir, reference)) is not None:
            matching = runs_of_study(study, settings)
        else:
            matching = [find_folder(runs_dir, reference, flag)]
        for folder in matching:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Returns whether a name fits one of the patterns (`*`, `?`, `[...]`); upper and lower case
    differ.
    """
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in patterns)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Returns the lines of a table.

    Args:
        right: numbers of the columns that are aligned to the right.
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    aligned = set(right)
    return [
        "  ".join(
            cell.rjust(width) if column in aligned else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    ]


def number(value: Any) -> str:
    """Returns a value of a metric for people: three significant digits, whole numbers in full."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return significant(int(value) if float(value).is_integer() and abs(value) < 1e15 else value)


def shortened(text: str, width: int) -> str:
    """Returns a text of at most `width` characters, with `…` for what is left out of its middle."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :] if tail else ''}"


def main_metrics(spec: SystemSpec | None, there: Iterable[str]) -> list[str]:
    """Returns the main metrics that a run has, under the names that it recorded; those of each
    problem size if there are several.
    """
    there = list(there)
    found = []
    for name in () if spec is None else spec.charts:
        for stem in (name, *(spec.old_names(name) if spec is not None else ())):
            found += [other for other in there if is_metric(other, stem)]
    return list(dict.fromkeys(found))


def names_of(name: str, spec: SystemSpec | None) -> list[str]:
    """Returns the names under which a run may have recorded a metric."""
    if spec is None:
        return [name]
    return list(dict.fromkeys([name, spec.current_name(name), *spec.old_names(name)]))
