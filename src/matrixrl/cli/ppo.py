"""`matrixrl ppo train`: PPO on any environment."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.cli import named_code, session
from matrixrl.cli.processes import agreed_settings
from matrixrl.cli.resume import flag_value
from matrixrl.cli.settings import read_settings
from matrixrl.config.environment import EnvironmentRunConfig, require_environment, with_whole_path
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.identity import find_run
from matrixrl.tracking.numbers import duration, plural, significant
from matrixrl.tracking.status import Status, activity, use

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.tracking.spec import SystemSpec

BENCHMARK_CHUNKS = 3


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs the subcommand `name`."""
    del name
    return train(*agreed_settings(EnvironmentRunConfig, arguments, read_config))


def read_config(arguments: Sequence[str]) -> EnvironmentRunConfig:
    """Reads the settings from a command line: the defaults, or those of the run to resume,
    overridden by the flags.

    Raises:
      ConfigError: if a flag or a value is wrong, or code is named by nobody but the run.
    """
    config = with_whole_paths(
        read_settings(
            EnvironmentRunConfig,
            arguments,
            {"default": EnvironmentRunConfig},
            "default",
            system="ppo",
            description="Train an agent on any environment with the interface of gymnax 1.0 "
            "(docs/own_environment.md). The defaults solve CartPole-v1.",
        )
    )
    if {"-h", "--help"} & set(arguments):
        return config
    require_environment(config)
    if config.tracking.resume_run is not None:
        folder = find_run(config.tracking.runs_dir, config.tracking.resume_run, "ppo")
        named = {flag for flag in ("--env", "--network") if flag_value(arguments, flag) is not None}
        named_code.require_named(f"--resume-run {folder.name}", folder, config, named)
    return config


def with_whole_paths(config: EnvironmentRunConfig) -> EnvironmentRunConfig:
    """Returns the config with absolute paths, so that a run resumes in any folder."""
    own = config.network.network
    network = dataclasses.replace(config.network, network=None if own is None else with_whole_path(own))
    return dataclasses.replace(config, env=with_whole_path(config.env), network=network)


def train(config: EnvironmentRunConfig, coordinator: Coordinator = SINGLE) -> int:
    """Trains, and prints how the agent plays at the end. Returns the exit status."""
    if config.auto_tune and config.tracking.resume_run is None:
        config = tuned_shape(config)
    with contextlib.ExitStack() as resources:
        if not config.benchmark:
            return session.train(environment_session(config, coordinator, resources), coordinator)
        return measured(config, resources)


def measured(config: EnvironmentRunConfig, resources: contextlib.ExitStack) -> int:
    """Measures what tracking costs. Returns the exit status."""
    from matrixrl.cli.benchmark import benchmark_tracking

    updates = min(config.ppo.num_updates, BENCHMARK_CHUNKS * config.tracking.log_interval)
    ppo = dataclasses.replace(config.ppo, total_timesteps=updates * config.ppo.batch_size)
    config = dataclasses.replace(config, ppo=ppo, benchmark=False)
    return benchmark_tracking(environment_session(config, resources=resources))


def tuned_shape(config: EnvironmentRunConfig) -> EnvironmentRunConfig:
    """Returns the config with the batch shape that is quickest on this device, and prints what was
    measured.
    """
    with use(Status()) as status:
        status.line("auto-tune  measures batch shapes on this device, then trains with the quickest")
        with activity("starting JAX"):
            from matrixrl.devices.compilation_cache import use_compilation_cache
            from matrixrl.systems.ppo.batch_shape import best_shape
            from matrixrl.systems.ppo.environment import environment_task

            use_compilation_cache()
        num_envs, num_steps = best_shape(config, environment_task(config), status.line)
    ppo = dataclasses.replace(config.ppo, num_envs=num_envs, num_steps=num_steps)
    return dataclasses.replace(config, ppo=ppo, auto_tune=False)


