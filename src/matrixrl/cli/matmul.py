"""`matrixrl matmul train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matrixrl import presets
from matrixrl.cli import session
from matrixrl.cli.processes import agreed_settings
from matrixrl.cli.settings import read_settings
from matrixrl.config import MatmulConfig
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.numbers import duration, plural

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.matmul.discoveries import Discoveries
    from matrixrl.systems.matmul.program import MatmulProgram
    from matrixrl.systems.matmul.state import MatmulState
    from matrixrl.systems.matmul.trainer import MatmulTrainer
    from matrixrl.tracking.recorder import Recorder

BENCHMARK_EPOCHS = 3


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs the subcommand; returns its exit status."""
    del name
    return train(*agreed_settings(MatmulConfig, arguments, read_config))


def read_config(arguments: Sequence[str]) -> MatmulConfig:
    """Reads the settings from a command line."""
    return read_settings(
        MatmulConfig,
        arguments,
        presets.MATMUL,
        "quick",
        system="matmul",
        description="Discover an algorithm for matrix multiplication or another tensor: demonstrations, self-play, proof.",
    )


def train(config: MatmulConfig, coordinator: Coordinator = SINGLE) -> int:
    """Trains, and prints the schemes found. Returns the exit status."""
    if not config.benchmark:
        return session.train(matmul_session(config), coordinator)
    from matrixrl.cli.benchmark import benchmark_tracking

    # Compare equal amounts of training: do not stop at a find. This length suffices for it.
    selfplay = dataclasses.replace(
        config.selfplay,
        num_epochs=min(config.selfplay.num_epochs, BENCHMARK_EPOCHS),
        stop_at_record=False,
        stop_at_rank=None,
    )
    return benchmark_tracking(matmul_session(dataclasses.replace(config, selfplay=selfplay, benchmark=False)))


def matmul_session(config: MatmulConfig) -> session.Session[MatmulConfig, MatmulTrainer]:
    """Returns the matmul session of the shared command; its trainers, created from one config in
    turn, share programs.
    """
    compiled: dict[MatmulConfig, MatmulProgram] = {}

    def program(config: MatmulConfig) -> MatmulProgram:
        from matrixrl.systems.matmul.program import MatmulProgram

        if config not in compiled:
            compiled.clear()
            compiled[config] = MatmulProgram(config)
        return compiled[config]

    def make_trainer(config: MatmulConfig, run: Recorder) -> MatmulTrainer:
        from matrixrl.systems.matmul.discoveries import Discoveries
        from matrixrl.systems.matmul.trainer import MatmulTrainer

        provenance = {
            "source": f"matrixrl {config.preset}, seed {config.seed}",
            "shown": config.demonstration.shown,
            "run": run.name,
            "run_id": run.run_id,
        }
        # A run of one problem has plain file names.
        several = len(config.game.problems) > 1
        discoveries = [
            Discoveries(run.directory, provenance, f"scheme_{problem}" if several else "scheme")
            for problem in config.game.problems
        ]
        return MatmulTrainer(config, discoveries, program(config))

    def summarize(trainer: MatmulTrainer, state: MatmulState, seconds: float) -> str:
        from matrixrl.systems.matmul.discoveries import COUNTING_SECONDS

        lines = []
        # A run that was asked to stop has little time left, and may be resumed later.
        counting = COUNTING_SECONDS / len(trainer.discoveries) if trainer.finished(state) else 0.0
        for number, found in enumerate(trainer.discoveries):
            found.finalize()
            lines.append(summary(trainer.config, number, found, seconds, counting))
        return "\n".join(lines)

    return session.Session(
        system="matmul",
        name_prefix=f"matmul-{config.game.name}",
        config=config,
        learning_rate="optimizer.learning_rate",
        about={"shown": config.demonstration.shown},
        describe=describe,
        prepare=program,
        make_trainer=make_trainer,
        summarize=summarize,
        show=show,
        result=result,
    )


def describe(config: MatmulConfig) -> str:
    """Returns what is trained, in a line."""
    game, selfplay = config.game, config.selfplay
    ring = "the integers" if game.ring == "Z" else "F2"
    parts = []
    if config.demonstration.pretraining_steps:
        parts.append(plural(config.demonstration.pretraining_steps, "weight update"))
    if selfplay.num_epochs:
        parts.append(
            f"at most {plural(selfplay.num_epochs, 'epoch')} of {plural(selfplay.episodes_per_epoch, 'game')}"
        )
    names = " and ".join(problem.name for problem in game.problems)
    what = f"matrix multiplication {names}" if game.formats else f"{names}, {game.problems[0].title},"
    return (
        f"{what} over {ring}: {', then '.join(parts) or 'nothing'}; preset {config.preset}, "
        f"seed {config.seed}, {config.demonstration.shown}"
    )


def show(outcome: session.TrainingResult[MatmulTrainer]) -> None:
    """Prints the best schemes."""
    from matrixrl.schemes.formulas import formulas

    for found in outcome.trainer.discoveries:
        if found.best is not None:
            directory = outcome.run.directory
            print(formulas(found.best))
            print(f"\npicture  {directory / f'{found.stem}.png'}\nscheme   {directory / found.scheme_file}")


def result(outcome: session.TrainingResult[MatmulTrainer]) -> dict[str, Any]:
    """Returns the schemes found as JSON values."""
    from matrixrl.training.parameters import params_sha256

    trainer = outcome.trainer
    of_formats = [_found(found) for found in trainer.discoveries]
    state: MatmulState = outcome.state
    return {
        # The results of a single format are at the top level.
        **(of_formats[0] if len(of_formats) == 1 else {}),
        "formats": {
            problem.name: values
            for problem, values in zip(trainer.config.game.problems, of_formats, strict=True)
        },
        "shown": trainer.config.demonstration.shown,
        "episodes": state.progress.episodes,
        "epochs": state.progress.epoch,
        "params_sha256": params_sha256(state.device.params),
    }


def _found(discoveries: Discoveries) -> dict[str, Any]:
    best, verdict = discoveries.best, discoveries.verdict
    return {
        "best_rank": best.rank if best else None,
        "scheme": discoveries.scheme_file if best else None,
        "ring": best.ring if best else None,
        "verified": best is not None,
        "verdict": verdict.message if verdict else None,
        "solutions": len(discoveries.solutions),
    }


def summary(
    config: MatmulConfig,
    number: int,
    discoveries: Discoveries,
    seconds: float,
    counting_seconds: float,
) -> str:
    """Returns the line that states the scheme found for a problem, by its number, and the
    demonstrations used.
    """
    shown = config.demonstration.shown
    name = config.game.problems[number].name
    best, verdict = discoveries.best, discoveries.verdict
    if best is None or verdict is None:
        moves = config.game.move_limits[number]
        return f"{name}: no game was solved within {moves} multiplications ({shown}, {duration(seconds)})"
    over = "the integers" if best.ring == "Z" else "F2"
    return (
        f"{name} in {best.rank} multiplications, verified over {over}, {shown}: "
        f"{verdict.message.partition(' ')[2]}; {duration(seconds)}, "
        f"{plural(discoveries.num_verified, 'scheme')} proved, "
        f"{discoveries.count_solutions(counting_seconds)}"
    )
