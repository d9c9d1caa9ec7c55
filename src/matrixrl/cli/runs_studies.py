"""Studies in `matrixrl runs list`: a line for each study of a folder, and the trials of one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from matrixrl.cli.runs_common import number, study_named, table
from matrixrl.config import ConfigError
from matrixrl.studies.launcher import words_of
from matrixrl.studies.record import Study, read_study, study_folders
from matrixrl.studies.table import StudyTable, state_of, study_table
from matrixrl.tracking.numbers import duration, plural

STUDY_HEAD = ("study", "command", "trials", "state", "best", "with")


def find_study(reference: str, runs_dir: Path) -> Study:
    """Returns a study that is named by its folder, or by its name in the runs folder.

    Raises:
      ConfigError: if there is none; the message names what there is.
    """
    study = study_named(runs_dir, reference)
    if study is not None:
        return study
    there = ", ".join(folder.name for folder in study_folders(runs_dir)[-3:]) or "none"
    raise ConfigError(
        f"--study {reference}: no study there, nor of this name in {runs_dir} (studies there: {there})"
    )


def studies_of(runs_dir: Path) -> list[Study]:
    """Returns the studies of a folder; one whose record cannot be read is left out."""
    found = []
    for folder in study_folders(runs_dir):
        try:
            study = read_study(folder)
        except ConfigError:
            continue
        if study is not None:
            found.append(study)
    return found


def study_lines(studies: list[Study]) -> list[str]:
    """Returns a table with a line for each study."""
    rows = []
    for study in studies:
        found = study_table(study)
        done = found.counts["finished"] + found.counts["failed"] + found.counts["pruned"]
        best = found.best
        value = "-" if best is None else f"{found.metric} {number(best['objective'])}"
        settings = "-" if best is None else words_of(best["settings"]) or "-"
        count = f"{done:,} of {len(study.trials):,}"
        rows.append([study.name, found.command, count, state_of(study), value, settings])
    return table(STUDY_HEAD, rows)


def trials_table(found: StudyTable, limit: int | None = None) -> list[str]:
    """Returns the table of a study's trials.

    Args:
      limit: maximum number of rows: the newest ones.
    """
    names = [name for name in found.columns if name != "seed"]
    rows = []
    for row in found.rows if limit is None else found.rows[-limit:]:
        run = row["run_name"] if row["agent"] is None else f"{row['run_name']} agent {row['agent']}"
        values = [setting_text(row["settings"].get(name)) for name in names]
        seed, objective = str(row["settings"]["seed"]), number(row["objective"])
        status = f"{row['status']}, confirms" if row.get("confirms") else row["status"]
        rows.append([run, *values, seed, status, objective, duration(row["seconds"])])
    return table(["run", *names, "seed", "status", found.metric or "objective", "time"], rows)


def setting_text(value: Any) -> str:
    """Returns the value of a setting for a table."""
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_study(
    reference: str, runs_dir: Path, limit: int | None, *, json: bool
) -> tuple[int, dict[str, Any]]:
    """Prints the trials of a study. Returns exit status and answer of the command."""
    study = find_study(reference, runs_dir)
    found = study_table(study)
    if not json:
        counts = ", ".join(f"{count:,} {state}" for state, count in found.counts.items() if count)
        print(
            f"study {study.name}, {found.command}: {plural(len(study.trials), 'trial')}, {counts or 'none yet'}"
        )
        print("\n".join(trials_table(found, limit)))
        if found.best is not None:
            print(
                f"best {number(found.best['objective'])} with {words_of(found.best['settings']) or 'these settings'}"
            )
    return 0, {"study": dataclasses.asdict(found), "runs": [row["run_name"] for row in found.rows]}