def environment_session(
    config: EnvironmentRunConfig,
    coordinator: Coordinator = SINGLE,
    resources: contextlib.ExitStack | None = None,
) -> session.Session[EnvironmentRunConfig, PPOTrainer]:
    """Returns the session of the shared command; its trainers of one config share programs.

    Args:
      resources: ends the worker processes of the trainers.
    """
    compiled: dict[EnvironmentRunConfig, Any] = {}

    def program(config: EnvironmentRunConfig) -> Any:
        from matrixrl.systems.ppo.environment import environment_task
        from matrixrl.systems.ppo.programs import program_of

        if config not in compiled:
            # That of before a rollback differs in numbers alone: its environment stays.
            task = next(iter(compiled.values())).task if compiled else environment_task(config)
            compiled.clear()
            compiled[config] = program_of(config, task)
        return compiled[config]

    def make_trainer(config: EnvironmentRunConfig, run: Recorder) -> Any:
        from matrixrl.systems.ppo.agents_trainer import AgentsTrainer
        from matrixrl.systems.ppo.host_program import HostProgram
        from matrixrl.systems.ppo.host_trainer import HostTrainer
        from matrixrl.systems.ppo.trainer import PPOTrainer

        task = program(config).task
        if coordinator.is_leader:
            named_code.note(run.directory, config)
        if not getattr(task.env, "keeps_final_observations", True):
            run.warn(
                f"--env {config.env}: its info has no final_observation; an episode that is truncated is valued by the "
                "observation before its last step"
            )
        if config.is_many:
            return AgentsTrainer(program(config))
        if isinstance(program(config), HostProgram):
            trainer = HostTrainer(config, program(config), run.warn)
            if resources is not None:
                resources.callback(trainer.close)
            return trainer
        return PPOTrainer(config, program(config), coordinator)

    def make_spec(config: EnvironmentRunConfig) -> SystemSpec:
        from matrixrl.systems.ppo.environment import spec_of

        return spec_of(program(config).task, config.is_many)

    return session.Session(
        system="ppo",
        name_prefix=f"ppo-{config.short_name}",
        config=config,
        learning_rate="ppo.learning_rate",
        describe=describe,
        prepare=program,
        make_trainer=make_trainer,
        summarize=partial(summary, config),
        show=show,
        result=result,
        make_spec=make_spec,
    )


def describe(config: EnvironmentRunConfig) -> str:
    """Returns what is trained, in a line."""
    ppo = config.ppo
    count = config.num_seeds * prod(map(len, config.grid.values()))
    who = "an agent" if count == 1 else plural(count, "agent")
    return (
        f"{who} for {config.env}: {plural(ppo.num_updates * ppo.batch_size, 'step')} in {plural(ppo.num_updates, 'update')} "
        f"{'' if count == 1 else 'each '}of {ppo.num_envs:,} environments x {ppo.num_steps:,} steps; seed {config.seed}"
    )


def summary(config: EnvironmentRunConfig, trainer: PPOTrainer, state: PPOState, seconds: float) -> str:
    """Returns the line that summarises the progress of training."""
    progress = state.progress
    count = config.num_seeds * prod(map(len, config.grid.values()))
    parts = [
        f"{progress.recorded:,} of {plural(config.ppo.num_updates, 'update')}",
        plural(progress.recorded * config.ppo.batch_size * count, "step"),
        plural(progress.episodes, "episode"),
    ]
    if progress.mean_return is not None:
        parts.append(f"mean return {significant(progress.mean_return)} over the last chunk")
    if trainer.steps_per_second:  # unknown before the end of the first chunk
        parts.append(f"{significant(trainer.steps_per_second)} steps/s")
    return f"{', '.join(parts)}; {duration(seconds)}"


def folder_flag(folder: Path) -> str:
    """Returns the flag that finds a run in a folder; empty for the default one."""
    return "" if folder.parent.name == "runs" else f" --runs-dir {folder.parent}"


def show(outcome: session.TrainingResult[PPOTrainer]) -> None:
    """Prints commands that use the agent."""
    where = folder_flag(outcome.run.directory)
    print(
        f"evaluate it:\n  matrixrl ppo evaluate {outcome.run.name}{where}\n"
        f"watch it play:\n  matrixrl ppo watch {outcome.run.name}{where}"
    )


def result(outcome: session.TrainingResult[PPOTrainer]) -> dict[str, Any]:
    """Returns the progress of training as JSON values."""
    from matrixrl.training.parameters import params_sha256

    state: PPOState = outcome.state
    progress, config = state.progress, outcome.trainer.config
    assert isinstance(config, EnvironmentRunConfig)
    agents = {"agents": agents_result(outcome.trainer, progress)} if config.is_many else {}
    return {
        "update_step": progress.recorded,
        "total_timesteps": progress.recorded * config.ppo.batch_size * max(1, len(agents.get("agents", ()))),
        "steps_per_second": round(outcome.trainer.steps_per_second, 1),
        "params_sha256": params_sha256(state.device.params),
        "mean_return": progress.mean_return,
        "episodes": progress.episodes,
        **agents,
    }


def agents_result(trainer: Any, progress: Any) -> list[dict[str, Any]]:
    """Returns the settings and the final means of every agent as JSON values."""
    return [
        {
            "agent": agent.number,
            "seed": agent.seed,
            "settings": {name.removeprefix("ppo."): value for name, value in agent.values.items()},
            "mean_return": progress.mean_returns[agent.number],
            "diverged": progress.diverged[agent.number],
        }
        for agent in trainer.program.agents
    ]
