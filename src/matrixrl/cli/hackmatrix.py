"""`matrixrl hackmatrix train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from matrixrl import presets
from matrixrl.cli import hackmatrix_start, ppo_training, session
from matrixrl.cli.embedding import shared_program
from matrixrl.cli.processes import agreed_settings
from matrixrl.cli.resume import flag_value
from matrixrl.cli.settings import read_settings
from matrixrl.config import HackmatrixConfig
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.numbers import plural

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.program import PPOProgram
    from matrixrl.systems.ppo.task import PPOTask
    from matrixrl.systems.ppo.trainer import PPOProgress, PPOState, PPOTrainer
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.tracking.spec import SystemSpec


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs the subcommand `name`."""
    del name
    return train(*agreed_settings(HackmatrixConfig, arguments, read_config))


def read_config(arguments: Sequence[str]) -> HackmatrixConfig:
    """Reads the settings from a command line."""
    config = read_settings(
        HackmatrixConfig,
        arguments,
        presets.HACKMATRIX,
        "default",
        system="hackmatrix",
        description="Train an agent on HackMatrix, with masked PPO or AlphaZero. --checkpoint-dir is another name of "
        "--runs-dir.",
        adapt=adapted,
    )
    return hackmatrix_start.checked(config)


def adapted(
    preset: HackmatrixConfig, arguments: Sequence[str], values: Mapping[str, Any]
) -> HackmatrixConfig:
    """Returns the preset of a new run with what its algorithm, and the agent that it starts from,
    imply.

    Args:
      preset: settings before the command line and the settings file.
      arguments: the command line.
      values: of the settings file, by dotted name.

    Raises:
      ConfigError: if there is no such agent.
    """
    algorithm = flag_value(arguments, "--algorithm") or values.get("algorithm")
    if algorithm == "alphazero" and preset.algorithm != algorithm:
        own = presets.hackmatrix_alphazero()
        if flag_value(arguments, "--preset") is None and "preset" not in values:
            preset = own
        else:
            preset = dataclasses.replace(
                own, preset=preset.preset, network=preset.network, starts=preset.starts
            )
    return hackmatrix_start.adapted(preset, arguments, values)


def train(config: HackmatrixConfig, coordinator: Coordinator = SINGLE) -> int:
    """Trains, and prints how the agent plays at the end. Returns the exit status."""
    return ppo_training.train(config, coordinator, hackmatrix_session, make_task)


def make_task(config: HackmatrixConfig) -> PPOTask:
    """Returns the task of a config; imports JAX."""
    from matrixrl.systems.hackmatrix.task import hackmatrix_task

    return hackmatrix_task(config)


def make_program(config: HackmatrixConfig) -> PPOProgram:
    """Returns the compiled programs of a config; imports JAX."""
    from matrixrl.systems.ppo.program import PPOProgram

    if config.algorithm == "ppo":
        return PPOProgram(config, make_task(config))
    from matrixrl.systems.hackmatrix.alphazero import AlphaZeroProgram

    return AlphaZeroProgram(config, make_task(config))


def hackmatrix_session(
    config: HackmatrixConfig, coordinator: Coordinator = SINGLE
) -> session.Session[HackmatrixConfig, PPOTrainer]:
    """Returns the HackMatrix session of the shared command; its trainers of one config share their
    programs.
    """
    compiled: dict[HackmatrixConfig, PPOProgram] = {}

    def program(config: HackmatrixConfig) -> PPOProgram:
        if config not in compiled:
            compiled.clear()  # that of before a rollback
            compiled[config] = shared_program(config, lambda: make_program(config))
        return compiled[config]

    start = hackmatrix_start.StartAgent(coordinator)

    def prepare(config: HackmatrixConfig) -> PPOProgram:
        start.prepare(config)
        return program(config)

    def make_trainer(config: HackmatrixConfig, run: Recorder) -> PPOTrainer:
        from matrixrl.systems.ppo.trainer import PPOTrainer

        return PPOTrainer(config, program(config), coordinator, start.params_for(config, run))

    return session.Session(
        system="hackmatrix",
        name_prefix="hackmatrix-jax",
        config=config,
        learning_rate="ppo.learning_rate",
        versions={"environment_version": ENVIRONMENT_VERSION},
        describe=describe,
        prepare=prepare,
        make_trainer=make_trainer,
        make_spec=make_spec,
        summarize=partial(summary, config),
        show=partial(ppo_training.show_commands, "hackmatrix"),
        result=result,
        saves_start=config.start_from is not None,
    )


def make_spec(config: HackmatrixConfig) -> SystemSpec:
    """Returns the spec of a run, which depends on its algorithm and its starts."""
    from matrixrl.systems.hackmatrix.spec import ALPHAZERO_SPEC, SPEC, with_starts

    spec = ALPHAZERO_SPEC if config.algorithm == "alphazero" else SPEC
    return with_starts(spec, config.starts.later_starts > 0, config.starts.equipped_starts > 0)


def describe(config: HackmatrixConfig) -> str:
    """Returns what is trained, in a line."""
    ppo = config.ppo
    search = ""
    if config.algorithm == "alphazero":
        search = f", {plural(config.alphazero.num_simulations, 'simulation')} per step"
    return (
        f"a HackMatrix agent: {plural(ppo.num_updates * ppo.batch_size, 'step')} in {plural(ppo.num_updates, 'update')} of "
        f"{ppo.num_envs:,} games x {ppo.num_steps:,} steps{search}; preset {config.preset}, seed {config.seed}"
    )


ENVIRONMENT_VERSION = 0
"""Equal to `HackMatrix.version`, available without loading JAX; a test compares them."""


def summary(config: HackmatrixConfig, trainer: PPOTrainer, state: PPOState, seconds: float) -> str:
    """Returns the line that summarises the progress of training."""
    stage = f", highest stage {highest_stage(state.progress)}"
    return ppo_training.progress_summary(config, trainer, state, seconds, after_return=stage)


def highest_stage(progress: PPOProgress) -> int:
    """Returns the highest stage that any episode reached; 0 before the first has ended."""
    return int(progress.maxima.get("highest_stage", 0))


def result(outcome: session.TrainingResult[PPOTrainer]) -> dict[str, Any]:
    """Returns the progress of training as JSON values."""
    stage = highest_stage(outcome.state.progress)
    return {**ppo_training.progress_record(outcome), "highest_stage": stage}
