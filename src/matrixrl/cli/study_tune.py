"""`matrixrl tune FILE`: a search for good settings with Optuna."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrixrl.cli.runs_common import table
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
    schema_of,
)
from matrixrl.cli.study_plots import draw_study
from matrixrl.config import ConfigError, settings_toml
from matrixrl.studies.file import Choice, StudyFile, draw, read_study_file
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
    if is_url(command.location):
        raise ConfigError(
            f"--study-dir {command.location}: Optuna's database needs a local folder; give one, and --scratch for "
            "nodes that do not see it"
        )
    schema, config = checked_schema(file, schema, [possible_point(file)])
    folder = StudyFolder(command)
    study, is_new = opened_study(command, folder, file, "tune")
    engine = opened_engine(command, folder, study, is_new)

    def check(settings: Mapping[str, Any]) -> None:
        schema.rebuilt(config, settings)

    try:
        storage = f"sqlite:///{folder.folder / DATABASE}"
        length = run_length(config)
        source = OptunaSource(study, schema, storage, file.tune, file.space, check, length)
        options = options_of(command, folder, file, schema)
        stopped = launch(command, folder, study, source, options, engine)
        study.best = best_of(study, source, schema, config, folder.folder)
        folder.save(study)
        draw_study(study, folder.folder, importance=source.importance())
    finally:
        folder.close()
    return finish(command, "tune", study, stopped, lambda: best_lines(study))


def possible_point(file: StudyFile) -> dict[str, Any]:
    """Returns a point of the search space, always the same: the settings are checked with it."""
    generator = random.Random(0)
    return {
        name: dimension.values[0] if isinstance(dimension, Choice) else draw(dimension, generator)
        for name, dimension in file.space.items()
    }


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
    study: Study, source: OptunaSource, schema: Schema, config: Any, folder: Path
) -> dict[str, Any] | None:
    """Returns the best settings with the importance of each, and writes them as a settings file."""
    best = best_setting(study)
    if best is None:
        return None
    path = folder / BEST_FILE
    found = schema.rebuilt(config, best["settings"])
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
    return [*lines, f"best      {words_of(best['settings'])}", f"settings  {best['config']}"]
