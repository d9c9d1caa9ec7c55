"""`matrixrl tune FILE`: a search for good settings with Optuna."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.cli.runs_common import number, table
from matrixrl.cli.study_commands import (
    PointChecker,
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
from matrixrl.cli.study_plots import draw_study
from matrixrl.config import ConfigError, settings_toml
from matrixrl.studies.file import Choice, StudyFile, contains, draw, read_study_file
from matrixrl.studies.launcher import best_setting, words_of
from matrixrl.studies.optuna_study import (
    DATABASE,
    PRUNERS,
    SAMPLERS,
    OptunaSource,
    require_optuna,
    require_sampler,
)
from matrixrl.studies.record import Study
from matrixrl.studies.schema import Schema
from matrixrl.studies.store import is_url
from matrixrl.tracking.numbers import percent
from matrixrl.whole_files import write_whole

BEST_FILE = "best.toml"

TRIED_POINTS = 100
"""Number of points of the search space that are tried to find a possible one."""


@dataclass(frozen=True, kw_only=True)
class TuneCommand(StudyCommand):
    """Search for the settings with the best objective. A killed search continues when it is started
    again. The Optuna study is stored in the study's folder, as optuna.db.
    """


def run_command(command: TuneCommand) -> int:
    """Runs the command; returns the exit status."""
    require_optuna()
    require_engine(command)
    file, schema = read_study_file(
        command.file, schema_of, tunes=True, samplers=tuple(SAMPLERS), pruners=tuple(PRUNERS)
    )
    require_sampler(file.tune, str(command.file))
    if "?" in command.location:
        raise ConfigError(
            f"--study-dir {command.location}: a question mark begins options of Optuna's database; name another folder"
        )
    if is_url(command.location):
        raise ConfigError(
            f"--study-dir {command.location}: Optuna's database needs a local folder; give one, and --scratch for "
            "nodes that do not see it"
        )
    checker = PointChecker(file, schema)
    schema, config = checked_schema(file, schema, [possible_point(file, checker)])
    start = start_point(file, schema, checker)
    folder = StudyFolder(command)
    study, is_new = opened_study(command, folder, file, "tune")
    require_environments(file, schema, command, is_new)
    engine = opened_engine(command, folder, study, is_new)
    status = status_of(command)
    try:
        source = OptunaSource(
            study,
            schema,
            f"sqlite:///{folder.folder / DATABASE}",
            file.tune,
            file.space,
            checker.check,
            run_length(config),
            start,
            status.line,
        )
        for line in advice(file, study):
            status.line(line)
        options = options_of(command, folder, file, schema)
        stopped = launch(command, folder, study, source, options, engine, status)
        study.best = best_of(study, source, schema, checker, folder.folder)
        folder.save(study)
        draw_study(study, folder.folder, importance=source.importance())
    finally:
        engine.close()
        folder.close()
    return finish(command, "tune", study, stopped, lambda: best_lines(study))


def possible_point(file: StudyFile, checker: PointChecker) -> dict[str, Any]:
    """Returns a possible point of the search space, always the same.

    Raises:
      ConfigError: if none of `TRIED_POINTS` points is possible.
    """
    generator = random.Random(0)
    first: ConfigError | None = None
    for attempt in range(TRIED_POINTS):
        point = {
            name: dimension.values[0]
            if attempt == 0 and isinstance(dimension, Choice)
            else draw(dimension, generator)
            for name, dimension in file.space.items()
        }
        try:
            checker.check(point)
        except ConfigError as error:
            first = first or error
        else:
            return point
    raise ConfigError(f"{file.path}: no possible point in {TRIED_POINTS} of the search space: {first}")


def start_point(file: StudyFile, schema: Schema, checker: PointChecker) -> dict[str, Any]:
    """Returns the present settings as far as the search space has them: those of [settings],
    otherwise defaults. The search begins there, so that its result is no worse.

    Raises:
      ConfigError: if those that the file names do not fit.
    """
    if not file.tune.start:
        return {}
    try:
        config = checker.read(file.start)
    except ConfigError as error:
        if file.start:
            raise ConfigError(f"{file.path}: [settings]: {error}") from error
        return {}
    present = {name: schema.value_in(config, name) for name in file.space}
    return {name: value for name, value in present.items() if contains(file.space[name], value)}


def advice(file: StudyFile, study: Study) -> list[str]:
    """Returns what a user should know before a search begins."""
    if len(file.seeds) > 1 or file.tune.confirm or study.best is not None:
        return []
    return [
        "one seed per point: the best one may owe its place to luck; give seeds = [1, 2, 3], or confirm = 3 in [tune] to "
        "train the best points again with other seeds"
    ]


def run_length(config: Any) -> int:
    """Returns the number of steps of a run; 0 where it is not known."""
    ppo = getattr(config, "ppo", None)
    if ppo is not None:
        return int(ppo.num_updates)
    demonstration, selfplay = getattr(config, "demonstration", None), getattr(config, "selfplay", None)
    if demonstration is None or selfplay is None:
        return 0
    games = selfplay.num_epochs * selfplay.episodes_per_epoch
    return int(demonstration.pretraining_steps + games * max(config.game.move_limits))


def best_of(
    study: Study, source: OptunaSource, schema: Schema, checker: PointChecker, folder: Path
) -> dict[str, Any] | None:
    """Returns the best settings with the importance of each, and writes them as a settings file."""
    best = best_setting(study)
    if best is None:
        return None
    path = folder / BEST_FILE
    found = checker.read(best["settings"])
    objective = study.objective
    assert objective is not None
    comment = (
        f"Best settings of {study.name}, {objective.metric} {best['objective']:.6g}, "
        f"for: matrixrl {schema.command} --config FILE"
    )
    write_whole(path, settings_toml(found, comment))
    return {**best, "config": str(path), "importance": source.importance()}


def best_lines(study: Study) -> list[str]:
    """Returns the best settings, and the importance of each setting, as lines."""
    best = study.best
    if best is None:
        return ["no point has finished yet"]
    rows = [[name, percent(share)] for name, share in best.get("importance", {}).items()]
    lines = ["", *table(["setting", "importance"], rows, right=(1,)), ""] if rows else [""]
    if "search_objective" in best:
        seeds = ", ".join(map(str, best["confirmed"][0]["seeds"]))
        lines.append(
            f"confirmed {number(best['objective'])} at seeds {seeds} (search: {number(best['search_objective'])})"
        )
    return [*lines, f"best      {words_of(best['settings'])}", f"settings  {best['config']}"]
