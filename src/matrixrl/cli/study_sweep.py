"""`matrixrl sweep FILE`: a grid, a random sample or a list of settings, times seeds."""

from __future__ import annotations

from dataclasses import dataclass

from matrixrl.cli.study_commands import (
    StudyCommand,
    StudyFolder,
    checked_schema,
    finish,
    launch,
    opened_engine,
    opened_study,
    options_of,
    require_engine,
    require_environments,
    schema_of,
    status_of,
)
from matrixrl.studies.file import read_study_file
from matrixrl.studies.launcher import ListSource
from matrixrl.studies.trials import plan_trials


@dataclass(frozen=True, kw_only=True)
class SweepCommand(StudyCommand):
    """Train every point of a study file with every seed. A killed sweep continues when it is
    started again.
    """


def run_command(command: SweepCommand) -> int:
    """Runs the command; returns the exit status."""
    require_engine(command)
    file, schema = read_study_file(command.file, schema_of)
    schema, _ = checked_schema(file, schema, list(file.points))
    folder = StudyFolder(command)
    study, is_new = opened_study(command, folder, file, "sweep")
    require_environments(file, schema, command, is_new)
    done = [member.key for trial in study.trials for member in trial.members]
    for plan in plan_trials(file, schema, done):
        study.add(plan)
    engine = opened_engine(command, folder, study, is_new)
    try:
        options = options_of(command, folder, file, schema)
        stopped = launch(command, folder, study, ListSource(study), options, engine, status_of(command))
    finally:
        folder.close()
    return finish(command, "sweep", study, stopped, list)
