"""`matrixrl ppo train`: PPO on any environment."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from matrixrl.cli import named_code, ppo_sweep, ppo_training, session
from matrixrl.cli.embedding import shared_program
from matrixrl.cli.environment_names import names_of, require_names
from matrixrl.cli.processes import agreed_settings
from matrixrl.cli.resume import flag_value
from matrixrl.cli.settings import read_settings
from matrixrl.config import require
from matrixrl.config.environment import (
    EnvironmentRunConfig,
    names_gymnasium,
    require_environment,
    with_whole_path,
)
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.identity import find_run
from matrixrl.tracking.numbers import plural

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.ppo.task import PPOTask
    from matrixrl.systems.ppo.trainer import PPOState, PPOTrainer
    from matrixrl.tracking.recorder import Recorder
    from matrixrl.tracking.spec import SystemSpec


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
    if config.outer_grid:
        # A wrong name of a later run is found before the first one trains.
        require_names(named for _, one in config.each_run() for named in names_of(one))
        return ppo_sweep.train_sweep(config, train_of_sweep)
    with contextlib.ExitStack() as resources:
        make_session = partial(environment_session, resources=resources)
        return ppo_training.train(config, coordinator, make_session, make_task)


def train_of_sweep(
    config: EnvironmentRunConfig,
    about: Mapping[str, Any],
    on_result: Callable[[dict[str, Any]], None],
    seconds_left: float | None,
) -> int:
    """Trains a run of a sweep; its result goes to `on_result`. Returns the exit status.

    Args:
      seconds_left: of the sweep's `--time`; None without a limit.
    """
    with contextlib.ExitStack() as resources:
        one = environment_session(config, resources=resources)
        one = dataclasses.replace(
            one, about={**one.about, **about}, on_result=on_result, seconds_left=seconds_left
        )
        return session.train(one, SINGLE)


def make_task(config: EnvironmentRunConfig) -> PPOTask:
    """Returns the task of a config; imports JAX and the environment."""
    from matrixrl.systems.ppo.environment import environment_task

    return environment_task(config)


def environment_session(
    config: EnvironmentRunConfig,
    coordinator: Coordinator = SINGLE,
    resources: contextlib.ExitStack | None = None,
) -> session.Session[EnvironmentRunConfig, PPOTrainer]:
    """Returns the session of the shared command; its trainers of one config share programs.

    Args:
      resources: ends the worker processes of the trainers.
    """
    require(
        not config.outer_grid,
        f"--sweep {' '.join(config.sweep)}: trains several runs, one after the other; `matrixrl ppo train` does so",
    )
    compiled: dict[EnvironmentRunConfig, Any] = {}

    def program(config: EnvironmentRunConfig) -> Any:
        if config not in compiled:
            # That of before a rollback differs in numbers alone: its environment stays.
            task = next(iter(compiled.values())).task if compiled else None
            compiled.clear()
            compiled[config] = make_program(config, task)
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
        about=ppo_sweep.recorded_group(config),
        name_prefix=f"ppo-{config.short_name}",
        config=config,
        learning_rate="ppo.learning_rate",
        describe=describe,
        prepare=program,
        make_trainer=make_trainer,
        summarize=partial(summary, config),
        show=partial(ppo_training.show_commands, "ppo"),
        result=result,
        make_spec=make_spec,
    )


def make_program(config: EnvironmentRunConfig, task: PPOTask | None) -> Any:
    """Returns the compiled programs of a config.

    Args:
      task: that of former programs of the same run; None at the start.
    """
    from matrixrl.systems.ppo.programs import program_of

    if task is not None or names_gymnasium(config.env):
        return program_of(config, task or make_task(config))
    return shared_program(config, lambda: program_of(config, make_task(config)))


def num_agents(config: EnvironmentRunConfig) -> int:
    """Returns the number of agents that a run trains: every combination with every seed."""
    return config.num_seeds * prod(map(len, config.grid.values()))


def describe(config: EnvironmentRunConfig) -> str:
    """Returns what is trained, in a line."""
    ppo = config.ppo
    count = num_agents(config)
    who = "an agent" if count == 1 else plural(count, "agent")
    return (
        f"{who} for {config.env}: {plural(ppo.num_updates * ppo.batch_size, 'step')} in {plural(ppo.num_updates, 'update')} "
        f"{'' if count == 1 else 'each '}of {ppo.num_envs:,} environments x {ppo.num_steps:,} steps; seed {config.seed}"
    )


def summary(config: EnvironmentRunConfig, trainer: PPOTrainer, state: PPOState, seconds: float) -> str:
    """Returns the line that summarises the progress of training."""
    return ppo_training.progress_summary(config, trainer, state, seconds, agents=num_agents(config))


def result(outcome: session.TrainingResult[PPOTrainer]) -> dict[str, Any]:
    """Returns the progress of training as JSON values."""
    config = outcome.trainer.config
    assert isinstance(config, EnvironmentRunConfig)
    if not config.is_many:
        return {**ppo_training.progress_record(outcome), "seed": config.seed}
    agents = agents_result(outcome.trainer, outcome.state.progress)
    record = ppo_training.progress_record(outcome, agents=len(agents))
    return {**record, "seed": config.seed, "agents": agents}


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
