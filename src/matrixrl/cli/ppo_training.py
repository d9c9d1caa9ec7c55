"""What the training commands of PPO share: HackMatrix is one environment of the PPO system."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from matrixrl.cli import session
from matrixrl.config import HackmatrixConfig, PPOTrainerConfig
from matrixrl.config.environment import EnvironmentRunConfig
from matrixrl.devices.coordinator import Coordinator
from matrixrl.tracking.identity import runs_dir_flag
from matrixrl.tracking.numbers import duration, plural, significant
from matrixrl.tracking.status import Status, activity, use

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.task import PPOTask
    from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer

BENCHMARK_CHUNKS = 3
"""Number of chunks that `--benchmark` trains, at most."""

ConfigT = TypeVar("ConfigT", HackmatrixConfig, EnvironmentRunConfig)


def train(
    config: ConfigT,
    coordinator: Coordinator,
    make_session: Callable[[ConfigT, Coordinator], session.Session[Any, Any]],
    make_task: Callable[[ConfigT], PPOTask],
) -> int:
    """Trains, or measures the cost of tracking (`--benchmark`). Returns the exit status.

    Args:
      config: the run's settings.
      coordinator: of the processes that train the run.
      make_session: returns the session of a config.
      make_task: returns the task of a config, for `--auto-tune`.
    """
    if config.auto_tune and config.tracking.resume_run is None:
        config = tuned_shape(config, make_task)
    if not config.benchmark:
        return session.train(make_session(config, coordinator), coordinator)
    from matrixrl.cli.benchmark import benchmark_tracking

    updates = min(config.ppo.num_updates, BENCHMARK_CHUNKS * config.tracking.log_interval)
    ppo = dataclasses.replace(config.ppo, total_timesteps=updates * config.ppo.batch_size)
    return benchmark_tracking(
        make_session(dataclasses.replace(config, ppo=ppo, benchmark=False), coordinator)
    )


def tuned_shape(config: ConfigT, make_task: Callable[[ConfigT], PPOTask]) -> ConfigT:
    """Returns the config with the batch shape that is quickest on this device, and prints the
    measurements.
    """
    with use(Status()) as status:
        status.line("auto-tune  measures batch shapes on this device, then trains with the quickest")
        with activity("starting JAX"):
            from matrixrl.devices.compilation_cache import use_compilation_cache
            from matrixrl.systems.ppo.batch_shape import best_shape

            use_compilation_cache()
        task = make_task(config)
        num_envs, num_steps = best_shape(config, task, status.line)
    ppo = dataclasses.replace(config.ppo, num_envs=num_envs, num_steps=num_steps)
    return dataclasses.replace(config, ppo=ppo, auto_tune=False)


def progress_summary(
    config: PPOTrainerConfig,
    trainer: PPOTrainer,
    state: PPOState,
    seconds: float,
    *,
    agents: int = 1,
    after_return: str = "",
) -> str:
    """Returns the line that summarises the progress of training.

    Args:
      config: the run's settings.
      trainer: has measured the speed.
      state: the last state.
      seconds: duration of the training.
      agents: number of agents that train at once.
      after_return: text behind the mean return, such as the highest stage.
    """
    progress = state.progress
    parts = [
        f"{progress.recorded:,} of {plural(config.ppo.num_updates, 'update')}",
        plural(progress.recorded * config.ppo.batch_size * agents, "step"),
        plural(progress.episodes, "episode"),
    ]
    if progress.mean_return is not None:
        parts.append(f"mean return {significant(progress.mean_return)} over the last chunk{after_return}")
    if trainer.steps_per_second:  # unknown before the end of the first chunk
        parts.append(f"{significant(trainer.steps_per_second)} steps/s")
    return f"{', '.join(parts)}; {duration(seconds)}"


def progress_record(outcome: session.TrainingResult[PPOTrainer], *, agents: int = 1) -> dict[str, Any]:
    """Returns the progress of training as JSON values; `agents` is the number of agents trained."""
    from matrixrl.training.parameters import params_sha256

    state: PPOState = outcome.state
    progress = state.progress
    return {
        "update_step": progress.recorded,
        "total_timesteps": progress.recorded * outcome.trainer.config.ppo.batch_size * agents,
        "steps_per_second": round(outcome.trainer.steps_per_second, 1),
        "params_sha256": params_sha256(state.device.params),
        "mean_return": progress.mean_return,
        "episodes": progress.episodes,
    }


def show_commands(system: str, outcome: session.TrainingResult[PPOTrainer]) -> None:
    """Prints commands that use the agent."""
    rest = [outcome.run.name, *runs_dir_flag(outcome.run.directory.parent)]
    evaluate, watch = (shlex.join(["matrixrl", system, word, *rest]) for word in ("evaluate", "watch"))
    print(f"evaluate it:\n  {evaluate}\nwatch it play:\n  {watch}")
