"""`matrixrl hackmatrix train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from matrixrl import presets
from matrixrl.cli import session
from matrixrl.cli.processes import agreed_settings
from matrixrl.cli.settings import read_settings
from matrixrl.config import HackmatrixConfig
from matrixrl.tracking.numbers import duration, plural, significant
from matrixrl.tracking.status import Status, activity, use

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.program import PPOProgram
    from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer, Progress
    from matrixrl.tracking.recorder import Recorder

BENCHMARK_CHUNKS = 3


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs the subcommand `name`."""
    del name
    return train(agreed_settings(HackmatrixConfig, arguments, read_config))


def read_config(arguments: Sequence[str]) -> HackmatrixConfig:
    """Reads the settings from a command line."""
    return read_settings(
        HackmatrixConfig,
        arguments,
        presets.HACKMATRIX,
        "default",
        system="hackmatrix",
        description="Train a masked PPO agent on HackMatrix. --checkpoint-dir is another name of --runs-dir.",
    )


def train(config: HackmatrixConfig) -> int:
    """Trains, and prints how the agent plays at the end. Returns the exit status."""
    if config.auto_tune and config.tracking.resume_run is None:
        config = tuned_shape(config)
    if not config.benchmark:
        return session.train(hackmatrix_session(config))
    from matrixrl.cli.benchmark import benchmark_tracking

    updates = min(config.ppo.num_updates, BENCHMARK_CHUNKS * config.tracking.log_interval)
    ppo = dataclasses.replace(config.ppo, total_timesteps=updates * config.ppo.batch_size)
    return benchmark_tracking(hackmatrix_session(dataclasses.replace(config, ppo=ppo, benchmark=False)))


def tuned_shape(config: HackmatrixConfig) -> HackmatrixConfig:
    """Returns the config with the batch shape that is quickest on this device, and prints what was
    measured.
    """
    with use(Status()) as status:
        status.line("auto-tune  measures batch shapes on this device, then trains with the quickest")
        with activity("starting JAX"):
            from matrixrl.devices.compilation_cache import use_compilation_cache
            from matrixrl.systems.hackmatrix.task import hackmatrix_task
            from matrixrl.systems.ppo.batch_shape import best_shape

            use_compilation_cache()
        num_envs, num_steps = best_shape(config, hackmatrix_task(config), status.line)
    ppo = dataclasses.replace(config.ppo, num_envs=num_envs, num_steps=num_steps)
    return dataclasses.replace(config, ppo=ppo, auto_tune=False)


def hackmatrix_session(config: HackmatrixConfig) -> session.Session[HackmatrixConfig, PPOTrainer]:
    """Returns the HackMatrix session of the shared command; its trainers of one config share their
    programs.
    """
    compiled: dict[HackmatrixConfig, PPOProgram] = {}

    def program(config: HackmatrixConfig) -> PPOProgram:
        from matrixrl.systems.hackmatrix.task import hackmatrix_task
        from matrixrl.systems.ppo.program import PPOProgram

        if config not in compiled:
            compiled.clear()  # that of before a rollback
            compiled[config] = PPOProgram(config, hackmatrix_task(config))
        return compiled[config]

    def make_trainer(config: HackmatrixConfig, run: Recorder) -> PPOTrainer:
        del run
        from matrixrl.systems.ppo.trainer import PPOTrainer

        return PPOTrainer(config, program(config))

    return session.Session(
        system="hackmatrix",
        name_prefix="hackmatrix-jax",
        config=config,
        learning_rate="ppo.learning_rate",
        versions={"environment_version": ENVIRONMENT_VERSION},
        describe=describe,
        prepare=program,
        make_trainer=make_trainer,
        summarize=partial(summary, config),
        show=show,
        result=result,
    )


def describe(config: HackmatrixConfig) -> str:
    """Returns what is trained, in a line."""
    ppo = config.ppo
    return (
        f"a HackMatrix agent: {plural(ppo.num_updates * ppo.batch_size, 'step')} in {plural(ppo.num_updates, 'update')} of "
        f"{ppo.num_envs:,} games x {ppo.num_steps:,} steps; preset {config.preset}, seed {config.seed}"
    )


ENVIRONMENT_VERSION = 0
"""Equal to `HackMatrix.version`, available without loading JAX; a test compares them."""


def summary(config: HackmatrixConfig, trainer: PPOTrainer, state: PPOState, seconds: float) -> str:
    """Returns the line that summarises the progress of training."""
    progress = state.progress
    steps = progress.recorded * config.ppo.batch_size
    parts = [
        f"{progress.recorded:,} of {plural(config.ppo.num_updates, 'update')}",
        plural(steps, "step"),
        plural(progress.episodes, "episode"),
    ]
    if progress.mean_return is not None:
        parts.append(
            f"mean return {significant(progress.mean_return)} over the last chunk, highest stage {highest_stage(progress)}"
        )
    if trainer.steps_per_second:  # unknown before the end of the first chunk
        parts.append(f"{significant(trainer.steps_per_second)} steps/s")
    return f"{', '.join(parts)}; {duration(seconds)}"


def highest_stage(progress: Progress) -> int:
    """Returns the highest stage that any episode reached; 0 before the first has ended."""
    return int(progress.maxima.get("highest_stage", 0))


def show(outcome: session.Outcome[PPOTrainer]) -> None:
    """Prints commands that use the agent."""
    where = (
        "" if outcome.run.directory.parent.name == "runs" else f" --runs-dir {outcome.run.directory.parent}"
    )
    print(
        f"evaluate it:\n  matrixrl hackmatrix evaluate {outcome.run.name}{where}\n"
        f"watch it play:\n  matrixrl hackmatrix watch {outcome.run.name}{where}"
    )


def result(outcome: session.Outcome[PPOTrainer]) -> dict[str, Any]:
    """Returns the progress of training as JSON values."""
    from matrixrl.training.parameters import params_sha256

    state: PPOState = outcome.state
    progress, config = state.progress, outcome.trainer.config
    return {
        "update_step": progress.recorded,
        "total_timesteps": progress.recorded * config.ppo.batch_size,
        "steps_per_second": round(outcome.trainer.steps_per_second, 1),
        "params_sha256": params_sha256(state.device.params),
        "mean_return": progress.mean_return,
        "highest_stage": highest_stage(progress),
        "episodes": progress.episodes,
    }
